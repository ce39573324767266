"""A run's name is its identity: a run that exists is resumed only with the config that it began with."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, cast

from memexp.config import UsageError
from memexp.credentials import mask_data
from memexp.runs.directory import Run, RunInfo
from memexp.runs.status import info_of, known, reached

Versions = Mapping[str, str]
"""Part of an environment, or of the cells -> its version, or the hash of its source."""
Code = Mapping[str, Versions]
CODE = {"environment": ("in another environment", "its environment"), "cells": ("with other cells", "its cells")}
"""Fields of run.json with the versions of a run's code; how a sentence names another one, and the run's own."""
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
"""Between the versions of a part of the code that changed within one run (--force)."""


def refuse_other_code(run: Run, code: Code, forced: bool) -> None:
    """Raises UsageError if `run` has trained with other code of its environment or its cells, unless `forced`."""
    info = info_of(run)
    if forced or info is None or not reached(run):
        return
    differences = [
        f"{where}: {changes}"
        for what, (where, _) in CODE.items()
        if (old := getattr(info, what)) and (changes := changes_between(old, code.get(what, {})))
    ]
    if differences:
        why = f"run '{run.name}' was trained {', and '.join(differences)}"
        raise UsageError(f"{why}; --force goes on in spite of it, and another name begins a new run")


def recorded_code(run: Run, code: Code) -> dict[str, dict[str, str]]:
    """What run.json says about the code: `code`, or, where a part changed within the run, both versions."""
    info = info_of(run)
    recorded: dict[str, dict[str, str]] = {}
    for what, new in code.items():
        old = (getattr(info, what) if info and reached(run) else None) or new
        known = {part: (old.get(part, "absent"), new.get(part, "absent")) for part in sorted(old.keys() | new.keys())}
        recorded[what] = {
            part: before if before.endswith(now) else f"{before}{THEN}{now}" for part, (before, now) in known.items()
        }
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


def code_apart(one: RunInfo, other: RunInfo) -> dict[str, tuple[str, str]]:
    """What differs between the code of two runs in one environment; nothing is known of a run that does not say it.

    Arms may differ in wrappers and cells on purpose, but never in the version of a part of the environment that both
    have.
    """
    first, second = one.environment or {}, other.environment or {}
    same_arm = one.arm.removesuffix("~") == other.arm.removesuffix("~")
    cells = apart(one.cells, other.cells) if same_arm and one.cells and other.cells else {}
    return apart(first, second, shared=not (same_arm and first and second)) | cells


def different_code(infos: Iterable[RunInfo]) -> str:
    """'my_env 3f2a or 9c1b', if runs in environments of one name trained with different code; else ''."""
    kinds = {(info.arm.removesuffix("~"), str(info.environment), str(info.cells)): info for info in infos}
    found: dict[str, tuple[str, str]] = {}
    for one, other in combinations(kinds.values(), 2):
        found |= code_apart(one, other)
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
