"""Drawing for the dashboard: colours, marks of states, bars, sparklines and curves."""

import math
import re
from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from memexp.formatting import percent
from memexp.runs.status import State

BLUE, GREEN, ORANGE, RED, PINK = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
"""Okabe and Ito's colours, which colour-blind people can tell apart. A mark or word always says the same."""
MARKS = {
    State.COMPLETED: ("✓", GREEN),
    State.RUNNING: ("●", BLUE),
    State.STARTING: ("◌", BLUE),
    State.STALLED: ("◍", ORANGE),
    State.PREEMPTED: ("‖", PINK),
    State.CANCELLED: ("○", PINK),
    State.INTERRUPTED: ("◔", ORANGE),
    State.FAILED: ("✗", RED),
    State.NEW: ("·", "dim"),
}
"""Mark and style of each state that a run directory can show, in the order in which they are counted."""
LEVELS = "▁▂▃▄▅▆▇"
EIGHTHS_UP = f" {LEVELS}█"
EIGHTHS = " ▏▎▍▌▋▊▉"
LETTERS, PALETTE = "abcdefgh", (BLUE, ORANGE, GREEN, PINK, RED)
"""Marks and colours of curves over one another."""
Range = tuple[float, float]


def state(which: State) -> Text:
    mark, style = MARKS[which]
    return Text(f"{mark} {which}", style)


def bar(share: float, width: int, style: str, rest: str = "bright_black") -> Text:
    """A thin progress bar."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return Text.assemble(("━" * full, style), ("─" * (width - full), Style.parse(rest) + Style(dim=True)))


def block_bar(share: float, width: int, tick: float | None = None) -> Text:
    """A solid bar, exact to an eighth of a character. A line marks the share `tick`."""
    eighths = max(round(min(max(share, 0.0), 1.0) * width * 8), int(share > 0))
    cells = ("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(width)
    if tick is None:
        return Text.assemble((cells, BLUE))
    at = min(width - 1, max(0, round(tick * width) - 1))
    return Text.assemble(
        (cells[:at], BLUE), ("│", f"reverse {BLUE}" if cells[at] == "█" else ""), (cells[at + 1 :], BLUE)
    )


def split_bar(parts: dict[str, float], width: int) -> Text:
    """One bar of several parts, each with its own texture and colour, and a legend with their shares."""
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
    """The range from the lowest to the highest known value; never empty."""
    known = [value for value in (*values, *levels) if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def sparkline(values: Sequence[float | None], within: Range, style: str = BLUE) -> Text:
    """One character a value; a space if it is not known."""
    low, high = within
    top = len(LEVELS) - 1
    height = [None if v is None or not math.isfinite(v) else round(top * (v - low) / (high - low)) for v in values]
    return Text("".join(" " if h is None else LEVELS[min(max(h, 0), top)] for h in height), style)


def chart(values: Sequence[float | None], within: Range, height: int, levels: dict[str, float]) -> list[Text]:
    """The area below a curve in `height` lines of text, one character a value, with dotted lines at `levels`."""
    low, high = within
    known = [None if v is None or math.isnan(v) else min(max(v, low), high) for v in values]
    tall = [None if v is None else (v - low) / (high - low) * height for v in known]
    ruled = {min(int((v - low) / (high - low) * height), height - 1): name for name, v in levels.items()}
    lines: list[Text] = []
    for y in reversed(range(height)):
        ground = "┈" if y in ruled else " "
        eighths = [0 if t is None else min(max(math.ceil(8 * (t - y)), 0), 8) for t in tall]
        cells = "".join(EIGHTHS_UP[e] if e else ground for e in eighths)
        lines.append(_chart_line(cells, ruled.get(y)))
    return lines


def overlay(curves: Sequence[Sequence[float | None]], within: Range, height: int) -> list[Text]:
    """Curves over one another in `height` lines of text, one character a value. Each has a letter of LETTERS and a
    colour; where several meet there is a '+'."""
    low, high = within
    cells: dict[tuple[int, int], list[int]] = {}
    for number, curve in enumerate(curves):
        for x, value in enumerate(curve):
            if value is not None and math.isfinite(value):
                y = round((height - 1) * (min(max(value, low), high) - low) / (high - low))
                cells.setdefault((x, y), []).append(number)
    width = max(map(len, curves), default=0)
    rows = ([cells.get((x, y), []) for x in range(width)] for y in reversed(range(height)))
    return [Text().join(mark(here) for here in row) for row in rows]


def mark(curves: Sequence[int]) -> Text:
    """The character of one curve, of several, or of none."""
    if not curves:
        return Text(" ")
    one = curves[0] if len(curves) == 1 else None
    return Text("+") if one is None else Text(LETTERS[one], PALETTE[one % len(PALETTE)])


def _chart_line(cells: str, level: str | None) -> Text:
    """One line of the chart, with the name of its level at the end."""
    text = Text.assemble((cells, BLUE))
    for dots in re.finditer("┈+", cells):
        text.stylize("bright_black", *dots.span())
    return text.append(f" {level}" if level else "", "bright_black")
