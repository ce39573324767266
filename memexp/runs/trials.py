"""Which of the settings that were tried is the best: for the launch that runs it, and for the report that names it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Settings = Mapping[str, Any]
"""Dotted key -> value."""


def best_first(
    trials: Iterable[tuple[Settings, Sequence[float | None]]], own: Settings
) -> list[tuple[Settings, float]]:
    """(settings, mean of their final returns), the highest first; of equal ones first the nearest to `own`.

    Settings with a run that has no final return, because it failed or is not completed, cannot win and are left out.
    """
    whole = [(one, [value for value in finals if value is not None]) for one, finals in trials if None not in finals]
    means = [(one, sum(finals) / len(finals)) for one, finals in whole if finals and all(map(math.isfinite, finals))]
    return sorted(means, key=lambda pair: (-round(pair[1], 9), _distance(pair[0], own)))


def _distance(settings: Settings, own: Settings) -> float:
    """How far settings are apart: numbers by their ratio, anything else by being equal or not."""
    return sum(_apart(value, own.get(key)) for key, value in settings.items())


def _apart(value: Any, own: Any) -> float:
    if value == own:
        return 0.0
    if not all(isinstance(one, (int, float)) for one in (value, own)):
        return 1.0
    return abs(math.log(value / own)) if value > 0 and own > 0 else abs(value - own)
