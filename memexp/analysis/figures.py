"""The answer's pictures: learning curves, and every architecture beside its memory-ablated twin.

Colours are Okabe and Ito's (readable with any colour vision); an architecture and its twin share one, the twin dashed.
Everything else is drawn in INK, which the page replaces by its own text colour, light or dark.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.optimize import isotonic_regression

from memexp.analysis.convergence import POINTS, smoothed_curves
from memexp.analysis.load import Arm, Environment, load
from memexp.analysis.statistics import bootstrap_band, iqm, iqm_interval
from memexp.runs import Run

INK = "#010203"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
VERDICT_WORDS = {
    "required": "requires memory",
    "helps": "memory helps",
    "not_needed": "needs no memory",
    "undecided": "undecided",
}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # names are text, dollars in them too
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "legend.frameon": False,
}


def title_of(name: str, judged: dict[str, Any]) -> str:
    """'tmaze requires memory', 'tmaze: undecided'."""
    words = VERDICT_WORDS[judged["memory"]["verdict"]]
    return f"{name} {words}" if words.endswith("s memory") or words.startswith("needs") else f"{name}: {words}"


def save_figures(runs: Sequence[Run], answer: dict[str, Any], folder: Path) -> list[Path]:
    """answer.png (learning curves of all environments side by side, verdicts as titles) and twins.png, on white."""
    environments, _ = load(runs, answer["matrix"])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    columns = min(len(environments), 3)
    rows = -(-len(environments) // columns)
    files = []
    with matplotlib.rc_context(STYLE):
        for file, draw, width, height, pad in (
            ("answer.png", draw_learning, 5.2, 3.6, 12),
            ("twins.png", draw_twins, 5.2, 0.3 + max(twins_height(e) for e in environments.values()), 24),
        ):
            figure = Figure(figsize=(width * columns, height * rows), layout="constrained", facecolor="white")
            figure.get_layout_engine().set(wspace=0.06, hspace=0.08)  # type: ignore[union-attr]
            axes = list(figure.subplots(rows, columns, squeeze=False).flat)
            for ax, environment in zip(axes, environments.values(), strict=False):
                judged = answer["environments"][environment.name]
                draw(ax, environment, judged)
                ax.set_title(title_of(environment.name, judged), fontsize=15, fontweight="bold", pad=pad)
            for ax in axes[len(environments) :]:
                ax.set_visible(False)
            if file == "answer.png":
                figure.supxlabel("dashed, ~ : the same network with its memory ablated", x=0.01, ha="left", fontsize=10)
            figure.savefig(folder / file, dpi=150)
            files.append(folder / file)
    return files


def draw_learning(ax: Axes, environment: Environment, judged: dict[str, Any]) -> None:
    """Return over agent steps: seeds thin, IQM bold, bootstrap band, unfinished runs dotted, labels at the ends."""
    lines: list[tuple[float, str, str, str]] = []
    for arm, color, dash in _styled(environment):
        for seed in arm.partial:
            (line,) = smoothed_curves(arm, [seed])[1]
            grid = np.linspace(arm.budget / POINTS, arm.budget, POINTS)
            seen = grid <= seed.reached
            ax.plot(grid[seen], line[seen], color=color, lw=0.8, ls=":", alpha=0.8)
        if not arm.seeds:
            continue
        grid, curves = smoothed_curves(arm)
        ax.plot(grid, curves.T, color=color, lw=0.6, alpha=0.35, ls=dash)
        middle = iqm(curves, axis=0)
        if len(curves) > 1:
            ax.fill_between(grid, *bootstrap_band(curves), color=color, alpha=0.16, lw=0)
        ax.plot(grid, middle, color=color, lw=1.7 if dash == "--" else 2.4, ls=dash)
        known = middle[~np.isnan(middle)]
        if len(known):
            lines.append((float(known[-1]), arm.name, color, dash))
    levels = [("random policy", judged["random_return"]), ("ceiling", judged["ceiling_return"])]
    _limits(ax, [value for _, value in levels if value is not None])
    for label, value in levels:
        if value is not None and ax.get_ylim()[0] <= value <= ax.get_ylim()[1]:
            ax.axhline(value, color=INK, lw=1, ls=(0, (2, 3)), alpha=0.7)
            lines.append((value, label, INK, ":"))
        elif value is not None:
            above = value > ax.get_ylim()[1]
            lines.append((ax.get_ylim()[int(above)], f"{label} {value:g} {'↑' if above else '↓'}", INK, ""))
    ax.set_xlim(0, environment.budget)
    ax.set_xlabel("agent steps")
    ax.set_ylabel("mean episode return")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: short_count(steps)))
    ax.grid(axis="y", color=INK, alpha=0.12, lw=0.7)
    _label_ends(ax, lines, environment.budget)


def draw_twins(ax: Axes, environment: Environment, judged: dict[str, Any]) -> None:
    """Final returns, one row an arm: seeds as dots (open: without memory), IQM with its 95 % interval, effects."""
    names, effects = [], judged["memory"]["per_arm"]
    for row, (arm, color, dash) in enumerate(_styled(environment)):
        names.append(arm.name)
        finals = arm.finals
        if not len(finals):
            ax.text(0.02, row, "no finished run", transform=ax.get_yaxis_transform(), va="center", alpha=0.7)
            continue
        low, high = iqm_interval(finals)
        open_dots = dash == "--"
        jitter = row + 0.22 * np.linspace(-1, 1, len(finals)) if len(finals) > 1 else np.array([row])
        ax.scatter(
            finals, jitter, s=26, facecolors="none" if open_dots else color, edgecolors=color, lw=1.2, alpha=0.75
        )
        if np.isfinite(low):
            ax.plot([low, high], [row, row], color=color, lw=2.2)
        ax.plot([float(iqm(finals))] * 2, [row - 0.3, row + 0.3], color=color, lw=3)
        entry = effects.get(arm.name.removesuffix("~"))
        if entry and entry["effect"] is not None and entry["twin"] == arm.name:
            text = f"{entry['effect']:+.2f}\n[{number(entry['ci'][0])}, {number(entry['ci'][1])}]"
            ax.text(
                1.03, row - 0.5, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9.5, linespacing=1.15
            )
    if any(entry["effect"] is not None for entry in effects.values()):
        ax.text(1.03, 1.1, "effect", transform=ax.transAxes, va="bottom", fontsize=9.5, alpha=0.75)
    # The random level is always shown: beside it differences too small to matter look small.
    for label, value in (("random", judged["random_return"]), ("ceiling", judged["ceiling_return"])):
        low, high = ax.dataLim.intervalx
        if value is not None and (label == "random" or low - 10 * (high - low) <= value <= high + 10 * (high - low)):
            ax.update_datalim([(value, 0)], updatey=False)
            ax.axvline(value, color=INK, lw=1, ls=(0, (2, 3)), alpha=0.7)
            place = ax.get_xaxis_transform()
            ax.text(value, 1.02, label, ha="center", va="bottom", fontsize=9.5, alpha=0.75, transform=place)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.65)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("mean return over the last tenth of the steps")
    ax.grid(axis="x", color=INK, alpha=0.12, lw=0.7)


def learning_svg(environment: Environment, judged: dict[str, Any]) -> str:
    return _svg(lambda ax: draw_learning(ax, environment, judged), 4.9, 3.4, f"learning-{environment.name}")


def twins_svg(environment: Environment, judged: dict[str, Any]) -> str:
    return _svg(
        lambda ax: draw_twins(ax, environment, judged), 4.9, twins_height(environment), f"twins-{environment.name}"
    )


def twins_height(environment: Environment) -> float:
    """Inches that the rows of `draw_twins` need."""
    return 1.3 + 0.42 * len(environment.arms)


def number(value: float | None, digits: int = 2) -> str:
    return "?" if value is None else f"{value:+.{digits}f}"


def short_count(count: float) -> str:
    """96000 -> '96k', 1500000 -> '1.5m', 2e9 -> '2b'; three significant digits."""
    for size, suffix in ((1e9, "b"), (1e6, "m"), (1e3, "k")):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:.3g}{suffix}"
    return f"{count:.3g}"


def _svg(draw: Any, width: float, height: float, salt: str) -> str:
    """The drawing as an inline SVG element in the page's own text colour and font, on a transparent ground."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        ax = figure.subplots()
        ax.patch.set_alpha(0)
        draw(ax)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d{2})\d+", r"\1", path[0]), text)


def _styled(environment: Environment) -> list[tuple[Arm, str, str]]:
    """Arm, colour, dash: one colour an architecture, its twin and other memoryless arms dashed."""
    bases = list(dict.fromkeys(name.removesuffix("~") for name in environment.arms))
    return [
        (arm, COLORS[bases.index(name.removesuffix("~")) % len(COLORS)], "-" if arm.remembers else "--")
        for name, arm in environment.arms.items()
    ]


def _limits(ax: Axes, levels: list[float]) -> None:
    """Room for the levels as well, unless they are so far away that the curves would be flat."""
    low, high = ax.dataLim.intervaly if np.isfinite(ax.dataLim.intervaly).all() else (0.0, 1.0)
    height = max(high - low, 1e-9)
    for level in levels:
        if low - 3 * height <= level <= high + 3 * height or height <= 1e-9:
            low, high = min(low, level), max(high, level)
    margin = 0.06 * max(high - low, 1e-9)
    if high - low < 1e-9:
        margin = 0.5 * max(abs(high), 1.0)
    ax.set_ylim(low - margin, high + margin)


def _label_ends(ax: Axes, lines: list[tuple[float, str, str, str]], budget: int) -> None:
    """Each line's name right of its end, moved apart where they would overlap, with a leader in the line's colour."""
    if not lines:
        return
    low, high = ax.get_ylim()
    lines = sorted(lines)
    step = min(0.068 * (high - low), 1.1 * (high - low) / len(lines))
    places = _spread([value for value, *_ in lines], step, low, high)
    for (value, label, color, dash), place in zip(lines, places, strict=True):
        ends = ([budget, budget * 1.055], [value, place])
        if dash:
            quiet = color == INK
            ax.plot(*ends, color=color, lw=1 if quiet else 1.6, ls=dash, alpha=0.5 if quiet else 1, clip_on=False)
        ax.text(budget * 1.07, place, label, va="center", fontsize=9.5, alpha=0.75 if color == INK else 1)


def _spread(values: list[float], step: float, low: float, high: float) -> list[float]:
    """Ascending values moved as little as may be, so that neighbours are `step` apart and all lie in [low, high]."""
    # Least squares under 'at least step apart' is isotonic regression of what remains without the steps.
    offsets = step * np.arange(len(values))
    placed = isotonic_regression(np.array(values) - offsets).x + offsets
    return list(np.clip(placed, low + offsets, high - offsets[::-1]))
