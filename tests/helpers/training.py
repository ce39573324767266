"""Tiny training runs, in this process and in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import IO, Any

import psutil
import pytest
from helpers.cvc import RICH, SMALL

from memexp.config import override
from memexp.machine import Activity
from memexp.ppo.config import TrainConfig
from memexp.ppo.session import Agreement, Session
from memexp.recipes import controls

TINY = {
    "trainer.num_envs": 16,
    "trainer.horizon": 8,
    "trainer.num_minibatches": 2,
    "trainer.total_timesteps": 128 * 6,
    "cortex.d_hidden": 16,
    "evaluation.random_episodes": 8,
    "wandb.mode": "disabled",
}


NEVER_URGENT = {"trainer__preemption_seconds": 10**6}
"""However slow the machine: no update is given up, no checkpoint is written before it is due."""


def tiny(recipe: str = "tmaze", **changes: Any) -> TrainConfig:
    """A run of six updates; `changes` are dotted keys with '__' for '.'."""
    words = TINY | {key.replace("__", "."): value for key, value in changes.items()}
    return override(getattr(controls, recipe)(), words)


def tiny_assembly(**changes: Any) -> TrainConfig:
    """The same sizes on the smallest assembly lines, whose episodes are longer than the whole run."""
    recipe = import_module("memexp.recipes.experiment.cortex_paper.2_memory_needed.assembly_lines_train").train
    small = {"num_layers": 1, "n_heads": 2, "d_hidden": 16, "pattern": "S"}
    words = TINY | {"evaluation.episodes": 0, "evaluation.reference_episodes": 0}
    words |= {key.replace("__", "."): value for key, value in changes.items()}
    return override(recipe(curriculum_style="level_0", **small), words)


def tiny_cvc(**changes: Any) -> TrainConfig:
    """Eight worlds of three agents on a small cvc_random_maps, whose episodes end within the run."""
    recipe = import_module("memexp.recipes.experiment.cortex_paper.2_memory_needed.cvc_random_maps_train").train
    small = {"num_layers": 1, "n_heads": 2, "d_hidden": 16, "pattern": "S", "num_cogs": 3, "num_vibes": 12}
    knobs = SMALL | RICH | {"max_steps": 24, "num_cogs": 3}
    words = TINY | {"evaluation.episodes": 0, "evaluation.reference_episodes": 0}
    words |= {"trainer.num_envs": 8, "trainer.total_timesteps": 192 * 6}
    words |= {f"env.{name}": value for name, value in knobs.items()}
    return override(recipe(**small), words | {key.replace("__", "."): value for key, value in changes.items()})


def stop_after(updates: int, patch: pytest.MonkeyPatch) -> None:
    """Runs of this process are told to stop after so many updates."""
    real = Session.agree

    def agree(self: Session, due: bool) -> Agreement:
        agreed = real(self, due)
        return agreed._replace(stop=1.0) if self.trainer.updates == updates else agreed

    patch.setattr(Session, "agree", agree)


PATIENCE_S = 300.0
"""Seconds in which a process and its descendants use less than a second of CPU before they count as hung."""


class Progress(Activity):
    """Of a process and its descendants."""

    def __init__(self, process: subprocess.Popen):
        super().__init__([process.pid])
        self._process = process

    def check(self) -> None:
        """Kill the process and fail the test if it is hung."""
        if self.idle_s() > PATIENCE_S:
            self._process.kill()
            pytest.fail(f"the process used no CPU for {PATIENCE_S:.0f} s")


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, output: IO[bytes] | None = None) -> None:
    """Wait until `condition()` holds. Fails if the process ends before, or hangs."""
    progress = Progress(process)
    while not condition():
        assert process.poll() is None, (output or process.stdout).read().decode()
        progress.check()
        time.sleep(0.02)


def output_of(process: subprocess.Popen) -> str:
    """What the process prints until it ends, however long that takes. Fails if it hangs."""
    progress = Progress(process)
    while True:
        try:
            return process.communicate(timeout=1)[0].decode()
        except subprocess.TimeoutExpired:
            progress.check()


CLOCK = ("wall_s", "sps", "checkpoint/", "time/", "gpu/")


def without_clock(line: dict[str, Any]) -> dict[str, Any]:
    """What a line of metrics says about the experiment, whatever the time was."""
    return {key: value for key, value in line.items() if not key.startswith(CLOCK)}


def start_process(config: TrainConfig, ranks: int = 1, before: str = "", **environment: str) -> subprocess.Popen:
    """`train(config)` in a process of its own (under torchrun for more ranks), with the exit codes of the command line.

    before: Python that is run first.
    """
    program = (
        f"import os, sys; from memexp.cli.running import exit_of; from memexp.ppo.config import TrainConfig; {before}\n"
        "config = TrainConfig.model_validate_json(sys.argv[1]); sys.exit(exit_of(config, []))"
    )
    if ranks == 1:
        command = [sys.executable, "-c", program]
    else:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "--no-python"]
        command = [sys.executable, *torchrun, sys.executable, "-c", program]
    return subprocess.Popen(
        [*command, config.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
    )


def ranks_of(torchrun: subprocess.Popen) -> list[int]:
    """Process ids of the ranks, first one first."""
    ranks = {}
    for child in psutil.Process(torchrun.pid).children():
        ranks[int(child.environ()["RANK"])] = child.pid
    return [ranks[rank] for rank in sorted(ranks)]
