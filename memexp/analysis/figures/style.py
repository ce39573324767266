"""What all pictures share: colours, sizes, and labels that do not overlap.

The colours are those of Okabe and Ito, which work with any colour vision. In a page every colour is a CSS variable
(`--arm-0`, ...) and INK is the text colour, so that pictures work on light and on dark pages.
"""
# Matplotlib gives no types for its keyword arguments.
# pyright: reportUnknownMemberType=false

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from memexp.analysis.answer import EnvironmentAnswer
from memexp.analysis.seeds import Arm, Environment

warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)  # a name may have signs that the font lacks
INK = "#010203"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
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
    "path.simplify_threshold": 0.5,
    "legend.frameon": False,
}
QUIET = (0, (2, 3))  # Dash pattern of reference levels
LONGEST = 25  # Most letters of a name in a picture
LETTER = 0.074  # Width of a letter of 9.5 points, inches
Line = tuple[float, str, str, str]  # Value at the right end, name, colour, dash


@dataclass(frozen=True)
class Size:
    """Height of the axes and the margins around them, inches."""

    height: float
    left: float = 0.62
    right: float = 0.15
    bottom: float = 0.52
    top: float = 0.12

    @property
    def width(self) -> float:
        """Width of the axes."""
        return 5.6 - self.left - self.right


@dataclass(frozen=True)
class Picture:
    """One kind of picture of an environment."""

    name: str
    title: str
    caption: str
    draw: Callable[[Axes, EnvironmentAnswer], None]
    alt: Callable[[EnvironmentAnswer], str]  # What it shows, as text for readers who cannot see it
    size: Callable[[Environment], Size]
    shown: Callable[[EnvironmentAnswer], bool] = lambda answer: True  # Whether there is anything to draw


def figure_of(picture: Picture, answer: EnvironmentAnswer, top: float = 0.0) -> Figure:
    """The picture, with a margin of `top` inches above it."""
    size = picture.size(answer.environment)
    width, height = size.left + size.width + size.right, size.bottom + size.height + size.top + top
    figure = Figure(figsize=(width, height))
    place = (size.left / width, size.bottom / height, size.width / width, size.height / height)
    picture.draw(figure.add_axes(place), answer)
    return figure


def svg_of(picture: Picture, answer: EnvironmentAnswer) -> str:
    """The picture as an inline SVG element in the page's own colours and font, on a transparent background."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": f"{picture.name}-{answer.environment.name}"}):
        figure = figure_of(picture, answer)
        figure.patch.set_alpha(0)
        figure.axes[0].patch.set_alpha(0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for number, color in enumerate(COLORS):
        text = text.replace(color, f"var(--arm-{number})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), text)
    return re.sub(r">\s+<", "><", text)


def styled(environment: Environment) -> list[tuple[Arm, str, str]]:
    """Arm, colour, dash. Each architecture has one colour; its twin and other memoryless arms are dashed."""
    own = (arm.base for arm in environment.arms.values())
    bases = list(dict.fromkeys((*environment.architectures, *own)))
    return [
        (arm, COLORS[bases.index(arm.base) % len(COLORS)], "-" if arm.remembers else "-." if arm.info.twin_of else "--")
        for arm in environment.arms.values()
    ]


def face(color: str, dash: str) -> str:
    """The face of a dot: open for arms without memory."""
    return color if dash == "-" else "none"


def levels(environment: Environment) -> list[tuple[str, float]]:
    """(name, return) of the reference levels. A level that equals the ceiling has no line of its own."""
    ceiling, memoryless = environment.ceiling, environment.memoryless
    top = "ceiling" if ceiling is None or memoryless != ceiling else "ceiling = memoryless"
    known = [("random policy", environment.random_mean), (top, ceiling)]
    others = (("memoryless", memoryless), ("full sight", environment.oracle))
    known += [(name, value) for name, value in others if value != ceiling]
    return [(name, value) for name, value in known if value is not None]


def shortened(name: str) -> str:
    """`name`; the middle of a long name is left out."""
    half = (LONGEST - 1) // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[-half:]}"


def label_room(labels: Sequence[str]) -> float:
    """Width that names of 9.5 points need beside the axes, inches."""
    return 0.32 + LETTER * max((len(shortened(label)) for label in labels), default=0)


def label_ends(ax: Axes, lines: Sequence[Line]) -> None:
    """Write names beside the ends of lines; those that would overlap move apart. With a dash, a leader joins them."""
    if not lines:
        return
    (low, high), (left, right) = ax.get_ylim(), ax.get_xlim()
    lines = sorted(lines)
    inches = ax.get_window_extent().height / ax.figure.dpi
    step = min(0.17 / inches * (high - low), 1.1 * (high - low) / len(lines))
    places = spread([min(max(value, low), high) for value, *_ in lines], step, low, high)
    for (value, label, color, dash), place in zip(lines, places, strict=True):
        ends = ([right, right + 0.055 * (right - left)], [value, place])
        quiet = color == INK
        if dash:
            ax.plot(*ends, color=color, lw=1 if quiet else 1.6, ls=dash, alpha=0.5 if quiet else 1, clip_on=False)
        at = right + 0.07 * (right - left)
        ax.text(at, place, label, va="center", fontsize=9.5, alpha=0.75 if quiet else 1)
    ax.set_xlim(left, right)
    ax.set_ylim(low, high)


def spread(values: list[float], step: float, low: float, high: float) -> list[float]:
    """Ascending values, moved as little as possible so that they are `step` apart and lie in [low, high]."""
    # Least squares with neighbours at least `step` apart is the isotonic regression of the values minus the steps.
    offsets = step * np.arange(len(values))
    placed = isotonic_regression(np.array(values) - offsets).x + offsets
    return list(np.clip(placed, low + offsets, high - offsets[::-1]))


def mark(ax: Axes, value: float, label: str) -> None:
    """A vertical reference line, with its name above the axes."""
    ax.axvline(value, color=INK, lw=1, ls=QUIET, alpha=0.7)
    place = ax.get_xaxis_transform()
    ax.text(value, 1.01, label, ha="center", va="bottom", fontsize=9.5, alpha=0.75, transform=place)


def grid(ax: Axes, axis: Any) -> None:
    """A pale grid behind the picture."""
    ax.set_axisbelow(True)
    ax.grid(axis=axis, color=INK, alpha=0.12, lw=0.7)


def legend(ax: Axes) -> None:
    """A legend to the right of the axes."""
    lines, names = ax.get_legend_handles_labels()
    names = [shortened(name) for name in names]
    ax.legend(
        lines, names, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9.5, borderaxespad=0, handlelength=1.8
    )


def rows_of_text(ax: Axes, names: Sequence[str]) -> None:
    """Named rows from the top down, without an axis line."""
    ax.set_yticks(range(len(names)), [shortened(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
