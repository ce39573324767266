"""Numbers and verdicts as words, the same in the page, the appendix, the pictures and the terminal."""

import math
import re
from collections.abc import Iterable
from itertools import chain, count

from memexp.analysis.verdicts import MemoryKind

VERDICT_TEXTS = {
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


def kind_text(kind: MemoryKind) -> str:
    """'required', 'helps', 'not needed', 'undecided'."""
    return kind.replace("_", " ")


def title_of(name: str, kind: MemoryKind) -> str:
    """'tmaze requires memory', 'tmaze: undecided'."""
    text = VERDICT_TEXTS[kind]
    return f"{name} {text}" if kind in (MemoryKind.REQUIRED, MemoryKind.NOT_NEEDED) else f"{name}: {text}"


def joined(names: Iterable[str]) -> str:
    """'S', 'S and X', 'S, X and L'."""
    *most, last = list(names) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def duration(hours: float | None) -> str:
    """0.01 -> '36 s', 0.2 -> '12 min', 3.4 -> '3.4 h'."""
    if hours is None:
        return "–"
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:,.3g} h" if hours < 1000 else f"{hours:,.0f} h"


def dollars(amount: float | None) -> str:
    """1234.5 -> '$1,235', 0.123 -> '$0.12'; '–' where not known."""
    if amount is None:
        return "–"
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


def number(value: float | None, digits: int = 2) -> str:
    """+0.98, never -0.00; '?' where not known."""
    return "?" if value is None or not math.isfinite(value) else f"{round(value, digits) + 0.0:+.{digits}f}"


def interval(ends: tuple[float, float], digits: int = 2) -> str:
    """'[+0.97, +1.00]'; nothing where neither end is known."""
    if not any(map(math.isfinite, ends)):
        return ""
    return f"[{', '.join(number(end, digits) for end in ends)}]"


def share(value: float) -> str:
    """0.123 -> '12 %', 0.0003 -> '0.03 %', 0 -> '0 %'."""
    return f"{100 * value:.2g} %" if value < 0.095 else f"{value:.0%}".replace("%", " %")


def short_count(count: float) -> str:
    """96000 -> '96k', 1500000 -> '1.5m', 2e9 -> '2b'; three significant digits."""
    for size, suffix in ((1e9, "b"), (1e6, "m"), (1e3, "k")):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:.3g}{suffix}"
    return f"{count:.3g}"


def counted(number: int, noun: str) -> str:
    """'1 seed', '4 seeds'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
