"""Learning curves: return over agent steps. Seeds are thin, their interquartile mean is bold, levels are dotted."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from memexp.analysis.answer import EnvironmentAnswer
from memexp.analysis.convergence import POINTS, smoothed_curves
from memexp.analysis.figures.style import (
    INK,
    QUIET,
    Picture,
    Size,
    grid,
    label_ends,
    label_room,
    levels,
    shortened,
    styled,
)
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import bootstrap_band, iqm
from memexp.formatting import short_count


def draw(ax: Axes, answer: EnvironmentAnswer) -> None:
    environment = answer.environment
    lines: list[tuple[float, str, str, str]] = []
    for arm, color, dash in styled(environment):
        for seed in arm.partial:
            (line,) = smoothed_curves(arm, [seed])[1]
            steps = np.linspace(arm.budget / POINTS, arm.budget, POINTS)
            seen = steps <= seed.reached
            ax.plot(steps[seen], line[seen], color=color, lw=0.8, ls=":", alpha=0.8)
        if arm.seeds and np.isfinite(end := _draw_arm(ax, arm, color, dash)):
            lines.append((end, shortened(arm.name), color, dash))
    known = levels(environment)
    _limits(ax, [value for _, value in known])
    low, high = ax.get_ylim()
    for label, value in known:
        if low <= value <= high:
            ax.axhline(value, color=INK, lw=1, ls=QUIET, alpha=0.7)
            lines.append((value, label, INK, ":"))
        else:
            arrow = "↑" if value > high else "↓"
            lines.append((high if value > high else low, f"{label} {value:.3g} {arrow}", INK, ""))
    ax.set_xlim(0, environment.budget)
    ax.set_xlabel("agent steps")
    ax.set_ylabel("mean episode return")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: short_count(steps)))
    grid(ax, "y")
    label_ends(ax, lines)


def _draw_arm(ax: Axes, arm: Arm, color: str, dash: str) -> float:
    """Draw the arm's seeds, band and interquartile mean. Returns the end of the mean (NaN without an episode)."""
    steps, curves = smoothed_curves(arm)
    ax.plot(steps, curves.T, color=color, lw=0.6, alpha=0.35, ls=dash)
    middle = iqm(curves, axis=0)
    if len(curves) > 1:
        ax.fill_between(steps, *bootstrap_band(curves), color=color, alpha=0.16, lw=0)
    ax.plot(steps, middle, color=color, lw=1.7 if dash == "--" else 2.4, ls=dash)
    known = middle[~np.isnan(middle)]
    return float(known[-1]) if len(known) else np.nan


def _limits(ax: Axes, values: list[float]) -> None:
    """Set the limits of the y axis: levels fit as well, unless they are so far away that the curves would look flat."""
    low, high = ax.dataLim.intervaly if np.isfinite(ax.dataLim.intervaly).all() else (0.0, 1.0)
    height = max(high - low, 1e-9)
    for value in values:
        if low - 3 * height <= value <= high + 3 * height or height <= 1e-9:
            low, high = min(low, value), max(high, value)
    margin = 0.06 * max(high - low, 1e-9)
    if high - low < 1e-9:
        margin = 0.5 * max(abs(high), 1.0)
    ax.set_ylim(low - margin, high + margin)


def _alt(answer: EnvironmentAnswer) -> str:
    ends = [f"{name} {arm.iqm:.3g}" for name, arm in answer.arms.items() if arm.iqm is not None]
    ends += [f"{label} {value:.3g}" for label, value in levels(answer.environment)]
    return f"Learning curves in {answer.environment.name}; final return: {', '.join(ends) or 'none yet'}."


def _size(environment: Environment) -> Size:
    room = label_room([*environment.arms, "ceiling = memoryless"])
    return Size(width=5.6 - 0.62 - room, height=max(2.9, 0.19 * (len(environment.arms) + 4)), right=room)


LEARNING = Picture(
    "learning",
    "Learning",
    "Thin: seeds, smoothed over a tenth of the steps. Bold: their interquartile mean, with a bootstrap band. Dashed, "
    "~: the same network with its memory ablated. Dotted: unfinished runs, and reference levels: the random policy, "
    "scripted policies that see only the present (memoryless) or everything (full sight), and the ceiling.",
    draw,
    _alt,
    _size,
)
