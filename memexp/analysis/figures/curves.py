"""Pictures with curves: returns over agent steps, final scores of the seeds, and when each seed solves it."""
# Matplotlib gives no types for its keyword arguments.
# pyright: reportUnknownMemberType=false

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from memexp.analysis.answer import EnvironmentAnswer
from memexp.analysis.convergence import smoothed_curves
from memexp.analysis.figures import style
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import bootstrap_band, iqm
from memexp.formatting import short_count


def draw_learning(ax: Axes, answer: EnvironmentAnswer) -> None:
    """Return over agent steps: seeds are thin, their interquartile mean is bold, levels are dotted."""
    environment, lines = answer.environment, list[style.Line]()
    for arm, color, dash in style.styled(environment):
        for seed in arm.partial:
            steps, (line,) = smoothed_curves(arm, [seed])
            seen = steps <= seed.reached
            ax.plot(steps[seen], line[seen], color=color, lw=0.8, ls=":", alpha=0.8)
        if arm.seeds and np.isfinite(end := _draw_arm(ax, arm, color, dash)):
            lines.append((end, style.shortened(arm.name), color, dash))
    lines += _draw_levels(ax, environment, beyond=True)
    ax.set_ylabel("mean episode return")
    _finish(ax, environment, lines)


def _draw_levels(ax: Axes, environment: Environment, beyond: bool) -> list[style.Line]:
    """Set the limits of the y axis and draw the levels between them. Their labels; `beyond`: also of those outside."""
    known, lines = style.levels(environment), list[style.Line]()
    _limits(ax, [value for _, value in known])
    low, high = ax.get_ylim()
    for label, value in known:
        if low <= value <= high:
            ax.axhline(value, color=style.INK, lw=1, ls=style.QUIET, alpha=0.7)
            lines.append((value, label, style.INK, ":"))
        elif beyond:
            end, arrow = (high, "↑") if value > high else (low, "↓")
            lines.append((end, f"{label} {value:.3g} {arrow}", style.INK, ""))
    return lines


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


def _finish(ax: Axes, environment: Environment, lines: list[style.Line]) -> None:
    """The axis of agent steps, a grid, and the names of the lines."""
    ax.set_xlim(0, environment.budget)
    ax.set_xlabel("agent steps")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(lambda steps, _: short_count(steps))
    style.grid(ax, "y")
    style.label_ends(ax, lines)


def draw_profiles(ax: Axes, answer: EnvironmentAnswer) -> None:
    """Share of an arm's seeds whose final score is at least x (Agarwal et al. 2021, arXiv:2108.13264, section 4)."""
    scale = answer.scale
    for arm, color, dash in style.styled(answer.environment):
        if not arm.seeds or scale is None:
            continue
        scores = np.sort([scale.normalize(final) for final in arm.finals])
        shares = 1 - np.arange(len(scores) + 1) / len(scores)
        face = style.face(color, dash)
        left = min(0.0, scores[0]) - 0.05
        ax.stairs(shares, [left, *scores, scores[-1]], color=color, ls=dash, lw=1.8, baseline=None)
        ax.plot(scores, shares[1:], "o", ms=4, color=color, mfc=face, clip_on=False, zorder=3)
        ax.plot([], [], color=color, ls=dash, marker="o", ms=4, mfc=face, lw=1.8, label=arm.name)
    low, high = ax.dataLim.intervalx
    if answer.scale and answer.scale.solved_share is not None:
        style.mark(ax, answer.scale.solved_share, "solved")
    ax.set_xlim(low, max(1.02, high + 0.02))
    ax.set_ylim(0, 1.04)
    ax.set_xlabel("final score: share of the way from random to the top")
    ax.set_ylabel("seeds that score as much")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    style.grid(ax, "both")
    style.legend(ax)


def draw_times(ax: Axes, answer: EnvironmentAnswer) -> None:
    """Share of seeds that have not yet solved it over agent steps (Kaplan and Meier 1958); ticks: censored seeds."""
    environment, lines = answer.environment, list[style.Line]()
    for arm, color, dash in style.styled(environment):
        took = answer.arms[arm.name].time
        if took.curve is None:
            continue
        steps, unsolved = [*took.curve[0], arm.budget], [*took.curve[1], took.curve[1][-1]]
        ax.step(steps, unsolved, where="post", color=color, ls=dash, lw=1.8, clip_on=False)
        if took.censored:
            ax.plot([arm.budget], [unsolved[-1]], "|", color=color, ms=9, mew=1.6, clip_on=False)
        label = f"{style.shortened(arm.name)}  {len(arm.seeds) - took.censored} of {len(arm.seeds)}"
        lines.append((unsolved[-1], label, color, dash))
    ax.set_ylim(-0.02, 1.04)
    ax.set_ylabel("seeds that have not solved it")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    _finish(ax, environment, lines)


def draw_look_back(ax: Axes, answer: EnvironmentAnswer) -> None:
    """Return over k, the steps that the memory is cut to; k doubles from place to place. Right: the whole memory."""
    found = {name: one.look_back for name, one in answer.arms.items() if one.look_back}
    places = sorted({k for one in found.values() for k in one.steps})
    lines = list[style.Line]()
    for arm, color, dash in style.styled(answer.environment):
        if one := found.get(arm.name):
            x = [places.index(k) for k in one.steps]
            ax.plot([*x, len(places)], [*one.returns, one.whole], color=color, ls=dash, marker="o", ms=4, lw=2)
            lines.append((one.whole, style.shortened(arm.name), color, dash))
            if one.has_twin:
                ax.axhline(one.base, color=color, lw=1.2, ls="--", alpha=0.8)
                lines.append((one.base, style.shortened(f"{arm.name}~"), color, "--"))
            if one.needed is not None and one.needed in places:
                ax.axvline(places.index(one.needed), color=color, lw=1, ls=style.QUIET)
    lines += _draw_levels(ax, answer.environment, beyond=False)
    low, high = ax.get_ylim()
    for arm, color, _ in style.styled(answer.environment):  # after the limits: bands of two seeds are huge
        if (one := found.get(arm.name)) and one.seeds > 1:
            ax.fill_between(
                [places.index(k) for k in one.steps], *np.array(one.intervals).T, color=color, alpha=0.16, lw=0
            )
    ax.set_ylim(low, high)
    ax.set_xticks(range(len(places) + 1), [*map(str, places), "all"])
    ax.set_xlim(-0.2, len(places) + 0.2)
    ax.set_xlabel("steps before the present one that the policy sees")
    ax.set_ylabel("mean episode return")
    style.grid(ax, "y")
    style.label_ends(ax, lines)


def _alt_look_back(answer: EnvironmentAnswer) -> str:
    texts = [
        f"{name} {', '.join(f'{k} steps {value:.3g}' for k, value in zip(one.steps, one.returns, strict=True))}, "
        f"whole memory {one.whole:.3g}"
        for name, arm in answer.arms.items()
        if (one := arm.look_back)
    ]
    return f"Return in {answer.environment.name} with the memory cut: {'; '.join(texts)}."


def _has_scale(answer: EnvironmentAnswer) -> bool:
    return answer.scale is not None and any(arm.seeds for arm in answer.environment.arms.values())


def _alt_learning(answer: EnvironmentAnswer) -> str:
    ends = [f"{name} {arm.iqm:.3g}" for name, arm in answer.arms.items() if arm.iqm is not None]
    ends += [f"{label} {value:.3g}" for label, value in style.levels(answer.environment)]
    return f"Learning curves in {answer.environment.name}; final return: {', '.join(ends) or 'none yet'}."


def _has_threshold(answer: EnvironmentAnswer) -> bool:
    return answer.scale is not None and answer.scale.solved is not None and _has_scale(answer)


def _alt_profiles(answer: EnvironmentAnswer) -> str:
    what = f"Performance profiles in {answer.environment.name}"
    if not _has_threshold(answer):
        return f"{what}; it is not known what counts as solved."
    solved = [f"{n} {a.convergence.solved.seeds} of {len(a.arm.seeds)}" for n, a in answer.arms.items() if a.arm.seeds]
    return f"{what}; seeds that solve it: {', '.join(solved)}."


def _alt_times(answer: EnvironmentAnswer) -> str:
    medians: list[str] = []
    for name, one in answer.arms.items():
        if one.arm.seeds:
            median = one.time.median.estimate
            when = f"median {short_count(median)} steps" if median is not None else "median not reached"
            medians.append(f"{name} {when}, {one.time.censored} of {len(one.arm.seeds)} never")
    return f"Share of seeds that have not solved {answer.environment.name} over agent steps: {'; '.join(medians)}."


def _size(environment: Environment) -> style.Size:
    room = style.label_room(list(environment.arms)) + style.LETTER * len("  5 of 5")
    return style.Size(max(2.2, 0.19 * len(environment.arms)), left=0.72, right=room, top=0.26)


LEARNING = style.Picture(
    "learning",
    "Learning",
    "Thin: seeds, smoothed over a tenth of the steps. Bold: their interquartile mean, with a bootstrap band. Dashed, "
    "~: the same network with its memory ablated. Dotted: unfinished runs, and reference levels: the random policy, "
    "scripted policies that see only the present (memoryless) or everything (full sight), and the ceiling.",
    draw_learning,
    _alt_learning,
    lambda it: style.Size(
        max(2.9, 0.19 * (len(it.arms) + 4)), right=style.label_room([*it.arms, "ceiling = memoryless"])
    ),
)
PROFILES = style.Picture(
    "profiles",
    "Performance profiles",
    "Share of seeds whose final score is at least this high. A curve further to the right is better. A steep curve "
    "means that the seeds agree.",
    draw_profiles,
    _alt_profiles,
    _size,
    _has_scale,
)
TIMES = style.Picture(
    "times",
    "Time to solve",
    "Kaplan-Meier curve: share of seeds whose return has not yet reached what counts as solved. Vertical ticks: "
    "seeds that never do (censored, not dropped).",
    draw_times,
    _alt_times,
    _size,
    _has_threshold,
)
LOOK_BACK = style.Picture(
    "look-back",
    "How far back the policy looks",
    "Return of the trained policies, evaluated with their memory cut to the last k steps: at each step the state is "
    "built anew from these. Band: 95 % interval over seeds. Dashed: the twin, which was trained without memory. "
    "Vertical: the shortest memory that keeps 95 % of the effect.",
    draw_look_back,
    _alt_look_back,
    lambda it: replace(LEARNING.size(it), left=0.72),
    lambda answer: any(arm.look_back for arm in answer.arms.values()),
)
