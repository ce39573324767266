"""What the answer still costs: for each arm whether to stop paying, which seeds to run next, and how many it takes.

Valid under repeated looks: nothing here decides anew, it reads the verdicts, whose levels already allow for a look at
every number of seeds (`looks`). Stopping an arm never changes a verdict; running one adds seeds.
"""

from itertools import count, islice
from typing import Any

from memexp.analysis.alpha_spending import MIN_SEEDS
from memexp.analysis.power import DESIGNS, POWER, seeds_needed
from memexp.analysis.scale import SOLVED, Scale
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.timing import dollars_for, hours_for

DEFAULT_SEEDS = DESIGNS[0]
METHOD = "Lan-DeMets spending over seeds an arm (4, 5, ..., 40), exact permutation and Welch tests, Holm over arms"


def remaining(environment: Environment, scale: Scale | None, judged: dict[str, Any]) -> dict[str, Any]:
    """`sequential` and `until_answered` of an environment whose verdicts `judged` holds."""
    targets = {name: _target(arm, environment, scale, judged) for name, arm in environment.arms.items()}
    per_arm = {name: _action(environment.arms[name], *target) for name, target in targets.items()}
    return {
        "sequential": {"per_arm": per_arm, "method": METHOD},
        "until_answered": _until_answered(environment, judged, targets, per_arm),
    }


def _target(arm: Arm, environment: Environment, scale: Scale | None, judged: dict[str, Any]) -> tuple[int | None, str]:
    """Seeds that the arm should have, None for no more than it has; and why."""
    memory, name = judged["memory"], arm.name.removesuffix("~")
    if arm.consistent is False:
        return None, "acts and learns with different log-probabilities: more seeds of it mean nothing"
    if _is_final(environment, judged):
        return None, f"the environment's verdict is certain: {memory['verdict'].replace('_', ' ')}"
    if _nobody_learned(judged, name):
        return None, "neither it nor its twin learned: steps and knobs help, seeds do not"
    if len(arm.seeds) < MIN_SEEDS:
        return DEFAULT_SEEDS, f"{MIN_SEEDS} seeds are the least that can decide"
    pair = memory["per_arm"].get(name)
    if pair is None or pair["twin"] is None:
        return DEFAULT_SEEDS, "has no pair to decide: the default number of seeds"
    if pair["verdict"] != "undecided" and not _may_become_required(pair, judged, name):
        return None, f"verdict certain: {pair['verdict'].replace('_', ' ')}"
    return _for_the_pair(environment, scale, judged, name)


def _nobody_learned(judged: dict[str, Any], name: str) -> bool:
    """Whether the arm has not learned, nor its twin where there is one."""
    pair = [judged["arms"][member] for member in (name, f"{name}~") if member in judged["arms"]]
    return all(arm["learning"]["state"] == "not_learned" for arm in pair)


def _may_become_required(pair: dict[str, Any], judged: dict[str, Any], name: str) -> bool:
    """Whether 'helps' may still turn into 'required': the arm solves, and no memoryless seed has yet."""
    return pair["verdict"] == "helps" and "cannot exclude" in pair["reason"] and _solves(judged["arms"][name])


def _solves(arm: dict[str, Any]) -> bool:
    """Whether the arm of which these are the verdicts ends where a task counts as solved."""
    return (arm["final"]["normalized"] or 0.0) >= SOLVED


def _for_the_pair(
    environment: Environment, scale: Scale | None, judged: dict[str, Any], name: str
) -> tuple[int | None, str]:
    arm, twin = environment.arms[name], environment.arms[f"{name}~"]
    have, pair = min(len(arm.seeds), len(twin.seeds)), judged["memory"]["per_arm"][name]
    if pair["negligible"]:
        return None, f"its effect is surely small, more seeds cannot say more. {pair['reason']}"
    if pair["verdict"] == "helps":
        return next((n for n in DESIGNS if n > have), None), "helps; more seeds may show that it is required"
    if have < DEFAULT_SEEDS or scale is None:
        return DEFAULT_SEEDS, "undecided: the default number of seeds first"
    claims = sum(entry["excluded"] is None for entry in judged["memory"]["per_arm"].values())
    needed = seeds_needed(arm.finals, twin.finals, scale.span, max(claims, 1))
    if needed is None:
        return None, f"{DESIGNS[-1]} seeds would not decide at this spread: make the seeds more alike, or train longer"
    return needed, f"undecided: {needed} seeds would decide with {POWER:.0%} probability"


def _action(arm: Arm, target: int | None, because: str) -> dict[str, Any]:
    """stop, fix, wait for what runs already, or run these seeds: failed ones again, then the lowest new numbers."""
    plan = {"action": "stop", "seeds": [], "target": target, "because": because}
    if arm.consistent is False:
        return {**plan, "action": "fix"}
    if target is None or len(arm.seeds) >= target:
        return plan
    running = [seed.info.seed for seed in arm.partial if seed.status == "running"]
    ended = sorted(seed.info.seed for seed in arm.partial if seed.status != "running")
    known = {seed.info.seed for seed in (*arm.seeds, *arm.partial)}
    missing = max(0, target - len(arm.seeds) - len(running))
    again = ended[:missing]
    chosen = again + list(islice((n for n in count() if n not in known), missing - len(again)))
    if not chosen:
        return {**plan, "action": "wait", "because": f"{because}; {len(running)} running"}
    return {**plan, "action": "run", "seeds": chosen}


def _until_answered(
    environment: Environment,
    judged: dict[str, Any],
    targets: dict[str, tuple[int | None, str]],
    per_arm: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Runs, agent steps, hours and dollars until the memory question is decided with 80 % probability."""
    decided = _is_final(environment, judged)
    longer = 0 if decided else _more_steps(environment, judged)
    costs = {name: _cost(arm, per_arm[name], longer) for name, arm in environment.arms.items()}
    return {
        "seeds": max((target for target, _ in targets.values() if target is not None), default=None),
        "budget": environment.budget + longer,
        "power": POWER,
        **{key: _sum(cost[key] for cost in costs.values()) for key in ("runs", "agent_steps", "hours", "dollars")},
        "per_arm": costs,
        "reason": _reason(judged, decided, not any(cost["agent_steps"] for cost in costs.values())),
    }


def _is_final(environment: Environment, judged: dict[str, Any]) -> bool:
    """Whether no further run can turn the verdict: 'helps' is final where a policy without memory solves it as well."""
    solved = any(_solves(judged["arms"][name]) for name, arm in environment.arms.items() if not arm.remembers)
    verdict = judged["memory"]["verdict"]
    return verdict in ("required", "not_needed") or (verdict == "helps" and solved)


def _more_steps(environment: Environment, judged: dict[str, Any]) -> int:
    """Agent steps a run that are missing as well: as many again where no arm solves it and one still improves."""
    arms = judged["arms"].values()
    improving = any(arm["convergence"]["verdict"] == "improving" for arm in arms)
    solved = any(map(_solves, arms))
    return environment.budget if improving and not solved else 0


def _cost(arm: Arm, plan: dict[str, Any], longer: int) -> dict[str, Any]:
    """What the planned seeds of the arm, those that still run and `longer` more steps of each seed take."""
    goes_on = plan["action"] in ("run", "wait")
    left = sum(max(0, arm.budget - seed.reached) for seed in arm.partial if seed.status == "running")
    runs = len(plan["seeds"])
    steps = runs * (arm.budget + longer) + len(arm.seeds) * longer + (left if goes_on else 0)
    hours = hours_for(arm, steps) if steps else 0.0
    dollars = dollars_for(arm, hours) if hours is not None else None
    return {"runs": runs, "agent_steps": steps, "hours": hours, "dollars": dollars if steps else 0.0}


def _reason(judged: dict[str, Any], decided: bool, done: bool) -> str:
    if decided:
        return f"answered: {judged['memory']['verdict'].replace('_', ' ')}"
    if done or not any(pair["twin"] for pair in judged["memory"]["per_arm"].values()):
        return "more seeds alone would not answer it: see what is proposed next"
    return f"seeds that decide with {POWER:.0%} probability if the truth is as it looks now"


def _sum(values: Any) -> float | None:
    values = list(values)
    return None if any(value is None for value in values) else sum(values)
