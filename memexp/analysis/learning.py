"""Did an arm learn? Its final returns against the random policy's measured return, seeds as the unit."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from memexp.analysis.convergence import projected_changes
from memexp.analysis.load import FINAL_SHARE, Arm, Environment, Seed
from memexp.analysis.looks import MIN_SEEDS, level
from memexp.analysis.scale import Scale, random_level
from memexp.analysis.statistics import Contrast, contrast, t_quantile

SMALLEST_GAIN = 0.05
"""Share of the scale below which a gain over the random policy is not called learning."""
SOLVING_SEEDS = 2
"""So many seeds that solve are learning, however far the others are behind: no mean tells that of a split arm."""
CLAIMS = 2
"""An arm can be claimed to have learned, or not to have: both share the error."""
UNIFORM = 0.99
"""A policy whose entropy is at least this share of ln(actions) still is the random policy."""
POWER = 0.8

State = Literal["learned", "not_learned", "too_early", "undecided"]


@dataclass(frozen=True)
class Learning:
    verdict: Literal["learned", "not_learned", "undecided"]
    reason: str
    state: State
    """As the verdict, but where that is undecided and returns are known: too early to tell."""
    gain: dict[str, Any] | None = None
    p_value: float | None = None
    detectable: float | None = None
    """Smallest gain (share of the scale) that as many seeds with this spread show in 80 % of cases."""
    trend: dict[str, Any] | None = None
    entropy: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def learning(arm: Arm, environment: Environment, scale: Scale | None) -> Learning:
    """learned: significantly above random, by at least 5 % of the scale, or two seeds that solve. not_learned: surely
    less than that and not rising, or every run's policy still uniform. Anything else is undecided: too early to tell.

    With neither a ceiling nor an arm above random there is no scale, and not_learned means: the upper end of the
    gain's interval is not above zero.
    """
    entropy = entropy_of(arm)
    chance = f" {_at_chance(entropy)}." if entropy and entropy["share"] >= UNIFORM else ""
    if not arm.seeds:
        return Learning("undecided", "no finished run", "undecided", entropy=entropy)
    random = random_level(environment)
    if random is None:
        why = "the random policy's return was not measured (random_return in run.json)"
        return Learning("undecided", why, "undecided", entropy=entropy)
    gain = contrast((1.0, arm.finals), (-1.0, random))
    rise = contrast((1.0, projected_changes(arm)))
    n, span = len(arm.seeds), scale.span if scale else None
    floor = SMALLEST_GAIN * span if span else 0.0
    alpha = level(n, CLAIMS)
    facts: dict[str, Any] = {
        "gain": {
            "estimate": gain.estimate,
            "ci": list(gain.interval()),
            "normalized": gain.estimate / span if span else None,
        },
        "p_value": gain.p_above() if n > 1 else None,
        "detectable": _detectable(gain, alpha) / span if span else None,
        "trend": {"estimate": rise.estimate, "ci": list(rise.interval())},
        "entropy": entropy,
    }
    text = f"gain over the random policy {gain.estimate:+.3g}"
    if n < MIN_SEEDS:
        return _of_few(n, text, chance, gain.estimate <= floor, facts)
    low, high = gain.interval(0.90)
    text += f" (90 % interval {low:+.3g} to {high:+.3g}, one-sided p {_p(gain.p_above())})"
    if gain.p_above() <= alpha and gain.estimate >= floor:
        return Learning("learned", text, "learned", **facts)
    solving = int((arm.finals >= scale.solved).sum()) if scale and scale.source != arm.name else 0
    if solving >= SOLVING_SEEDS:
        why = f"{solving} of {n} seeds solve it, which the random policy does not; {text}"
        return Learning("learned", why, "learned", **facts)
    below = gain.p_below(floor) <= alpha if scale else high <= 0
    if below and rise.p_above() <= alpha and rise.estimate > floor:
        return Learning("undecided", f"{text}, but still rising: too early to tell", "too_early", **facts)
    if below:
        return Learning("not_learned", f"{text}: nothing learned at this budget.{chance}", "not_learned", **facts)
    if scale is None:
        why = f"{text}; no ceiling and no arm above random say how much a gain is worth.{chance}"
        return Learning("undecided", why, "too_early", **facts)
    why = f"{text}: at least {floor:.3g} would count as learning"
    if facts["detectable"] is not None and math.isfinite(facts["detectable"]):
        why += f", and these seeds show no gain below {facts['detectable'] * (span or 0.0):.2g} reliably"
    return Learning("undecided", f"{why}.{chance}", "too_early", **facts)


def entropy_of(arm: Arm) -> dict[str, Any] | None:
    """Policy entropy over the first and last tenth of the steps, nats, means over seeds; share of ln(actions) at the
    end, of the seed where it is lowest. None where it was not logged."""
    seeds = [seed for seed in (*arm.seeds, *arm.partial) if np.isfinite(seed.entropy).any()]
    actions = arm.info.num_actions
    if not seeds or not actions or actions < 2:
        return None
    starts, ends = zip(*(_ends(seed) for seed in seeds), strict=True)
    chance = math.log(actions)
    return {
        "start": float(np.mean(starts)),
        "end": float(np.mean(ends)),
        "chance": chance,
        "share": min(ends) / chance,
    }


def _ends(seed: Seed) -> tuple[float, float]:
    known = np.isfinite(seed.entropy)
    steps, entropy = seed.agent_steps[known], seed.entropy[known]
    first, last = steps <= steps[0] + FINAL_SHARE * steps[-1], steps >= (1 - FINAL_SHARE) * steps[-1]
    return float(entropy[first].mean()), float(entropy[last].mean())


def _of_few(n: int, text: str, chance: str, flat: bool, facts: dict[str, Any]) -> Learning:
    """Too few seeds for a test: only a policy that still is the random policy tells something of itself."""
    seeds = f"{n} {'seed' if n == 1 else 'seeds'}"
    if flat and chance:
        why = f"{text}: nothing learned at this budget.{chance} {seeds} cannot tell whether others would learn"
        return Learning("not_learned", why, "not_learned", **facts)
    why = f"{text}, but {seeds} can show neither learning nor its absence: {MIN_SEEDS} are the least, 5 the default"
    return Learning("undecided", why, "too_early", **facts)


def _detectable(gain: Contrast, alpha: float) -> float:
    """The gain found with 80 % power at this spread: both quantiles of t times the standard error."""
    if alpha == 0 or not math.isfinite(gain.se):
        return math.nan
    return (t_quantile(1 - alpha, gain.df) + t_quantile(POWER, gain.df)) * gain.se


def _at_chance(entropy: dict[str, Any]) -> str:
    return (
        f"The policy is as random as at the start: entropy {entropy['start']:.3f} -> {entropy['end']:.3f}, "
        f"{entropy['share']:.1%} of ln(actions) = {entropy['chance']:.3f}"
    )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
