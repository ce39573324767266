"""Numbers and verdicts as words, the same in the page, the appendix, the pictures and the terminal."""

import re
from collections.abc import Iterable
from itertools import chain, count
from typing import Any

from memexp import formatting
from memexp.formatting import counted as counted
from memexp.formatting import dollars as dollars
from memexp.formatting import percent as share  # noqa: F401 (a percentage in a sentence)
from memexp.formatting import short_count as short_count

VERDICT_WORDS = {
    "required": "requires memory",
    "helps": "memory helps",
    "not_needed": "needs no memory",
    "undecided": "undecided",
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


def title_of(name: str, judged: dict[str, Any]) -> str:
    """'tmaze requires memory', 'tmaze: undecided'."""
    words = VERDICT_WORDS[judged["memory"]["verdict"]]
    return f"{name} {words}" if words.endswith("s memory") or words.startswith("needs") else f"{name}: {words}"


def duration(hours: float | None) -> str:
    """0.01 -> '36s', 0.2 -> '12m00s', 3.44 -> '3h26m'; '–' where not known."""
    return formatting.duration(None if hours is None else 3600 * hours)


def number(value: float | None, digits: int = 2) -> str:
    """+0.98, never -0.00; '?' where not known."""
    return "?" if value is None else f"{round(value, digits) + 0.0:+.{digits}f}"


def interval(ends: list[float | None] | None, digits: int = 2) -> str:
    """'[+0.97, +1.00]'; nothing where neither end is known."""
    if not ends or all(end is None for end in ends):
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
