"""Builds what the runs of a launch name, before any is launched: a misspelt class costs one line, not seventy jobs.

A process of its own makes each environment and each stack once, and trains them for one update (`memexp.ppo.build`).
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import memexp
from memexp.config import UsageError, path_in
from memexp.envs.config import ThirdParty
from memexp.launch import Terminal
from memexp.launch.local import environment_of, kill_tree
from memexp.launch.plan.run_spec import RunSpec
from memexp.pattern import cell_modules
from memexp.runs.scribe import end_with

LIMIT_S = 300.0
"""Seconds for the first environment or stack; each further one has a quarter of it."""


def build(specs: Sequence[RunSpec], terminal: Terminal) -> list[str]:
    """Build each distinct environment and stack of the runs; returns the modules of their environments.

    Raises UsageError with a line for each that cannot be built, or not in time.
    """
    marked = [(spec, mark) for spec in _distinct(specs) if not ((mark := _mark(spec)) and mark.exists())]
    todo = [spec for spec, _ in marked]
    if not todo:
        return []
    terminal.note(f"building {', '.join(_name(spec) for spec in todo)} (--no-build skips this)")
    answers, end = _answers(todo)
    found = [
        f"{_name(spec)}: {' '.join(answer['error'].split())}"
        for spec, answer in zip(todo, answers, strict=False)
        if answer["error"]
    ]
    if len(answers) < len(todo):
        found.append(f"{_name(todo[len(answers)])}: {end}")
    if found:
        raise UsageError("\n".join(dict.fromkeys(found)))
    for mark in [mark for _, mark in marked if mark]:
        with suppress(OSError):  # without a cache the next launch builds it again
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
    return sorted({module for answer in answers for module in answer["modules"]})


def _answers(todo: Sequence[RunSpec]) -> tuple[list[dict[str, Any]], str]:
    """What the process answered, and how it ended where answers are missing."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "memexp.ppo.build"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment_of(0, 1, 1),
        preexec_fn=partial(end_with, os.getpid(), signal.SIGTERM),
    )
    limit = LIMIT_S * (3 + len(todo)) / 4
    try:
        out, err = process.communicate(json.dumps([spec.config.model_dump() for spec in todo]), timeout=limit)
        last = (err.strip().splitlines() or [""])[-1]
        end = f"its process ended with exit code {process.returncode} {last}".strip()
    except subprocess.TimeoutExpired:
        kill_tree(process.pid)
        out, _ = process.communicate()
        end = f"not built after {limit:.0f} s"
    return [json.loads(line) for line in out.splitlines()], end


def _distinct(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Runs that have, together, every environment and every stack. A twin has the stack of its architecture."""
    seen, chosen = set[str](), list[RunSpec]()
    for spec in specs:
        config = spec.config
        keys = {config.env.model_dump_json(), config.cortex.model_dump_json(exclude={"memory"})}
        if not keys <= seen:
            seen |= keys
            chosen.append(spec)
    return chosen


def _name(spec: RunSpec) -> str:
    return f"{spec.env} with {spec.config.arm}"


def _mark(spec: RunSpec) -> Path | None:
    """A file in the user's cache: this environment and stack were built with these sources.

    None if not all of it is memexp's own.
    """
    config = spec.config
    if isinstance(config.env, ThirdParty) or cell_modules(config.cortex.pattern):
        return None
    parts = config.env.model_dump_json(), config.cortex.model_dump_json(), config.policy.model_dump_json(), _sources()
    folder = path_in("XDG_CACHE_HOME", Path.home() / ".cache") / "memexp" / "built"
    return folder / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def _sources() -> str:
    """Changes when a file of memexp does."""
    folder = Path(memexp.__file__).parent
    return str(sorted((str(file), file.stat().st_mtime_ns) for file in folder.rglob("*.py")))
