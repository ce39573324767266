"""Pictures with a row for each arm, architecture or milestone: final returns, effects of memory, and the funnel."""
# Matplotlib gives no types for its keyword arguments.
# pyright: reportUnknownMemberType=false

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from memexp.analysis.answer import EnvironmentAnswer
from memexp.analysis.figures import style
from memexp.analysis.formatting import interval, number
from memexp.analysis.pairs import SMALLEST_EFFECT
from memexp.analysis.seeds import Environment
from memexp.analysis.statistics import NO_INTERVAL, iqm
from memexp.analysis.tuning import Trials, Tried, trials_of
from memexp.formatting import percent

MOST_SETTINGS = 12  # Rows of an arm in the picture of its trials
FLOOR = 1e-4  # The left end of the funnel's axis: smaller shares are drawn there


def draw_finals(ax: Axes, answer: EnvironmentAnswer) -> None:
    """One row an arm: seeds as dots (open: without memory), interquartile mean with its 95 % interval."""
    environment = answer.environment
    for row, (arm, color, dash) in enumerate(style.styled(environment)):
        finals = arm.finals
        if not len(finals):
            ax.text(0.02, row, "no finished run", transform=ax.get_yaxis_transform(), va="center", alpha=0.7)
            continue
        low, high = answer.arms[arm.name].interval
        jitter = row + 0.22 * np.linspace(-1, 1, len(finals)) if len(finals) > 1 else np.array([row])
        faces = style.face(color, dash)
        ax.scatter(finals, jitter, s=26, facecolors=faces, edgecolors=color, lw=1.2, alpha=0.75)
        if np.isfinite(low):
            ax.plot([low, high], [row, row], color=color, lw=2.2)
        ax.plot([float(iqm(finals))] * 2, [row - 0.3, row + 0.3], color=color, lw=3)
    # The random level is always shown: beside it differences too small to matter look small.
    for label, value in (("random", environment.random_mean), ("ceiling", environment.ceiling)):
        low, high = ax.dataLim.intervalx
        if value is not None and (label == "random" or low - 10 * (high - low) <= value <= high + 10 * (high - low)):
            ax.update_datalim([(value, 0)], updatey=False)
            style.mark(ax, value, label)
    ax.autoscale_view(scaley=False)
    style.rows_of_text(ax, list(environment.arms))
    ax.set_xlabel("mean return over the last tenth of the steps")
    style.grid(ax, "x")


def draw_effects(ax: Axes, answer: EnvironmentAnswer) -> None:
    """One row an architecture: effect of its memory with 95 % (thin) and 90 % interval; shaded: too small to matter."""
    memory = answer.memory
    colors = {arm.name: color for arm, color, _ in style.styled(answer.environment)}
    rows = [
        (name, colors[name], effect.estimate, effect.interval, pair.interval90, bool(pair.left_out))
        for name, pair in memory.pairs.items()
        if (effect := pair.effect)
    ]
    if len(rows) > 1:
        rows.append(("together", style.INK, memory.effect or 0.0, memory.interval, NO_INTERVAL, False))
    ax.axvspan(-SMALLEST_EFFECT, SMALLEST_EFFECT, color=style.INK, alpha=0.09, lw=0)
    ax.axvline(0, color=style.INK, lw=1, alpha=0.7)
    place = ax.get_yaxis_transform()
    for row, (_, color, estimate, wide, narrow, left_out) in enumerate(rows):
        fade = 0.45 if left_out else 1
        for ends, width in ((wide, 1.4), (narrow, 4)):
            if np.isfinite(ends[0]):
                ax.plot(ends, [row, row], color=color, lw=width, alpha=fade, solid_capstyle="butt")
        ax.scatter([estimate], [row], s=46, color=color, alpha=fade, zorder=3)
        text = f"{number(estimate)} {interval(wide)}"
        ax.text(1.03, row, text, transform=place, va="center", fontsize=9.5, alpha=fade)
    low, high = ax.dataLim.intervalx
    ax.set_xlim(min(low, -0.2) - 0.05, max(high, 0.2) + 0.05)
    style.rows_of_text(ax, [name for name, *_ in rows])
    ax.set_xlabel("effect of memory, share of the scale")
    style.grid(ax, "x")


def draw_funnel(ax: Axes, answer: EnvironmentAnswer) -> None:
    """One row a milestone: share of agents and episodes that reached it, on a logarithmic axis."""
    environment = answer.environment
    milestones = _milestones(environment)
    look: dict[str, Any] = {"marker": "s", "ms": 5, "lw": 1, "alpha": 0.55}
    lines = [("random policy", environment.random_funnel, style.INK, "-", look)]
    for arm, color, dash in style.styled(environment):
        face = style.face(color, dash)
        lines.append((arm.name, arm.funnel, color, dash, {"marker": "o", "mfc": face, "ms": 5.5, "lw": 1.3}))
    for label, funnel, color, dash, look in lines:
        if funnel:
            shares = [max(funnel.get(name, np.nan), FLOOR) for name in milestones]
            ax.plot(shares, range(len(milestones)), color=color, ls=dash, label=label, clip_on=False, **look)
    ax.set_xscale("log")
    ax.set_xlim(FLOOR, 1)
    ax.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda x, _: "0" if x <= FLOOR else percent(x))
    style.rows_of_text(ax, [name.replace("_", " ") for name in milestones])
    ax.set_xlabel("agents that reach it in an episode (logarithmic)")
    style.legend(ax)
    style.grid(ax, "x")


def draw_trials(ax: Axes, answer: EnvironmentAnswer) -> None:
    """One row a setting of an arm: its trials as dots, their mean as a line, wide at the setting that was judged."""
    environment = answer.environment
    looks = {arm.name: (color, dash) for arm, color, dash in style.styled(environment)}
    rows = _trial_rows(environment)
    for row, (one, tried, _) in enumerate(rows):
        color, dash = looks[one.arm]
        is_judged = tried.values == one.judged
        if not len(tried.known):
            ax.text(0.02, row, "no finished run", transform=ax.get_yaxis_transform(), va="center", alpha=0.7)
            continue
        face = style.face(color, dash)
        ax.scatter(tried.known, [row] * len(tried.known), s=24, facecolors=face, edgecolors=color, lw=1.2, alpha=0.75)
        ax.plot([float(tried.known.mean())] * 2, [row - 0.35, row + 0.35], color=color, lw=4 if is_judged else 1.2)
    ax.update_datalim([(value, 0) for value in (environment.random_mean,) if value is not None], updatey=False)
    if environment.random_mean is not None:
        style.mark(ax, environment.random_mean, "random")
    ax.autoscale_view(scaley=False)
    style.rows_of_text(ax, [label for *_, label in rows])
    ax.set_xlabel("mean return over the last tenth of the steps")
    style.grid(ax, "x")


def _trial_rows(environment: Environment) -> list[tuple[Trials, Tried, str]]:
    """Trials of an arm, one of its settings, and the name of the row; of many settings the best."""
    rows: list[tuple[Trials, Tried, str]] = []
    for one in trials_of(environment):
        best = sorted(one.tried, key=lambda tried: -tried.mean)[:MOST_SETTINGS]
        rows += [(one, tried, f"{one.arm}  {tried.text}") for tried in one.tried if tried in best]
    return rows


def _alt_trials(answer: EnvironmentAnswer) -> str:
    texts = [f"{label}: {tried.mean:.3g}" for _, tried, label in _trial_rows(answer.environment) if len(tried.known)]
    return f"Mean final returns of the settings tried in {answer.environment.name}: {', '.join(texts) or 'none yet'}."


def _milestones(environment: Environment) -> list[str]:
    names = [name for seed in environment.seeds for name in (*(seed.info.random_funnel or {}), *seed.funnel)]
    return list(dict.fromkeys(names))


def _alt_finals(answer: EnvironmentAnswer) -> str:
    rows = [
        f"{name} {one.iqm:.3g} ({min(one.arm.finals):.3g} to {max(one.arm.finals):.3g})"
        for name, one in answer.arms.items()
        if one.iqm is not None
    ]
    name = answer.environment.name
    return f"Final returns in {name}, interquartile mean (range of seeds): {', '.join(rows) or 'none yet'}."


def _alt_effects(answer: EnvironmentAnswer) -> str:
    effects = [
        f"{effect.arm} {number(effect.estimate)}, 95 % interval {' to '.join(map(number, effect.interval))}"
        for pair in answer.memory.pairs.values()
        if (effect := pair.effect)
    ]
    name = answer.environment.name
    return f"Effect of memory in {name}: {'; '.join(effects)}. Less than {SMALLEST_EFFECT:g} is negligible."


def _alt_funnel(answer: EnvironmentAnswer) -> str:
    environment = answer.environment
    lines = {"random policy": environment.random_funnel} | {arm.name: arm.funnel for arm in environment.arms.values()}
    texts = [f"{who}: {', '.join(f'{m} {s:.2%}' for m, s in one.items())}" for who, one in lines.items() if one]
    return f"Milestones on the way to reward in {environment.name}. {'; '.join(texts)}."


def _size_funnel(environment: Environment) -> style.Size:
    left, right = style.label_room(_milestones(environment)), style.label_room(["random policy", *environment.arms])
    height = 0.4 + 0.25 * max(len(_milestones(environment)), len(environment.arms) + 1)
    return style.Size(height, left - 0.1, right + 0.2)


FINALS = style.Picture(
    "finals",
    "Final returns",
    "Dots: seeds (open: without memory). Bars: interquartile mean and its 95 % interval.",
    draw_finals,
    _alt_finals,
    lambda it: style.Size(0.2 + 0.4 * len(it.arms), left=style.label_room(list(it.arms)) - 0.05, right=0.25, top=0.3),
)
EFFECTS = style.Picture(
    "effects",
    "With memory minus without",
    "Each architecture minus its own memory-ablated twin: difference of mean final returns, 95 % (thin) and 90 % "
    f"interval. Shaded: up to {SMALLEST_EFFECT:g}, too small to matter. For 'not needed', an effect must surely "
    "be below the upper end of the shaded range. Pale: left out of the verdict.",
    draw_effects,
    _alt_effects,
    lambda it: style.Size(
        0.35 + 0.36 * (len(it.arms) // 2 + 1), left=style.label_room([*it.arms, "together"]) - 0.05, right=1.55
    ),
    lambda answer: bool(answer.memory.pairs) and answer.scale is not None,
)
FUNNEL = style.Picture(
    "funnel",
    "The way to reward",
    "Share of agents that reach each milestone in an episode: arms over the last tenth of the steps, and the random "
    "policy. Exploration ends where the shares fall.",
    draw_funnel,
    _alt_funnel,
    _size_funnel,
    lambda answer: bool(_milestones(answer.environment)),
)
TRIALS = style.Picture(
    "settings",
    "Settings that were tried",
    "One row a setting. Dots: its trials, on seeds of their own (open: without memory). Bar: their mean, wide at the "
    "setting of the judged runs.",
    draw_trials,
    _alt_trials,
    lambda it: style.Size(
        0.2 + 0.3 * len(_trial_rows(it)), left=style.label_room([row[2] for row in _trial_rows(it)]) - 0.05, top=0.3
    ),
    lambda answer: bool(_trial_rows(answer.environment)),
)
