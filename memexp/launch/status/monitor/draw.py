"""What the dashboard is drawn with: colours, marks of states, numbers, bars, sparklines and curves."""

import math
import re
from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from memexp.launch.status.monitor.look import State
from memexp.launch.status.status import duration

BLUE, GREEN, ORANGE, RED, PINK = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
"""Okabe and Ito's colours, which people of any colour vision tell apart; none has a meaning without a mark or word."""
DASH = "–"
"""Not known."""
MARKS: dict[State, tuple[str, str]] = {
    "completed": ("✓", GREEN),
    "running": ("●", BLUE),
    "starting": ("◌", BLUE),
    "stalled": ("◍", ORANGE),
    "preempted": ("‖", PINK),
    "cancelled": ("○", PINK),
    "interrupted": ("◔", ORANGE),
    "failed": ("✗", RED),
    "waiting": ("·", "dim"),
}
"""Mark and style of a state, in the order in which states are counted."""
LEVELS = "▁▂▃▄▅▆▇"
EIGHTHS_UP = f" {LEVELS}█"
EIGHTHS = " ▏▎▍▌▋▊▉"
Range = tuple[float, float]


def state(which: State) -> Text:
    mark, style = MARKS[which]
    return Text(f"{mark} {which}", style)


def number(value: float | None) -> str:
    """Three digits or so: 0.934, 13.4, 1,234."""
    if value is None or not math.isfinite(value):
        return DASH
    decimals = max(0, 2 - max(0, math.floor(math.log10(abs(value))))) if value else 2
    return f"{value:,.{min(decimals, 2)}f}"


def percent(share: float | None) -> str:
    """0.624 -> '62 %'; below ten percent two digits, since the rare first success is what one waits for."""
    if share is None or not math.isfinite(share):
        return DASH
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.0995 else f"{100 * share:.2g} %"


def steps(count: float) -> str:
    """Agent steps in three digits: 12,345 -> '12.3k', 1.2e9 -> '1.20b'."""
    for unit, suffix in ((1e9, "b"), (1e6, "m"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{suffix}"
    return f"{count:.0f}"


def time_left(seconds: float | None) -> str:
    return duration(seconds) or DASH


def bar(share: float, width: int, style: str, rest: str = "bright_black") -> Text:
    """A thin progress bar."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return Text.assemble(("━" * full, style), ("─" * (width - full), Style.parse(rest) + Style(dim=True)))


def block_bar(share: float, width: int, tick: float | None = None) -> Text:
    """A solid bar to an eighth of a character; `tick` marks another share with a line."""
    eighths = max(round(min(max(share, 0.0), 1.0) * width * 8), int(share > 0))
    cells = ("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(width)
    if tick is None:
        return Text.assemble((cells, BLUE))
    at = min(width - 1, max(0, round(tick * width) - 1))
    return Text.assemble(
        (cells[:at], BLUE), ("│", f"reverse {BLUE}" if cells[at] == "█" else ""), (cells[at + 1 :], BLUE)
    )


def split_bar(parts: dict[str, float], width: int) -> Text:
    """One bar of several parts, each with a texture and colour of its own, and what share each has."""
    total = sum(parts.values()) or 1.0
    styles = list(zip("█▓▒░", (BLUE, GREEN, ORANGE, PINK), strict=True))
    bar, legend, drawn, end = Text(), Text(), 0, 0.0
    for (part, seconds), (texture, style) in zip(parts.items(), styles, strict=False):
        end += seconds / total * width
        bar.append(texture * (round(end) - drawn), style)
        drawn = round(end)
        legend.append("  ").append(texture, style).append(f" {part} {percent(seconds / total)}")
    return bar + legend


def span(values: Sequence[float | None], levels: Sequence[float | None]) -> Range:
    """From the lowest to the highest of what is known."""
    known = [value for value in (*values, *levels) if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def sparkline(values: Sequence[float | None], within: Range, style: str = BLUE) -> Text:
    """A character a value; where none is known, a space."""
    low, high = within
    top = len(LEVELS) - 1
    height = [None if v is None or not math.isfinite(v) else round(top * (v - low) / (high - low)) for v in values]
    return Text("".join(" " if h is None else LEVELS[min(max(h, 0), top)] for h in height), style)


def chart(values: Sequence[float | None], within: Range, height: int, levels: dict[str, float]) -> list[Text]:
    """What lies below a curve, a character a value, before dotted lines at `levels`; `height` lines of text."""
    low, high = within
    known = [None if v is None or math.isnan(v) else min(max(v, low), high) for v in values]
    tall = [None if v is None else (v - low) / (high - low) * height for v in known]
    ruled = {min(int((v - low) / (high - low) * height), height - 1): name for name, v in levels.items()}
    lines = []
    for y in reversed(range(height)):
        ground = "┈" if y in ruled else " "
        eighths = [0 if t is None else min(max(math.ceil(8 * (t - y)), 0), 8) for t in tall]
        cells = "".join(EIGHTHS_UP[e] if e else ground for e in eighths)
        lines.append(_chart_line(cells, ruled.get(y)))
    return lines


def _chart_line(cells: str, level: str | None) -> Text:
    """The curve stands out from the dotted line, which is named at its end."""
    text = Text.assemble((cells, BLUE))
    for dots in re.finditer("┈+", cells):
        text.stylize("bright_black", *dots.span())
    return text.append(f" {level}" if level else "", "bright_black")
