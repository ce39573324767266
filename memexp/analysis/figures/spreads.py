"""How the seeds of an arm differ: performance profiles, and when each seed solved the environment."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from memexp.analysis.answer import EnvironmentAnswer
from memexp.analysis.figures.style import (
    INK,
    LETTER,
    QUIET,
    Picture,
    Size,
    grid,
    label_ends,
    label_room,
    legend,
    shortened,
    styled,
)
from memexp.analysis.scale import SOLVED
from memexp.analysis.seeds import Environment
from memexp.formatting import short_count


def draw_profiles(ax: Axes, answer: EnvironmentAnswer) -> None:
    """Share of an arm's seeds whose final score is at least x (Agarwal et al. 2021, arXiv:2108.13264, section 4)."""
    scale = answer.scale
    for arm, color, dash in styled(answer.environment):
        if not arm.seeds or scale is None:
            continue
        scores = np.sort([scale.normalize(final) for final in arm.finals])
        shares = 1 - np.arange(len(scores) + 1) / len(scores)
        face = "none" if dash == "--" else color
        left = min(0.0, scores[0]) - 0.05
        ax.stairs(shares, [left, *scores, scores[-1]], color=color, ls=dash, lw=1.8, baseline=None)
        ax.plot(scores, shares[1:], "o", ms=4, color=color, mfc=face, clip_on=False, zorder=3)
        ax.plot([], [], color=color, ls=dash, marker="o", ms=4, mfc=face, lw=1.8, label=arm.name)
    low, high = ax.dataLim.intervalx
    ax.axvline(SOLVED, color=INK, lw=1, ls=QUIET, alpha=0.7)
    ax.set_xlim(low, max(1.02, high + 0.02))
    ax.set_ylim(0, 1.04)
    place = ax.get_xaxis_transform()
    ax.text(SOLVED, 1.01, "solved", ha="center", va="bottom", fontsize=9.5, alpha=0.75, transform=place)
    ax.set_xlabel("final score: share of the way from random to the top")
    ax.set_ylabel("seeds that score as much")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    grid(ax, "both")
    legend(ax)


def draw_times(ax: Axes, answer: EnvironmentAnswer) -> None:
    """Share of seeds that have not yet solved it over agent steps (Kaplan and Meier 1958); ticks: censored seeds."""
    environment, lines = answer.environment, list[tuple[float, str, str, str]]()
    for arm, color, dash in styled(environment):
        took = answer.arms[arm.name].time
        if took.curve is None:
            continue
        steps, unsolved = took.curve
        ax.step(
            [*steps, arm.budget], [*unsolved, unsolved[-1]], where="post", color=color, ls=dash, lw=1.8, clip_on=False
        )
        censored = took.censored
        if censored:
            ax.plot([arm.budget], [unsolved[-1]], "|", color=color, ms=9, mew=1.6, clip_on=False)
        label = f"{shortened(arm.name)}  {len(arm.seeds) - censored} of {len(arm.seeds)}"
        lines.append((unsolved[-1], label, color, dash))
    ax.set_xlim(0, environment.budget)
    ax.set_ylim(-0.02, 1.04)
    ax.set_xlabel("agent steps")
    ax.set_ylabel("seeds that have not solved it")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: short_count(steps)))
    grid(ax, "y")
    label_ends(ax, lines)


def _has_scale(answer: EnvironmentAnswer) -> bool:
    return answer.scale is not None and any(arm.seeds for arm in answer.environment.arms.values())


def _alt_profiles(answer: EnvironmentAnswer) -> str:
    solved = {name: one.convergence.solved for name, one in answer.arms.items() if one.arm.seeds}
    what = f"Performance profiles in {answer.environment.name}; seeds that end at {SOLVED:.0%} of the way or beyond"
    return f"{what}: {', '.join(f'{name} {one.seeds} of {one.of}' for name, one in solved.items())}."


def _alt_times(answer: EnvironmentAnswer) -> str:
    medians: list[str] = []
    for name, one in answer.arms.items():
        if one.arm.seeds:
            median = one.time.median.estimate
            when = f"median {short_count(median)} steps" if median is not None else "median not reached"
            medians.append(f"{name} {when}, {one.time.censored} of {len(one.arm.seeds)} never")
    return f"Share of seeds that have not solved {answer.environment.name} over agent steps: {'; '.join(medians)}."


def _size(environment: Environment) -> Size:
    room = label_room(list(environment.arms)) + LETTER * len("  5 of 5")
    return Size(width=5.6 - 0.72 - room, height=max(2.2, 0.19 * len(environment.arms)), left=0.72, right=room, top=0.26)


PROFILES = Picture(
    "profiles",
    "Performance profiles",
    "Share of seeds whose final score is at least this high. A curve further to the right is better. A steep curve "
    "means that the seeds agree.",
    draw_profiles,
    _alt_profiles,
    _size,
    _has_scale,
)
TIMES = Picture(
    "times",
    "Time to solve",
    f"Kaplan-Meier curve: share of seeds whose return has not yet reached {SOLVED:.0%} of the way. Vertical ticks: "
    "seeds that never do (censored, not dropped).",
    draw_times,
    _alt_times,
    _size,
    _has_scale,
)
