"""The credit horizon of an arm, and the shortest memory that a sweep of memory lengths finds sufficient."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import Contrast, contrast
from memexp.pattern import ATTENTION

ENOUGH = 0.95  # The shortest sufficient memory keeps this share of the effect


class SweepCause(Enum):
    NO_MEMORYLESS_ARM = "no arm without memory to measure the effect from"
    NO_EFFECT = "no length of memory has a significant effect"
    FOUND = "the shortest {knob} with {enough} of the effect is {estimate} (at least {at_least}, {sure})"


@dataclass(frozen=True)
class Sweep:
    """Arms that differ only in one memory length, by ascending length."""

    knob: str
    """'mem_len' or 'trainer.horizon'."""
    pattern: str
    arms: list[str]
    values: list[int]
    cause: SweepCause
    effects: list[float] | None = None
    """Mean final returns above the memoryless arms', share of the scale."""
    estimate: int | None = None
    """The shortest that keeps 95 % of the best arm's effect."""
    at_least: int | None = None
    """The shortest that is not surely insufficient."""
    at_most: int | None = None
    """The shortest that is surely sufficient."""


def credit_horizon(arm: Arm) -> int | None:
    """Agent steps between two events that training can connect; None where the config does not tell.

    A recurrent state gets its gradient within a segment: the horizon. Attention alone looks back `mem_len` steps a
    layer. Beyond its own window it needs gradients through other layers, so the limit is `mem_len` plus the horizon.
    A cell of one's own is assumed to be a recurrent state.
    """
    horizon, layers = _get(arm, "trainer", "horizon"), _get(arm, "cortex", "num_layers")
    if not arm.remembers:
        return 0
    if not arm.attends_only:
        return horizon
    if layers is None or (window := arm.info.mem_len) is None:
        return None
    return window * layers if horizon is None else min(window * layers, window + horizon)


def horizon_knob(arm: Arm) -> str:
    """The setting that makes the credit horizon of the arm longer."""
    return "mem_len" if arm.attends_only else "trainer.horizon"


KNOBS: dict[str, Callable[[Arm], int | None]] = {
    "mem_len": lambda arm: arm.info.mem_len if arm.tokens & ATTENTION else None,
    "trainer.horizon": lambda arm: _get(arm, "trainer", "horizon"),
}


def find_sweeps(environment: Environment, scale: Scale | None) -> list[Sweep]:
    """Sweeps of `mem_len` and of `trainer.horizon`: arms that differ in it, and in nothing else that is known."""
    if scale is None:
        return []
    arms = [arm for arm in environment.arms.values() if arm.consistent is not False and len(arm.seeds) >= MIN_SEEDS]
    found: list[Sweep] = []
    for knob, value in KNOBS.items():
        groups: dict[Any, list[Arm]] = defaultdict(list)
        for arm in arms:
            others = [other(arm) for name, other in KNOBS.items() if name != knob]
            if arm.info.memory == "on" and value(arm) is not None:
                groups[(str(arm.info.pattern), *others, _rest(arm))].append(arm)
        for members in groups.values():
            if sum(arm.remembers for arm in members) > 1 and len({value(arm) for arm in members}) == len(members):
                members.sort(key=lambda arm: value(arm) or 0)
                found.append(_sweep(environment, scale, knob, members, [value(arm) or 0 for arm in members]))
    return found


def _sweep(environment: Environment, scale: Scale, knob: str, members: list[Arm], values: list[int]) -> Sweep:
    """`members` by ascending memory. Effects are means above the different memoryless arms of the sweep."""
    names = [arm.name for arm in members]
    twins = [twin for name in names for twin in environment.twins(name)]
    base_arms = [a for a in (*twins, *members) if not a.remembers and a.seeds and a.consistent is not False]
    found = Sweep(knob, str(members[0].info.pattern), names, values, SweepCause.NO_MEMORYLESS_ARM)
    if not base_arms:
        return found
    # Twins that differ only in mem_len are one network with the same runs. These count once.
    base = np.concatenate(list({arm.finals.tobytes(): arm.finals for arm in base_arms}.values()))
    best = max(members, key=lambda arm: arm.finals.mean())
    effects = [float(arm.finals.mean() - base.mean()) / scale.span for arm in members]
    alpha = level(min(len(arm.seeds) for arm in members), len(members))
    if contrast((1.0, best.finals), (-1.0, base)).p_above() > alpha:
        return replace(found, cause=SweepCause.NO_EFFECT, effects=effects)
    kept = [_kept(arm, best.finals, base) for arm in members]
    sure = [max(_kept(arm, other.finals, base).p_above() for other in members if other is not arm) for arm in members]
    return replace(
        found,
        cause=SweepCause.FOUND,
        effects=effects,
        estimate=next(v for v, share in zip(values, kept, strict=True) if share.estimate >= 0),
        at_least=next(v for v, share in zip(values, kept, strict=True) if share.p_below() > alpha),
        at_most=next((v for v, p in zip(values, sure, strict=True) if p <= alpha), None),
    )


def _kept(arm: Arm, best: np.ndarray, base: np.ndarray) -> Contrast:
    """The arm's effect minus 95 % of the effect of the seeds `best`: above 0 where the arm keeps as much."""
    if arm.finals is best:
        return contrast((1 - ENOUGH, best), (ENOUGH - 1, base))
    return contrast((1.0, arm.finals), (-ENOUGH, best), (ENOUGH - 1, base))


def _rest(arm: Arm) -> str:
    """The settings of network and trainer other than the two memory lengths."""
    groups = [arm.config.get(group) or {} for group in ("cortex", "trainer")]
    return str([sorted((k, str(v)) for k, v in one.items() if k not in ("mem_len", "horizon")) for one in groups])


def _get(arm: Arm, group: str, key: str) -> int | None:
    """An integer of the arm's config."""
    value = (arm.config.get(group) or {}).get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
