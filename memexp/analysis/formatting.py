"""Verdicts, effects and file names as text. Durations, dollars and counts are in `memexp.formatting`."""

import math
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import chain, count

from memexp import formatting
from memexp.analysis.verdicts import MemoryKind

TITLES = {
    MemoryKind.REQUIRED: "{} requires memory",
    MemoryKind.HELPS: "{}: memory helps",
    MemoryKind.NOT_NEEDED: "{} needs no memory",
    MemoryKind.UNDECIDED: "{}: undecided",
}
SYMBOLS = {
    "required": "●",
    "helps": "◐",
    "not_needed": "○",
    "learned": "✓",
    "converged": "✓",
    "not_learned": "✗",
    "collapsed": "✗",
    "improving": "↗",
    "undecided": "?",
}


def kind_text(kind: StrEnum) -> str:
    """A verdict as text: 'required', 'not needed', 'too early'."""
    return kind.replace("_", " ")


def title_of(name: str, kind: MemoryKind) -> str:
    """'tmaze requires memory', 'tmaze: undecided'."""
    return TITLES[kind].format(name)


def joined(names: Iterable[str]) -> str:
    """'S', 'S and X', 'S, X and L'."""
    *most, last = list(names) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def names_text(names: Sequence[str], most: int = 3) -> str:
    """The first `most` names: 'a, b, c and 2 more'."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def hours_text(hours: float | None) -> str:
    """0.01 -> '36s', 0.2 -> '12m00s', 3.44 -> '3h26m'; '–' where not known."""
    return formatting.duration(None if hours is None else 3600 * hours)


def number(value: float | None, digits: int = 2) -> str:
    """+0.98, never -0.00; '?' where not known."""
    return "?" if value is None or not math.isfinite(value) else f"{round(value, digits) + 0.0:+.{digits}f}"


def interval(ends: tuple[float, float], digits: int = 2) -> str:
    """'[+0.97, +1.00]'; nothing where neither end is known."""
    if not any(map(math.isfinite, ends)):
        return ""
    return f"[{', '.join(number(end, digits) for end in ends)}]"


def file_names(texts: Iterable[str]) -> dict[str, str]:
    """A name of its own for each text: those that `file_name` makes alike are numbered."""
    names: dict[str, str] = {}
    for text in texts:
        name, taken = file_name(text), set(names.values())
        names[text] = next(one for one in chain([name], (f"{name}-{n}" for n in count(2))) if one not in taken)
    return names


def file_name(text: str) -> str:
    """`text` with only letters, digits, '-', '_' and '.'."""
    return re.sub(r"[^-_.A-Za-z0-9]+", "-", text).strip("-.") or "report"
