"""What the answer still costs: for each arm whether to stop paying, which seeds to run next, and how many it takes.

Valid under repeated looks: nothing here decides anew, it reads the verdicts, whose levels already allow for a look at
every number of seeds (`looks`). Stopping an arm never changes a verdict; running one adds seeds.
"""

import math
from typing import Any

import numpy as np

from memexp.analysis.load import Arm, Environment
from memexp.analysis.looks import MIN_SEEDS, level
from memexp.analysis.pairs import SMALLEST_EFFECT
from memexp.analysis.scale import SOLVED, Scale
from memexp.analysis.statistics import t_quantile
from memexp.analysis.timing import dollars_for, hours_for

POWER = 0.8
DEFAULT_SEEDS = 5
DESIGNS = (5, 10, 20)
"""Seeds an arm at which most of the error is spent: the designs that are proposed."""
MAX_SEEDS = DESIGNS[-1]
"""More than this is not proposed: the effect would have to be made larger instead."""
METHOD = "Lan-DeMets spending over seeds an arm (4, 5, ..., 40), exact permutation and Welch tests, Holm over arms"


def remaining(environment: Environment, scale: Scale | None, judged: dict[str, Any]) -> dict[str, Any]:
    """`sequential` and `until_answered` of an environment whose verdicts `judged` holds."""
    targets = {name: _target(arm, environment, scale, judged) for name, arm in environment.arms.items()}
    per_arm = {name: _action(environment.arms[name], *target) for name, target in targets.items()}
    return {
        "sequential": {"per_arm": per_arm, "method": METHOD},
        "until_answered": _until_answered(environment, judged, targets, per_arm),
    }


def seeds_needed(x: np.ndarray, y: np.ndarray, span: float, claims: int) -> int | None:
    """Seeds an arm, one of DESIGNS, at which a verdict on this pair comes out with 80 % power if the truth is as seen:
    an effect if there seems to be one that matters, else its absence. None where 20 do not suffice.
    """
    effect = abs(float(x.mean() - y.mean())) / span
    spread = float(np.var(x, ddof=1) + np.var(y, ddof=1)) ** 0.5 / span
    for n in DESIGNS:
        if n <= min(len(x), len(y)):
            continue
        df, se = 2.0 * (n - 1), spread / n**0.5
        shown = (t_quantile(1 - level(n, claims), df) + t_quantile(POWER, df)) * se
        excluded = (t_quantile(1 - level(n), df) + t_quantile(POWER, df)) * se
        if effect >= max(shown, SMALLEST_EFFECT) or effect + excluded <= SMALLEST_EFFECT:
            return n
    return None


def _target(arm: Arm, environment: Environment, scale: Scale | None, judged: dict[str, Any]) -> tuple[int | None, str]:
    """Seeds that the arm should have, None for no more than it has; and why."""
    memory, name = judged["memory"], arm.name.removesuffix("~")
    if arm.consistent is False:
        return None, "acts and learns with different log-probabilities: more seeds of it mean nothing"
    if memory["verdict"] in ("required", "not_needed"):
        return None, f"the environment's verdict is certain: {memory['verdict'].replace('_', ' ')}"
    if len(arm.seeds) < MIN_SEEDS:
        return DEFAULT_SEEDS, f"{MIN_SEEDS} seeds are the least that can decide"
    pair = memory["per_arm"].get(name)
    if pair is None or pair["twin"] is None:
        return DEFAULT_SEEDS, "has no pair to decide: the default number of seeds"
    if pair["verdict"] != "undecided" and not _may_become_required(pair, judged, name):
        return None, f"verdict certain: {pair['verdict'].replace('_', ' ')}"
    return _for_the_pair(environment, scale, judged, name)


def _may_become_required(pair: dict[str, Any], judged: dict[str, Any], name: str) -> bool:
    """Whether 'helps' may still turn into 'required': the arm solves, and no memoryless seed has yet."""
    final = judged["arms"][name]["final"]["normalized"]
    return pair["verdict"] == "helps" and "cannot exclude" in pair["reason"] and final is not None and final >= SOLVED


def _for_the_pair(
    environment: Environment, scale: Scale | None, judged: dict[str, Any], name: str
) -> tuple[int | None, str]:
    arm, twin = environment.arms[name], environment.arms[f"{name}~"]
    states = [judged["arms"][member]["learning"]["state"] for member in (name, twin.name)]
    if states == ["not_learned", "not_learned"]:
        return None, "neither it nor its twin learned: steps and knobs help, seeds do not"
    if judged["memory"]["per_arm"][name]["verdict"] == "helps":
        return DEFAULT_SEEDS if min(len(arm.seeds), len(twin.seeds)) < DEFAULT_SEEDS else DESIGNS[1], (
            "helps; more seeds may show that it is required"
        )
    if min(len(arm.seeds), len(twin.seeds)) < DEFAULT_SEEDS or scale is None:
        return DEFAULT_SEEDS, "undecided: the default number of seeds first"
    claims = sum(entry["excluded"] is None for entry in judged["memory"]["per_arm"].values())
    needed = seeds_needed(arm.finals, twin.finals, scale.span, max(claims, 1))
    if needed is None:
        return None, f"{MAX_SEEDS} seeds would not decide at this spread: make the seeds more alike, or train longer"
    return needed, f"undecided: {needed} seeds would decide with {POWER:.0%} probability"


def _action(arm: Arm, target: int | None, because: str) -> dict[str, Any]:
    """stop, fix, wait for what runs already, or run these seeds."""
    known = {seed.info.seed: seed for seed in (*arm.seeds, *arm.partial)}
    if arm.consistent is False:
        return {"action": "fix", "seeds": [], "because": because}
    if target is None or len(arm.seeds) >= target:
        return {"action": "stop", "seeds": [], "because": because}
    running = [number for number, seed in known.items() if seed.status == "running"]
    ended = sorted(seed.info.seed for seed in arm.partial if seed.status != "running")
    fresh = (number for number in range(10 * MAX_SEEDS) if number not in known)
    missing = max(0, target - len(arm.seeds) - len(running))
    again = ended[:missing]
    chosen = again + [next(fresh) for _ in range(missing - len(again))]
    if not chosen:
        return {"action": "wait", "seeds": [], "because": f"{because}; {len(running)} running"}
    return {"action": "run", "seeds": chosen, "because": because}


def _until_answered(
    environment: Environment,
    judged: dict[str, Any],
    targets: dict[str, tuple[int | None, str]],
    per_arm: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Runs, agent steps, hours and dollars until the memory question is decided with 80 % probability."""
    costs = {}
    for name, arm in environment.arms.items():
        runs = len(per_arm[name]["seeds"])
        left = [arm.budget - seed.reached for seed in arm.partial if seed.status == "running"]
        steps = runs * arm.budget + sum(max(0, steps) for steps in left) * (per_arm[name]["action"] != "stop")
        hours = hours_for(arm, steps) if steps else 0.0
        dollars = dollars_for(arm, hours) if hours is not None else None
        costs[name] = {"runs": runs, "agent_steps": steps, "hours": hours, "dollars": dollars if steps else 0.0}
    seeds = [target for target, _ in targets.values() if target is not None]
    decided = judged["memory"]["verdict"] in ("required", "not_needed")
    done = decided or not any(cost["agent_steps"] for cost in costs.values())
    return {
        "seeds": max(seeds, default=None),
        "power": POWER,
        **{key: _sum(cost[key] for cost in costs.values()) for key in ("runs", "agent_steps", "hours", "dollars")},
        "per_arm": costs,
        "reason": _reason(judged, decided, done),
    }


def _reason(judged: dict[str, Any], decided: bool, done: bool) -> str:
    if decided:
        return f"answered: {judged['memory']['verdict'].replace('_', ' ')}"
    if done:
        return "more seeds would not answer it: see what is proposed next"
    return f"seeds that decide with {POWER:.0%} probability if the truth is as it looks now"


def _sum(values: Any) -> float | None:
    values = list(values)
    return None if any(value is None for value in values) else math.fsum(values)
