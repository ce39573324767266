"""Did an arm learn? Its final returns against the random policy's measured return, seeds as the unit."""

from typing import Literal, NamedTuple

from memexp.analysis.load import Arm, Environment
from memexp.analysis.scale import ALPHA, MIN_SEEDS, Scale, random_level
from memexp.analysis.statistics import contrast

SMALLEST_GAIN = 0.05
"""Share of the scale below which a gain over the random policy is not called learning."""


class Learning(NamedTuple):
    verdict: Literal["learned", "not_learned", "undecided"]
    reason: str


def learning(arm: Arm, environment: Environment, scale: Scale | None) -> Learning:
    """learned: significantly above random, by at least 5 % of the scale. not_learned: surely less than that.

    With neither a ceiling nor an arm above random there is no scale, and not_learned means: the upper end of the
    gain's interval is not above zero.
    """
    n = len(arm.seeds)
    if n == 0:
        return Learning("undecided", "no finished run")
    random = random_level(environment)
    if random is None:
        return Learning("undecided", "the random policy's return was not measured (random_return in run.json)")
    gain = contrast((1.0, arm.finals), (-1.0, random))
    text = f"gain over the random policy {gain.estimate:+.3g}"
    if n < MIN_SEEDS:
        return Learning(
            "undecided",
            f"{text}, but {n} {'seed' if n == 1 else 'seeds'} can show neither learning nor its absence: {MIN_SEEDS} "
            "are the least, 5 the default",
        )
    p = gain.p_above()
    low, high = gain.interval(1 - 2 * ALPHA)
    text += f" (90 % interval {low:+.3g} to {high:+.3g}, one-sided p {_p(p)})"
    floor = SMALLEST_GAIN * scale.span if scale else 0.0
    if p < ALPHA and gain.estimate >= floor:
        return Learning("learned", text)
    if high < floor or (scale is None and high <= 0):
        return Learning("not_learned", text)
    if scale is None:
        return Learning("undecided", f"{text}; no ceiling and no arm above random say how much a gain is worth")
    return Learning("undecided", f"{text}: at least {floor:.3g} would count as learning")


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
