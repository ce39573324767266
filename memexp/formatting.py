"""Numbers and foreign text for tables, pages and messages. What is not known (None, NaN) is a dash."""

import math
import re
from collections.abc import Iterable

DASH = "–"
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Characters that a terminal or browser obeys or cannot encode: escapes, changes of direction, halves of pairs."""


def printable(text: str) -> str:
    """`text` with one visible character for each control character: ESC -> '␛'. Tabs and line ends stay."""
    return _CONTROL.sub(lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\ufffd", text)


def shortened(text: str, most_lines: int = 20, most_characters: int = 1000) -> str:
    """`text` with at most so many lines, and characters in each: the middle is left out, as an error's end says why."""
    half, start = most_characters // 2, most_lines // 2
    lines = [x if len(x) <= most_characters else f"{x[:half]} ... {x[-half:]}" for x in text.split("\n")]
    if (more := len(lines) - most_lines) > 0:
        lines = [*lines[:start], f"... {counted(more, 'more line')} ...", *lines[-start:]]
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """36 -> '36s', 75 -> '1m15s', 4000 -> '1h06m', 4.5e6 -> '1,250h'."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours:,}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def hours_text(hours: float, decimals: int, unit: str = "") -> str:
    """2.15 -> '2.15' and `unit`; below 0.1 a duration: 0.004 -> '14s', 0 -> '0s'."""
    return f"{hours:,.{decimals}f}{unit}" if hours >= 0.1 else duration(3600 * hours)


def dollars(amount: float | None) -> str:
    """0.123 -> '$0.12', 11.5 -> '$11.50', 1234.5 -> '$1,234'."""
    if amount is None or not math.isfinite(amount):
        return DASH
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


def percent(share: float | None) -> str:
    """0.624 -> '62 %', 0.0003 -> '0.03 %': two digits below ten percent, because the first successes are rare."""
    if share is None or not math.isfinite(share):
        return DASH
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.0995 else f"{100 * share:.2g} %"


def number(value: float | None) -> str:
    """About three digits: 0.93456 -> '0.93', 13.44 -> '13.4', 1234.5 -> '1,234'."""
    if value is None or not math.isfinite(value):
        return DASH
    decimals = max(0, 2 - max(0, math.floor(math.log10(abs(value))))) if value else 2
    return f"{value:,.{min(decimals, 2)}f}"


def short_count(count: float) -> str:
    """Three digits and k, m or b, as KEY=VALUE takes them: 12345 -> '12.3k', 1500000 -> '1.5m', 2e9 -> '2b'."""
    for size, suffix in ((1e9, "b"), (1e6, "m"), (1e3, "k")):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:.3g}{suffix}"
    return f"{count:.3g}"


def with_prefix(value: float) -> str:
    """Three digits and the SI prefix of the unit that follows: 2228224 -> '2.23 M', 4096 -> '4.10 k', 40 -> '40 '."""
    power = 0
    while value >= 999.5 and power < 4:
        value, power = value / 1000, power + 1
    decimals = 0 if not power or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{decimals}f} {('', 'k', 'M', 'G', 'T')[power]}"


def counted(count: int, noun: str) -> str:
    """'1 seed', '4 seeds', '1,200 runs'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def ranges(numbers: Iterable[int], shortest: int = 2) -> str:
    """[0, 1, 2, 5] -> '0-2, 5'. Fewer than `shortest` numbers in a row are listed one by one."""
    spans: list[list[int]] = []
    for one in sorted(numbers):
        if spans and one == spans[-1][-1] + 1:
            spans[-1].append(one)
        else:
            spans.append([one])
    texts = [[f"{span[0]}-{span[-1]}"] if len(span) >= shortest else map(str, span) for span in spans]
    return ", ".join(text for some in texts for text in some)
