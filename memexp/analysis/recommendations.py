"""What to run next, and which knobs to turn: only what follows from the verdicts by itself."""

from typing import Any

from memexp.analysis.funnel import arm_funnel, random_funnel
from memexp.analysis.knobs.suggest import Suggestion, suggest
from memexp.analysis.scale import MIN_SEEDS, SOLVED, Scale
from memexp.analysis.seeds import Environment
from memexp.analysis.sequential_plan import DEFAULT_SEEDS
from memexp.config import count_name


def knobs(environment: Environment, scale: Scale | None, judged: dict[str, Any]) -> list[dict[str, Any]]:
    """What to turn where nothing learned: settings that are measured, else what the data by itself names."""
    arms = judged["arms"].values()
    learned = any(arm["learning"]["verdict"] == "learned" for arm in arms)
    found = [] if learned else [one.as_dict() for one in _measured_knobs(environment)]
    finished = [arm for arm in environment.arms.values() if arm.seeds]
    if not found and finished and judged["random_return"] == 0 and all(arm.finals.max() <= 0 for arm in finished):
        because = (
            "the random policy's return is 0 and so is every arm's: without a sampled reward there is no gradient. "
            "Start nearer to the goal, shorten the task, or shape the reward; the network comes last"
        )
        found.append(
            {"knob": "reward reachability (curriculum, task size, reward shaping)", "value": None, "because": because}
        )
    improving = [name for name, arm in judged["arms"].items() if arm["convergence"]["verdict"] == "improving"]
    if improving:
        because = f"still improving at {count_name(environment.budget)} agent steps: {', '.join(improving)}"
        found.append({"knob": "steps", "value": 2 * environment.budget, "because": because})
    elif scale and finished and all(arm["learning"]["verdict"] == "not_learned" for arm in arms) and not found:
        because = (
            "no arm is above the random policy although it does get return: more steps, or an easier task to start on"
        )
        found.append({"knob": "steps or curriculum", "value": None, "because": because})
    return found


def _measured_knobs(environment: Environment) -> list[Suggestion]:
    """Settings from the measured table for the environment's knobs and the furthest that anybody came in it."""
    world = next((seed.config["env"] for seed in environment.seeds if isinstance(seed.config.get("env"), dict)), {})
    funnels = [random_funnel(environment), *(arm_funnel(arm) for arm in environment.arms.values())]
    furthest = max(funnels, key=lambda funnel: tuple(funnel.values())[::-1])
    own = {key: value for key, value in world.items() if key != "name"}
    return suggest(world.get("name", ""), own, furthest or None)


def next_runs(environment: Environment, scale: Scale | None, judged: dict[str, Any]) -> list[str]:
    """Sentences, the most useful first: what would turn 'undecided' into a verdict."""
    steps = []
    arms, plans = environment.arms, judged["sequential"]["per_arm"]
    # What can change no verdict is neither waited for nor repeated.
    going_on = [arm for name, arm in arms.items() if plans[name]["action"] in ("run", "wait")]
    unfinished = [seed for arm in going_on for seed in arm.partial]
    if running := [seed for seed in unfinished if seed.status == "running"]:
        steps.append(f"wait for the {_count(running, 'run')} that {_is(running)} not finished: {_names(running)}")
    if ended := [seed for seed in unfinished if seed.status in ("failed", "preempted", "cancelled")]:
        steps.append(f"launch the matrix again: {_count(ended, 'run')} did not get to the end: {_names(ended)}")
    if len(environment.random_returns) == 0:
        steps.append("measure the random policy (evaluation.random_episodes > 0): without it returns have no scale")
    if not any(arm.remembers for arm in arms.values()):
        steps.append("run an architecture with memory and its memory-ablated twin (twins: true): no arm can remember")
    steps += _first_seeds(environment, plans)
    for name, arm in arms.items():
        if arm.remembers and f"{name}~" not in arms:
            steps.append(f"run the memory-ablated twin of arm {name} (twins: true in the matrix file)")
        if arm.consistent is False:
            recipe = arm.info.recipe or "RECIPE"
            steps.append(f"memexp doctor {recipe}: arm {name} acts and learns with different log-probabilities")
    if judged["memory"]["verdict"] in ("undecided", "helps"):
        steps += _more_seeds(scale, judged)
    nobody = all(arm["learning"]["state"] == "not_learned" for arm in judged["arms"].values())
    return _knob_steps(judged["knobs"]) + steps if nobody else steps + _knob_steps(judged["knobs"])


def _first_seeds(environment: Environment, plans: dict[str, Any]) -> list[str]:
    """New seeds of arms that have too few for any verdict, arms that lack as many together."""
    lacking: dict[tuple[int, int], list[str]] = {}
    for name, arm in environment.arms.items():
        known = {seed.info.seed for seed in arm.partial}
        new = [number for number in plans[name]["seeds"] if number not in known]
        if new and len(arm.seeds) < MIN_SEEDS:
            lacking.setdefault((len(arm.seeds), len(new)), []).append(name)
    return [
        f"run {new} more {'seed' if new == 1 else 'seeds'} of arm{'' if len(names) == 1 else 's'} {', '.join(names)} "
        f"(--seeds {DEFAULT_SEEDS}): {have or 'none'} finished, {MIN_SEEDS} are the least that can decide"
        for (have, new), names in sorted(lacking.items())
    ]


def _knob_steps(knobs: list[dict[str, Any]]) -> list[str]:
    steps = _turn([knob for knob in knobs if "words" in knob])
    for knob in knobs:
        if knob["knob"] == "steps":
            steps.append(f"train longer (--steps {count_name(knob['value'])}): {knob['because']}")
        elif "words" not in knob:
            steps.append(f"change {knob['knob']}: {knob['because']}")
    return steps


def _turn(knobs: list[dict[str, Any]]) -> list[str]:
    """What to do with knobs whose effect on exploration is measured."""
    if not knobs:
        return []
    which = "it" if len(knobs) == 1 else f"all {len(knobs)} of `knobs`"
    return [
        f"turn a knob: {knobs[0]['words']}. {knobs[0]['because']} `memexp launch pilots` with the matrix file tries "
        f"{which} cheaply; whatever learns there, test it on the unchanged task again"
    ]


def _more_seeds(scale: Scale | None, judged: dict[str, Any]) -> list[str]:
    """The seeds that `sequential` would run for the pairs that can be compared already, or why more do not help."""
    if scale is None:
        return []
    sentences, plans = [], judged["sequential"]["per_arm"]
    for name, entry in judged["memory"]["per_arm"].items():
        if entry["excluded"]:
            continue
        pair = [plans[name], plans[entry["twin"]]]
        if more := max(len(plan["seeds"]) for plan in pair):
            seeds = "1 more seed" if more == 1 else f"{more} more seeds"
            target = max(plan["target"] or 0 for plan in pair)
            sentences.append(f"run {seeds} of arms {name} and {entry['twin']} (--seeds {target}) to decide")
        elif entry["verdict"] == "undecided":
            sentences.append(f"arms {name} and {entry['twin']}: {pair[0]['because']}")
    finals = [arm["final"]["normalized"] for arm in judged["arms"].values() if arm["seeds"]]
    solved = any((final or 0) >= SOLVED for final in finals)
    if finals and not solved and not judged["knobs"]:
        steps = count_name(2 * judged["budget"])
        sentences.append(f"train longer (--steps {steps}) or start easier: no arm solves it")
    return sentences


def _count(items: list[Any], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _is(items: list[Any]) -> str:
    return "is" if len(items) == 1 else "are"


def _names(seeds: list[Any]) -> str:
    return ", ".join(seed.run for seed in seeds[:4]) + (", ..." if len(seeds) > 4 else "")
