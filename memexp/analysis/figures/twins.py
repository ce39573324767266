"""With and without memory: final returns of every seed, and the effects against the margin of equivalence."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from memexp.analysis.figures.style import (
    COLORS,
    INK,
    QUIET,
    Picture,
    Size,
    grid,
    label_room,
    rows_of_text,
    styled,
)
from memexp.analysis.formatting import interval, number
from memexp.analysis.memory_verdict import SMALLEST_EFFECT
from memexp.analysis.seeds import Environment
from memexp.analysis.statistics import iqm, iqm_interval


def draw_finals(ax: Axes, environment: Environment, judged: dict[str, Any]) -> None:
    """One row an arm: seeds as dots (open: without memory), interquartile mean with its 95 % interval."""
    for row, (arm, color, dash) in enumerate(styled(environment)):
        finals = arm.finals
        if not len(finals):
            ax.text(0.02, row, "no finished run", transform=ax.get_yaxis_transform(), va="center", alpha=0.7)
            continue
        low, high = iqm_interval(finals)
        jitter = row + 0.22 * np.linspace(-1, 1, len(finals)) if len(finals) > 1 else np.array([row])
        faces = "none" if dash == "--" else color
        ax.scatter(finals, jitter, s=26, facecolors=faces, edgecolors=color, lw=1.2, alpha=0.75)
        if np.isfinite(low):
            ax.plot([low, high], [row, row], color=color, lw=2.2)
        ax.plot([float(iqm(finals))] * 2, [row - 0.3, row + 0.3], color=color, lw=3)
    # The random level is always shown: beside it differences too small to matter look small.
    for label, value in (("random", judged["random_return"]), ("ceiling", judged["ceiling_return"])):
        low, high = ax.dataLim.intervalx
        if value is not None and (label == "random" or low - 10 * (high - low) <= value <= high + 10 * (high - low)):
            ax.update_datalim([(value, 0)], updatey=False)
            ax.axvline(value, color=INK, lw=1, ls=QUIET, alpha=0.7)
            place = ax.get_xaxis_transform()
            ax.text(value, 1.01, label, ha="center", va="bottom", fontsize=9.5, alpha=0.75, transform=place)
    ax.autoscale_view(scaley=False)
    rows_of_text(ax, list(environment.arms))
    ax.set_xlabel("mean return over the last tenth of the steps")
    grid(ax, "x")


def draw_effects(ax: Axes, environment: Environment, judged: dict[str, Any]) -> None:
    """One row an architecture: effect of its memory with 95 % (thin) and 90 % interval; shaded: too small to matter."""
    known = _known(judged)
    colors = {arm.name: color for arm, color, _ in styled(environment)}
    rows = [(name, colors.get(name, COLORS[0]), entry) for name, entry in known.items()]
    if len(known) > 1:
        rows.append(("together", INK, judged["memory"]))
    ax.axvspan(-SMALLEST_EFFECT, SMALLEST_EFFECT, color=INK, alpha=0.09, lw=0)
    ax.axvline(0, color=INK, lw=1, alpha=0.7)
    place = ax.get_yaxis_transform()
    for row, (_, color, entry) in enumerate(rows):
        fade = 0.45 if entry.get("excluded") else 1
        for ends, width in ((entry["ci"], 1.4), (entry.get("ci90", [None]), 4)):
            if ends[0] is not None:
                ax.plot(ends, [row, row], color=color, lw=width, alpha=fade, solid_capstyle="butt")
        ax.scatter([entry["effect"]], [row], s=46, color=color, alpha=fade, zorder=3)
        text = f"{number(entry['effect'])} {interval(entry['ci'])}"
        ax.text(1.03, row, text, transform=place, va="center", fontsize=9.5, alpha=fade)
    low, high = ax.dataLim.intervalx
    ax.set_xlim(min(low, -0.2) - 0.05, max(high, 0.2) + 0.05)
    rows_of_text(ax, [name for name, *_ in rows])
    ax.set_xlabel("effect of memory, share of the scale")
    grid(ax, "x")


def _known(judged: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in judged["memory"]["per_arm"].items() if entry["effect"] is not None}


def _alt_finals(environment: Environment, judged: dict[str, Any]) -> str:
    rows = [
        f"{arm.name} {float(iqm(arm.finals)):.3g} ({min(arm.finals):.3g} to {max(arm.finals):.3g})"
        for arm in environment.arms.values()
        if len(arm.finals)
    ]
    return f"Final returns in {environment.name}, interquartile mean (range of seeds): {', '.join(rows) or 'none yet'}."


def _alt_effects(environment: Environment, judged: dict[str, Any]) -> str:
    effects = [
        f"{name} {number(entry['effect'])}, 95 % interval {number(entry['ci'][0])} to {number(entry['ci'][1])}"
        for name, entry in _known(judged).items()
    ]
    return f"Effect of memory in {environment.name}: {'; '.join(effects)}. Less than {SMALLEST_EFFECT:g} is negligible."


def _size_finals(environment: Environment) -> Size:
    names = label_room(list(environment.arms)) - 0.05
    return Size(width=5.6 - names - 0.25, height=0.2 + 0.4 * len(environment.arms), left=names, right=0.25, top=0.3)


def _size_effects(environment: Environment) -> Size:
    names, pairs = label_room([*environment.arms, "together"]) - 0.05, len(environment.arms) // 2 + 1
    return Size(width=5.6 - names - 1.55, height=0.35 + 0.36 * pairs, left=names, right=1.55)


FINALS = Picture(
    "finals",
    "Final returns",
    "Dots: seeds (open: without memory). Bars: interquartile mean and its 95 % interval.",
    draw_finals,
    _alt_finals,
    _size_finals,
)
EFFECTS = Picture(
    "effects",
    "With memory minus without",
    "Each architecture minus its own memory-ablated twin: difference of mean final returns, 95 % (thin) and 90 % "
    f"interval. Shaded: within {SMALLEST_EFFECT:g}, too small to matter: for 'not needed' an effect must surely end "
    "below its upper end. Pale: left out of the verdict.",
    draw_effects,
    _alt_effects,
    _size_effects,
    lambda environment, judged: bool(_known(judged)),
)
