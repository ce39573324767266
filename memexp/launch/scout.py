"""`memexp launch --scout`: times some runs of a matrix on this machine, so that the plan knows its hours.

Each is a `memexp bench` of its own process: it trains, writes no run directory, and adds its rate to this machine's
throughput table.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from functools import partial

from memexp.launch import Terminal
from memexp.launch.local import command_of, environment_of, kill_tree
from memexp.launch.plan.run_spec import RunSpec
from memexp.launch.plan.throughput import step_flops
from memexp.runs.scribe import end_with

SCOUT_S = 90.0
"""Seconds of all timed updates together; starting and compiling come on top: about 2 minutes in all."""
LEAST_S = 10.0
"""Seconds that each environment has at least."""
MOST_RUNS = 8
"""Most runs for one of each environment and pattern; else one of each environment."""
MOST_UPDATES = 1000
PATIENCE = 6
"""Times SCOUT_S that a process has until it is killed: to start, to compile, and for the first updates."""


def scout(specs: Sequence[RunSpec], processes: int, dry_run: bool, terminal: Terminal) -> int:
    """Time the runs of `scouts`, or say with which commands (`dry_run`). Returns how many failed."""
    chosen = scouts(specs)
    failed, seconds = 0, max(LEAST_S, SCOUT_S / len(chosen))
    for spec in chosen:
        words = ["bench", *spec.experiment, f"--updates={MOST_UPDATES}", f"--seconds={seconds:.0f}"]
        label = f"scout: {spec.env}, {spec.config.arm}"
        if dry_run:
            terminal.note(f"{label}: would run memexp {shlex.join(words)}")
            continue
        terminal.note(f"{label}: about {seconds:.0f} s")
        process = subprocess.Popen(
            command_of(words, processes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment_of(0, 1, processes),
            preexec_fn=partial(end_with, os.getpid(), signal.SIGTERM),
        )
        try:
            lines = process.communicate(timeout=PATIENCE * SCOUT_S)[0].splitlines()
            result = (lines or [f"exit code {process.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            kill_tree(process.pid)
            process.communicate()
            result = "not one update was done in time: the rate stays unknown"
        failed += process.returncode != 0
        terminal.note(f"{label}: {result}")
    return failed


def scouts(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """One run of each environment and pattern, if there are few; else of each environment.

    It is the first one of the costliest architecture, by FLOPs of a step.
    """
    by_pattern: dict[tuple[str, ...], RunSpec] = {}
    by_env: dict[tuple[str, ...], RunSpec] = {}
    for spec in specs:
        for chosen, key in ((by_pattern, (spec.env, str(spec.config.cortex.pattern))), (by_env, (spec.env,))):
            best = chosen.setdefault(key, spec)
            if (step_flops(spec.config.cortex) or 0) > (step_flops(best.config.cortex) or 0):
                chosen[key] = spec
    return [*(by_pattern if len(by_pattern) <= MOST_RUNS else by_env).values()]
