"""What to run next, and which knobs to turn: only what follows from the verdicts by itself."""

from typing import Any

from memexp.analysis.funnel import arm_funnel, random_funnel
from memexp.analysis.knobs.suggest import Suggestion, suggest
from memexp.analysis.load import Environment
from memexp.analysis.scale import SOLVED, Scale
from memexp.analysis.words import counted
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
    arms = environment.arms
    unfinished = [seed for arm in arms.values() for seed in arm.partial]
    if running := [seed for seed in unfinished if seed.status == "running"]:
        steps.append(f"wait for the {counted(len(running), 'run')} that {_is(running)} not finished: {_names(running)}")
    if ended := [seed for seed in unfinished if seed.status in ("failed", "preempted", "cancelled")]:
        steps.append(f"launch the matrix again: {counted(len(ended), 'run')} did not get to the end: {_names(ended)}")
    if len(environment.random_returns) == 0:
        steps.append("measure the random policy (evaluation.random_episodes > 0): without it returns have no scale")
    more = _more_seeds(environment, judged)
    steps += more
    for name, arm in arms.items():
        if arm.remembers and f"{name}~" not in arms:
            steps.append(f"run the memory-ablated twin of arm {name} (twins: true in the matrix file)")
        if arm.consistent is False:
            recipe = arm.info.recipe or "RECIPE"
            steps.append(f"memexp doctor {recipe}: arm {name} acts and learns with different log-probabilities")
    steps += _turn([knob for knob in judged["knobs"] if "words" in knob])
    for knob in judged["knobs"]:
        if knob["knob"] == "steps":
            steps.append(f"train longer (--steps {count_name(knob['value'])}): {knob['because']}")
        elif "words" not in knob:
            steps.append(f"change {knob['knob']}: {knob['because']}")
    if not more:
        steps += _why_not_more(judged)
    undecided = judged["memory"]["verdict"] == "undecided"
    if undecided and scale and not (more or running or judged["knobs"] or _somebody_solves(judged)):
        steps.append(f"train longer (--steps {count_name(2 * environment.budget)}) or start easier: no arm solves it")
    return steps


def _more_seeds(environment: Environment, judged: dict[str, Any]) -> list[str]:
    """The seeds that each arm should have besides those that exist; arms that need the same are named together."""
    groups: dict[tuple[int, str, str], list[str]] = {}
    for name, action in judged["sequential"]["per_arm"].items():
        arm = environment.arms[name]
        begun = {seed.info.seed for seed in (*arm.seeds, *arm.partial)}
        fresh = [seed for seed in action["seeds"] if seed not in begun]
        if action["action"] == "run" and fresh:
            groups.setdefault((len(fresh), _seeds_word(fresh, begun), action["because"]), []).append(name)
    return [
        f"run {counted(number, 'more seed')} of arm{'s' * (len(names) > 1)} {', '.join(names)} ({word}): {because}"
        for (number, word, because), names in groups.items()
    ]


def _why_not_more(judged: dict[str, Any]) -> list[str]:
    """Why no further seed is asked for although memory is undecided: arms of the same reason are named together."""
    reasons: dict[str, list[str]] = {}
    for name in judged["memory"]["per_arm"] if judged["memory"]["verdict"] == "undecided" else ():
        action = judged["sequential"]["per_arm"][name]
        if action["action"] == "stop":
            reasons.setdefault(action["because"], []).append(name)
    return [f"no more seeds of {', '.join(names)} for now: {because}" for because, names in reasons.items()]


def _seeds_word(fresh: list[int], begun: set[int]) -> str:
    """'--seeds 5' where these are all of the first five that are missing, else '--seeds 7,9'."""
    wanted = sorted({*fresh, *begun})
    if wanted == list(range(len(wanted))):
        return f"--seeds {len(wanted)}"
    return f"--seeds {','.join(map(str, fresh))}{',' * (len(fresh) == 1)}"


def _somebody_solves(judged: dict[str, Any]) -> bool:
    finals = [arm["final"]["normalized"] for arm in judged["arms"].values()]
    return any(final is not None and final >= SOLVED for final in finals)


def _turn(knobs: list[dict[str, Any]]) -> list[str]:
    """What to do with knobs whose effect on exploration is measured."""
    if not knobs:
        return []
    which = "it" if len(knobs) == 1 else f"all {len(knobs)} of `knobs`"
    return [
        f"turn a knob: {knobs[0]['words']}. {knobs[0]['because']} `memexp launch pilots` with the matrix file tries "
        f"{which} cheaply; whatever learns there, test it on the unchanged task again"
    ]


def _is(items: list[Any]) -> str:
    return "is" if len(items) == 1 else "are"


def _names(seeds: list[Any]) -> str:
    return ", ".join(seed.run for seed in seeds[:4]) + (", ..." if len(seeds) > 4 else "")
