"""How far back training could connect, and the shortest memory that a sweep of memory lengths finds sufficient."""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import Contrast, contrast

ENOUGH = 0.95
"""Share of the effect of memory that the shortest sufficient memory keeps."""


def reach(arm: Arm) -> int | None:
    """Agent steps between two events that the arm could learn to connect; None where the config does not tell.

    A recurrent state gets its gradient within a segment: the horizon. Attention alone reaches `mem_len` steps a layer;
    across layers only with gradient, hence no further than the horizon and the carried window together.
    """
    config = _config(arm)
    horizon, layers = _get(config, "trainer", "horizon"), _get(config, "cortex", "num_layers")
    if not arm.remembers:
        return 0
    if not _attends_only(arm):
        return horizon
    if layers is None:
        return None
    return arm.info.mem_len * layers if horizon is None else min(arm.info.mem_len * layers, arm.info.mem_len + horizon)


def shortest_memory(environment: Environment, scale: Scale | None) -> list[dict[str, Any]]:
    """One entry a sweep: arms that differ in `mem_len`, or in `trainer.horizon`, and in nothing else that is known."""
    if scale is None:
        return []
    arms = [arm for arm in environment.arms.values() if arm.consistent is not False and len(arm.seeds) >= MIN_SEEDS]
    knobs: dict[str, Callable[[Arm], int | None]] = {
        "mem_len": lambda arm: arm.info.mem_len if _attends(arm) else None,
        "trainer.horizon": lambda arm: _get(_config(arm), "trainer", "horizon"),
    }
    found = []
    for knob, value in knobs.items():
        groups: dict[Any, list[Arm]] = defaultdict(list)
        for arm in arms:
            others = [other(arm) for name, other in knobs.items() if name != knob]
            if arm.info.memory == "on" and value(arm) is not None:
                groups[(str(arm.info.pattern), *others, _rest(arm))].append(arm)
        for members in groups.values():
            if sum(arm.remembers for arm in members) > 1 and len({value(arm) for arm in members}) == len(members):
                members.sort(key=lambda arm: value(arm) or 0)
                found.append(_sweep(environment, scale, knob, members, [value(arm) or 0 for arm in members]))
    return found


def _sweep(environment: Environment, scale: Scale, knob: str, members: list[Arm], values: list[int]) -> dict[str, Any]:
    """`members` by ascending memory. Effects are means above the different memoryless arms' of the sweep."""
    names = {arm.name for arm in members}
    twins = [environment.arms[f"{name}~"] for name in names if f"{name}~" in environment.arms]
    base_arms = [a for a in (*twins, *members) if not a.remembers and a.seeds and a.consistent is not False]
    entry: dict[str, Any] = {"knob": knob, "pattern": str(members[0].info.pattern), "arms": [a.name for a in members]}
    entry |= {"values": values, "effects": None, "estimate": None, "at_least": None, "at_most": None}
    if not base_arms:
        return {**entry, "reason": "no memoryless arm to measure the effect from"}
    # Twins that differ in mem_len alone are one network: the same runs, which count once.
    base = np.concatenate(list({arm.finals.tobytes(): arm.finals for arm in base_arms}.values()))
    best = max(members, key=lambda arm: arm.finals.mean())
    entry["effects"] = [float(arm.finals.mean() - base.mean()) / scale.span for arm in members]
    alpha = level(min(len(arm.seeds) for arm in members), len(members))
    if contrast((1.0, best.finals), (-1.0, base)).p_above() > alpha:
        return {**entry, "reason": "no length of memory has a significant effect"}
    kept = [_kept(arm, best.finals, base) for arm in members]
    entry["estimate"] = next(v for v, share in zip(values, kept, strict=True) if share.estimate >= 0)
    sure = [max(_kept(arm, other.finals, base).p_above() for other in members if other is not arm) for arm in members]
    entry["at_most"] = next((v for v, p in zip(values, sure, strict=True) if p <= alpha), None)
    entry["at_least"] = next(v for v, share in zip(values, kept, strict=True) if share.p_below() > alpha)
    return {**entry, "reason": _words(knob, entry)}


def _kept(arm: Arm, best: np.ndarray, base: np.ndarray) -> Contrast:
    """The arm's effect less 95 % of that of the seeds `best`: above 0 where the arm keeps as much."""
    if arm.finals is best:
        return contrast((1 - ENOUGH, best), (ENOUGH - 1, base))
    return contrast((1.0, arm.finals), (-ENOUGH, best), (ENOUGH - 1, base))


def _words(knob: str, entry: dict[str, Any]) -> str:
    bound = f"at most {entry['at_most']}" if entry["at_most"] is not None else "no tested length is surely enough"
    return (
        f"the shortest {knob} with {ENOUGH:.0%} of the effect is {entry['estimate']} "
        f"(at least {entry['at_least']}, {bound})"
    )


def _attends(arm: Arm) -> bool:
    return "X" in str(arm.info.pattern)


def _attends_only(arm: Arm) -> bool:
    columns = [arm.info.pattern] if isinstance(arm.info.pattern, str) else arm.info.pattern
    return all(re.fullmatch(r"[X^, ]+", column) for column in columns)


def _rest(arm: Arm) -> str:
    """Everything else about network and trainer."""
    groups = (_config(arm).get(group) or {} for group in ("cortex", "trainer"))
    return str(
        [sorted((key, str(value)) for key, value in g.items() if key not in ("mem_len", "horizon")) for g in groups]
    )


def _config(arm: Arm) -> dict[str, Any]:
    return arm.seeds[0].config if arm.seeds else {}


def _get(config: dict[str, Any], group: str, key: str) -> int | None:
    section = config.get(group)
    value = section.get(key) if isinstance(section, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
