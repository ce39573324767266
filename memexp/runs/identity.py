"""A run's name is its identity: a run that exists is resumed only with the config that it began with."""

from collections.abc import Iterable
from typing import Any, cast

from memexp.config import UsageError
from memexp.credentials import mask_data
from memexp.runs.directory import Run, RunInfo
from memexp.runs.status import info_of, known, reached

DECIDED = "env.reading."
"""Keys that a run decides at its start where they are not given."""


def refuse_another_experiment(run: Run, config: dict[str, Any], may_change: Iterable[str]) -> None:
    """Raises UsageError if `run` exists with another config, apart from keys or groups in `may_change`.

    Where config.yaml cannot be read, run.json tells what the run is; where neither can, nothing is refused. Nor is it
    for a run that failed before its first update.
    """
    if not run.exists() or not ((run.path / "config.yaml").exists() or reached(run)):
        return
    free = tuple(f"{key}." for key in may_change)
    old, new = _flat(known(lambda: run.config) or {}), _flat(mask_data(config))
    if not old:
        old = _of_info(info_of(run))
        new = {key: value for key, value in new.items() if key in old}
    for key in sorted(old.keys() | new.keys()):
        if key.startswith(DECIDED) and key not in new:
            continue
        if old.get(key) != new.get(key) and not f"{key}.".startswith(free):
            raise UsageError(
                f"run '{run.name}' exists with {key}={old.get(key)}, not {new.get(key)}: resume it as it was, "
                "or give the new run another name"
            )


THEN = ", then "
"""Between the versions of a part of the environment that changed within one run (--force)."""


def refuse_another_environment(run: Run, origin: dict[str, str], forced: bool) -> None:
    """Raises UsageError if `run` has trained in an environment whose code was another, unless `forced`."""
    info = info_of(run)
    if forced or info is None or not info.environment or not reached(run):
        return
    if changes := changes_between(info.environment, origin):
        why = f"run '{run.name}' was trained in another environment: {changes}"
        raise UsageError(f"{why}; give the new run another name, or go on in spite of it: --force")


def recorded_environment(run: Run, origin: dict[str, str]) -> dict[str, str]:
    """What run.json says about the environment: `origin`, or, where a part changed within the run, both versions."""
    info = info_of(run)
    old = (info.environment if info and reached(run) else None) or origin
    recorded = {part: old.get(part, "absent") for part in sorted(old.keys() | origin.keys())}
    for part, before in recorded.items():
        if not before.endswith(now := origin.get(part, "absent")):
            recorded[part] = f"{before}{THEN}{now}"
    return recorded


def changes_between(old: dict[str, str], new: dict[str, str], last: bool = True) -> str:
    """'gymnasium 1.0.0, now 1.2.0; my_env 3f2a, now 9c1b'; '' if both are the same.

    `last`: of a part that changed within the old run, its last version counts.
    """
    parts = sorted(old.keys() | new.keys())
    before = {part: version.rpartition(THEN)[2] if last else version for part, version in old.items()}
    pairs = [(part, before.get(part, "absent"), new.get(part, "absent")) for part in parts]
    return "; ".join(f"{part} {before}, now {after}" for part, before, after in pairs if before != after)


def _of_info(info: RunInfo | None) -> dict[str, Any]:
    """The keys of a config that run.json holds, too."""
    if info is None:
        return {}
    cortex = {f"cortex.{key}": getattr(info, key) for key in ("pattern", "mem_len", "memory")}
    return {**cortex, "seed": info.seed, "trainer.total_timesteps": info.total_timesteps}


def _flat(data: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        is_group = isinstance(value, dict)
        flat |= _flat(cast(dict[str, Any], value), f"{above}{key}.") if is_group else {above + key: value}
    return flat
