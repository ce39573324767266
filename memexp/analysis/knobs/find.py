"""The knobs that an answer proposes to change: measured settings, else what the data by itself points to."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from memexp.analysis.knobs.suggest import Suggestion, suggest
from memexp.analysis.learning import Learning, LearningState
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Environment


class KnobCause(Enum):
    """What to change, and why."""

    MEASURED = "", "{stage} {suggestion}"
    NO_REWARD = (
        "reward reachability (curriculum, task size, reward shaping)",
        "the random policy and every arm have return 0: without a sampled reward there is no gradient. "
        "Start closer to the goal, shorten the task, or shape the reward; change the network last",
    )
    STILL_IMPROVING = "steps", "still improving at {budget} agent steps: {arms}"
    NO_ARM_ABOVE_RANDOM = (
        "steps or curriculum",
        "no arm is above the random policy, which does get return: more steps, or an easier start",
    )


@dataclass(frozen=True)
class Knob:
    """Only the fields that its cause needs are set."""

    cause: KnobCause
    suggestion: Suggestion | None = None  # The measured settings
    steps: int | None = None  # Agent steps of a run
    budget: int | None = None  # Agent steps so far
    arms: tuple[str, ...] = ()  # Arms that still improve


def find_knobs(
    environment: Environment, scale: Scale | None, learned: Sequence[Learning], improving: Sequence[str]
) -> list[Knob]:
    """What to change: measured settings where nothing learned, more steps where arms are still `improving`."""
    found: list[Knob] = []
    if not any(one.learned for one in learned):
        found = [Knob(KnobCause.MEASURED, suggestion) for suggestion in measured_knobs(environment)]
    finished = [arm for arm in environment.arms.values() if arm.seeds]
    no_reward = environment.random_mean == 0 and all(arm.finals.max() <= 0 for arm in finished)
    if not found and finished and no_reward:
        found.append(Knob(KnobCause.NO_REWARD))
    if improving:
        budget = environment.budget
        found.append(Knob(KnobCause.STILL_IMPROVING, steps=2 * budget, budget=budget, arms=tuple(improving)))
    elif scale and finished and not found and all(one.state is LearningState.NOT_LEARNED for one in learned):
        found.append(Knob(KnobCause.NO_ARM_ABOVE_RANDOM))
    return found


def measured_knobs(environment: Environment) -> list[Suggestion]:
    """Measured settings for the environment's knobs, given the furthest funnel of the random policy and all arms."""
    configs = (seed.config.get("env") for seed in environment.seeds)
    config = next((one for one in configs if isinstance(one, dict)), {})
    funnels = [environment.random_funnel, *(arm.funnel for arm in environment.arms.values())]
    furthest = max(funnels, key=lambda funnel: tuple(funnel.values())[::-1])
    own = {key: value for key, value in config.items() if key != "name"}
    return suggest(config.get("name", ""), own, furthest or None)
