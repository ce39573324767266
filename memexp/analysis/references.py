"""A known top where no ceiling is stated: the best arm of the partner, an environment that shows everything."""

from collections.abc import Mapping

import numpy as np

from memexp.analysis.convergence import rises
from memexp.analysis.pairs import SMALLEST_EFFECT
from memexp.analysis.scale import Scale, best_arm
from memexp.analysis.seeds import Environment, Reference
from memexp.analysis.statistics import iqm


def find_references(environments: Mapping[str, Environment]) -> None:
    """Give every environment without a ceiling the best arm of its partner, or a note why not, and what could serve."""
    for name, environment in environments.items():
        if environment.ceiling is not None:
            continue
        if environment.partner is not None:
            found = _reference(environment, environments.get(environment.partner))
            if isinstance(found, Reference):
                environment.reference = found
            else:
                environment.notes.append(f"partner {environment.partner} is no top of the scale: {found}")
        own = best_arm(environment)
        others = {other: best for other, one in environments.items() if other != name and (best := best_arm(one))}
        environment.offers = [
            f"partner: {other} (its best arm {best.name} ends at {float(iqm(best.finals)):.4g})"
            for other, best in others.items()
            if other != environment.partner
            and environments[other].partner != name
            and (own is None or iqm(best.finals) > iqm(own.finals))
        ]
        if environment.oracle is not None:
            environment.offers = [
                f"solved_return: {environment.oracle:.4g} (scripted, full sight)",
                *environment.offers,
            ]


def _reference(environment: Environment, partner: Environment | None) -> Reference | str:
    """The partner's best arm, or why it is no known top."""
    if partner is None:
        return "it has no runs"
    best, random = best_arm(partner), environment.random_mean
    if best is None or partner.random_level is None or random is None:
        return "none of its arms beats the random policy"
    if rises(best, Scale(partner.random_level, best.finals, best.name)):
        return f"its best arm {best.name} still rises"
    span = float(best.finals.mean()) - random
    if span <= 0:
        return f"its best arm {best.name} ends no higher than the random policy here"
    own = best_arm(environment)
    if own is not None and float(iqm(own.finals) - np.mean(best.finals)) > SMALLEST_EFFECT * span:
        return f"{own.name} ends at {float(iqm(own.finals)):.4g} here, above its best arm {best.name}"
    return Reference(f"{best.name} in {partner.name}", best.finals)
