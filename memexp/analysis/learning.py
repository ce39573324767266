"""Did an arm learn? Its final returns against the random policy's measured return, seeds as the unit."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.convergence import projected_changes
from memexp.analysis.scale import Scale, random_level
from memexp.analysis.seeds import FINAL_SHARE, Arm, Environment, Seed
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
    n, span = len(arm.seeds), scale.span if scale else math.nan
    facts: dict[str, Any] = {
        "gain": {"estimate": gain.estimate, "ci": list(gain.interval()), "normalized": gain.estimate / span},
        "p_value": gain.p_above() if n > 1 else None,
        "detectable": _detectable(gain, level(n, CLAIMS)) / span,
        "trend": {"estimate": rise.estimate, "ci": list(rise.interval())},
        "entropy": entropy,
    }
    judge = _of_few if n < MIN_SEEDS else _of_enough
    state, reason = judge(arm, scale, gain, rise, chance)
    return Learning("undecided" if state == "too_early" else state, reason, state, **facts)


def _of_few(arm: Arm, scale: Scale | None, gain: Contrast, rise: Contrast, chance: str) -> tuple[State, str]:
    """Too few seeds for a test: only a policy that still is the random policy tells something of itself."""
    n, text = len(arm.seeds), f"gain over the random policy {gain.estimate:+.3g}"
    seeds = f"{n} {'seed' if n == 1 else 'seeds'}"
    if chance and gain.estimate <= _floor(scale):
        return "not_learned", (
            f"{text}: nothing learned at this budget.{chance} {seeds} cannot tell whether others would learn"
        )
    return "too_early", (
        f"{text}, but {seeds} can show neither learning nor its absence: {MIN_SEEDS} are the least, 5 the default"
    )


def _of_enough(arm: Arm, scale: Scale | None, gain: Contrast, rise: Contrast, chance: str) -> tuple[State, str]:
    n, floor = len(arm.seeds), _floor(scale)
    alpha = level(n, CLAIMS)
    low, high = gain.interval(0.90)
    text = f"gain over the random policy {gain.estimate:+.3g} (90 % interval {low:+.3g} to {high:+.3g}, one-sided p "
    text += f"{_p(gain.p_above())})"
    if gain.p_above() <= alpha and gain.estimate >= floor:
        return "learned", text
    solving = int((arm.finals >= scale.solved).sum()) if scale and scale.source != arm.name else 0
    if solving >= SOLVING_SEEDS:
        return "learned", f"{solving} of {n} seeds solve it, which the random policy does not; {text}"
    if gain.p_below(floor) <= alpha if scale else high <= 0:
        if rise.p_above() <= alpha and rise.estimate > floor:
            return "too_early", f"{text}, but still rising: too early to tell"
        return "not_learned", f"{text}: nothing learned at this budget.{chance}"
    if scale is None:
        return "too_early", f"{text}; no ceiling and no arm above random say how much a gain is worth.{chance}"
    shown = _detectable(gain, alpha)
    could = f", and these seeds show no gain below {shown:.2g} reliably" if math.isfinite(shown) else ""
    return "too_early", f"{text}: at least {floor:.3g} would count as learning{could}.{chance}"


def _floor(scale: Scale | None) -> float:
    """The smallest gain that counts, in return; without a scale, any."""
    return SMALLEST_GAIN * scale.span if scale else 0.0


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
