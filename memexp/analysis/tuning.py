"""The settings that were tried for each arm, what they brought, and how much the effect of memory depends on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import numpy as np

from memexp.analysis.formatting import hours_text, joined, number
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Arm, Environment, Seed
from memexp.config import value_at
from memexp.formatting import counted, short_count
from memexp.runs.trials import best_first

RATE = "trainer.learning_rate"


@dataclass(frozen=True, eq=False)
class Tried:
    """One setting of an arm."""

    values: dict[str, Any]
    """Dotted key -> value."""
    finals: list[float | None]
    """Final return of each run; None where it is not completed, or no episode ended."""
    agent_steps: int
    """Of one run."""

    @property
    def known(self) -> np.ndarray:
        """The final returns that are known."""
        return np.array([one for one in self.finals if one is not None])

    @property
    def mean(self) -> float:
        """Mean of the final returns; -inf without one."""
        return float(self.known.mean()) if len(self.known) else -math.inf

    @property
    def text(self) -> str:
        """'learning_rate 0.003, gamma 0.9'."""
        return ", ".join(f"{_short(key)} {_plain(value)}" for key, value in self.values.items())


@dataclass(frozen=True)
class Trials:
    """The settings of one arm, in the order of their values."""

    arm: str
    kind: str
    """tune or sensitivity."""
    tried: list[Tried]
    judged: dict[str, Any]
    """The setting of the arm's judged runs."""

    @property
    def top(self) -> Tried | None:
        """The setting that a launch would judge now: the best in the last rung. None while that is not known."""
        most = max(one.agent_steps for one in self.tried)
        ranked = best_first([(one.values, one.finals) for one in self.tried if one.agent_steps == most], self.judged)
        return next((one for one in self.tried if ranked and one.values == ranked[0][0]), None)

    @property
    def best(self) -> Tried:
        """The setting that was judged if it was tried, else the best."""
        judged = next((one for one in self.tried if one.values == self.judged), None)
        return judged or self.top or max(self.tried, key=lambda one: one.mean)

    @property
    def edges(self) -> list[str]:
        """'the best learning_rate, 0.003, is the largest tried', for each number at the end of those tried."""
        found: list[str] = []
        for key, value in self.best.values.items():
            known = [one.values.get(key) for one in self.tried]
            numbers = [cast(float, one) for one in known if _is_number(one)]
            if len(numbers) == len(known) and len(set(numbers)) > 1 and value in (min(numbers), max(numbers)):
                end = "smallest" if value == min(numbers) else "largest"
                found.append(f"the best {_short(key)}, {_plain(value)}, is the {end} tried")
        return found


def trials_of(environment: Environment) -> list[Trials]:
    """The trials of every arm, in the order of the arms; those of `tune:` where there are any."""
    kinds = {seed.info.tuning.kind for seed in environment.trials if seed.info.tuning}
    kind = "tune" if "tune" in kinds else "sensitivity"
    known: dict[str, list[Seed]] = {}
    for seed in environment.trials:
        if seed.info.tuning and seed.info.tuning.kind == kind:
            known.setdefault(seed.info.tuning.arm, []).append(seed)
    return [_trials(arm, known[name], kind) for name, arm in environment.arms.items() if name in known]


def tuning_texts(environment: Environment, scale: Scale | None) -> list[str]:
    """Sentences: what tuning found for each arm, or how far the effect is known at other settings."""
    trials = trials_of(environment)
    if not trials:
        known = [arm for arm in environment.arms.values() if value_at(arm.config, RATE) is not None]
        unknown = "Settings were not tuned: at learning_rate x 3 or / 3 the effect is unknown"
        return [f"{unknown} (`memexp launch MATRIX --sensitivity` runs them)."] if known else []
    hours = sum(seed.reached / seed.rate / 3600 for seed in environment.trials if seed.rate)
    steps = short_count(sum(seed.reached for seed in environment.trials))
    spent = f"The {counted(len(environment.trials), 'trial run')} took {steps} agent steps, {hours_text(hours)}."
    if trials[0].kind == "sensitivity":
        return [*_sensitivities(environment, {one.arm: one for one in trials}, scale), spent]
    others = [name for name in environment.arms if "~@" in name]
    twins = f" {joined(others)}: the twin at the settings of its arm. Memory is compared with the better twin."
    return [*map(_tuned_text, trials), spent + (twins if others else "")]


def _tuned_text(one: Trials) -> str:
    best, top = one.best, one.top
    text = f"{one.arm} was tuned: {best.text} is the best of {counted(len(one.tried), 'setting')}"
    text += f" (return {best.mean:.4g}, {counted(len(best.known), 'trial')})"
    if one.judged and best.values != one.judged:
        text = f"{one.arm} was judged at a setting that its trials do not hold"
    elif top and top is not best:
        text = f"{one.arm} was judged at {best.text}, but {top.text} is better in its trials, which changed since"
    return f"{text}; {'; '.join(one.edges)}." if one.edges else f"{text}."


def _sensitivities(environment: Environment, trials: dict[str, Trials], scale: Scale | None) -> list[str]:
    """One sentence a pair: the effect of memory at each learning rate."""
    texts: list[str] = []
    for name in trials:
        twin = environment.twin(name)
        if twin is None or twin.name not in trials or scale is None:
            continue
        parts: list[str] = []
        for one in trials[name].tried:
            other = next((tried for tried in trials[twin.name].tried if tried.values == one.values), None)
            if other and len(one.known) and len(other.known):
                runs = f"{len(one.known)} and {len(other.known)} seeds"
                parts.append(f"{number((one.mean - other.mean) / scale.span)} at {one.text} ({runs})")
        texts.append(f"Effect of the memory of {name}: {', '.join(parts) or 'not known yet'}.")
    return texts


def _trials(arm: Arm, seeds: Sequence[Seed], kind: str) -> Trials:
    keys = list(dict.fromkeys(key for seed in seeds if seed.info.tuning for key in seed.info.tuning.values))
    judged = {key: value_at(arm.config, key) for key in keys} if arm.config else {}

    def values(seed: Seed) -> dict[str, Any]:
        return seed.info.tuning.values if seed.info.tuning else {}

    def order(of: dict[str, Any]) -> list[tuple[bool, float, str]]:
        known = [(_is_number(value), value) for value in of.values()]
        return [(not is_number, cast(float, value) if is_number else 0.0, str(value)) for is_number, value in known]

    tried: list[Tried] = []
    for _, group in groupby(sorted(seeds, key=lambda seed: order(values(seed))), lambda seed: order(values(seed))):
        some = list(group)
        most = max(seed.info.total_timesteps for seed in some)  # shorter ones belong to earlier rungs
        last = [seed for seed in some if seed.info.total_timesteps == most]
        finals = [seed.final(most) if seed.status == "completed" else math.nan for seed in last]
        tried.append(Tried(values(some[0]), [one if math.isfinite(one) else None for one in finals], most))
    if kind == "sensitivity" and arm.seeds:
        tried = sorted([*tried, Tried(judged, arm.finals.tolist(), arm.budget)], key=lambda one: order(one.values))
    return Trials(arm.name, kind, tried, judged)


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _plain(value: Any) -> str:
    return f"{value:g}" if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
