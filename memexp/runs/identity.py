"""A run's name is its identity: a run that exists is resumed only with the config that it began with."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, cast

from memexp.config import UsageError
from memexp.credentials import mask_data
from memexp.runs.directory import Run, RunInfo
from memexp.runs.status import info_of, known, reached

Versions = Mapping[str, str]
"""Part of an environment -> its version, or the hash of its source."""
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
    old, new = flat(known(lambda: run.config) or {}), flat(mask_data(config))
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


def changes_between(old: Versions, new: Versions, last: bool = True) -> str:
    """'gymnasium 1.0.0, now 1.2.0; my_env 3f2a, now 9c1b'; '' if both are the same.

    `last`: of a part that changed within the old run, its last version counts.
    """
    before = {part: version.rpartition(THEN)[2] if last else version for part, version in old.items()}
    return changes_text(apart(before, new))


def changes_text(changes: Mapping[str, tuple[str, str]]) -> str:
    return "; ".join(f"{part} {before}, now {after}" for part, (before, after) in changes.items())


def apart(one: Versions, other: Versions, shared: bool = False) -> dict[str, tuple[str, str]]:
    """Part -> its two versions, where they differ; 'absent' is one of them. `shared`: only of parts that both have."""
    parts = one.keys() & other.keys() if shared else one.keys() | other.keys()
    both = {part: (one.get(part, "absent"), other.get(part, "absent")) for part in sorted(parts)}
    return {part: versions for part, versions in both.items() if len(set(versions)) > 1}


def environments_apart(one: RunInfo, other: RunInfo) -> dict[str, tuple[str, str]]:
    """What differs between the environments of two runs; nothing is known of a run that does not say it.

    Arms may differ in wrappers on purpose, but never in the version of a part that both have.
    """
    first, second = one.environment or {}, other.environment or {}
    same_arm = one.arm.removesuffix("~") == other.arm.removesuffix("~")
    return apart(first, second, shared=not (same_arm and first and second))


def different_environments(infos: Iterable[RunInfo]) -> str:
    """'my_env 3f2a or 9c1b', if runs in environments of one name trained in different ones; else ''."""
    kinds = {(info.arm.removesuffix("~"), str(info.environment)): info for info in infos}
    found: dict[str, tuple[str, str]] = {}
    for one, other in combinations(kinds.values(), 2):
        found |= environments_apart(one, other)
    return "; ".join(f"{part} {' or '.join(versions)}" for part, versions in found.items())


def _of_info(info: RunInfo | None) -> dict[str, Any]:
    """The keys of a config that run.json holds, too."""
    if info is None:
        return {}
    cortex = {f"cortex.{key}": getattr(info, key) for key in ("pattern", "mem_len", "memory")}
    return {**cortex, "seed": info.seed, "trainer.total_timesteps": info.total_timesteps}


def flat(data: dict[str, Any], above: str = "") -> dict[str, Any]:
    """{"trainer": {"gamma": 0.9}} as {"trainer.gamma": 0.9}; `above` precedes every key."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        is_group = isinstance(value, dict)
        found |= flat(cast(dict[str, Any], value), f"{above}{key}.") if is_group else {above + key: value}
    return found
