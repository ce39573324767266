"""A run's name is its identity: a run that exists is resumed only with the config that it began with."""

from collections.abc import Iterable
from typing import Any, cast

from memexp.config import UsageError
from memexp.credentials import mask_data
from memexp.runs.directory import Run


def refuse_another_experiment(run: Run, config: dict[str, Any], may_change: Iterable[str]) -> None:
    """Raises UsageError if `run` exists with another config, apart from keys or groups in `may_change`."""
    if not run.exists():
        return
    free = tuple(f"{key}." for key in may_change)
    old, new = _flat(run.config), _flat(mask_data(config))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not f"{key}.".startswith(free):
            raise UsageError(
                f"run '{run.name}' exists with {key}={old.get(key)}, not {new.get(key)}: resume it as it was, "
                "or give the new run another name"
            )


def _flat(data: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        is_group = isinstance(value, dict)
        flat |= _flat(cast(dict[str, Any], value), f"{above}{key}.") if is_group else {above + key: value}
    return flat
