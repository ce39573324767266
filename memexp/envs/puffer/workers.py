"""Many environments, in this process or in workers: how many of these, their signals, and what happens if one dies."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from functools import partial
from multiprocessing import connection
from multiprocessing.sharedctypes import RawArray
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import psutil
import torch

from memexp.config import UsageError, cores_left
from memexp.envs.config import ThirdParty
from memexp.envs.puffer.emulated import Board, EmulatedEnv
from memexp.envs.puffer.vector import GymnasiumVec, death, pufferlib, stop
from memexp.machine import cores

CHECK_INTERVAL = 0.2
"""Seconds between two checks that the workers are alive."""


def make_board(num_envs: int) -> Board:
    """A board in shared memory, all zero."""
    kinds = (("q", np.int64), ("q", np.int64), ("b", np.int8))
    return Board(*(np.frombuffer(RawArray(kind, num_envs), dtype) for kind, dtype in kinds))


def make_vec(config: ThirdParty, stream: int, first: int, board: Board) -> Any:
    """A vector environment of the environments from number `first` on, one for each row of the board.

    It is PufferLib's, or Gymnasium's where PufferLib is not installed. Results do not depend on it.
    """
    num_envs = len(board.episode)
    shared = {"config": config, "stream": stream, "board": board, "driver": os.getpid()}
    arguments = [shared | {"number": first + row, "row": row} for row in range(num_envs)]
    given: dict[str, Any] = {"env_args": [[]] * num_envs, "env_kwargs": arguments, "num_envs": num_envs}
    workers = number_of_workers(config, num_envs)
    if not pufferlib:
        makers = [partial(_create, **words) for words in arguments]
        return GymnasiumVec(makers[0](), makers, workers)
    parallel = {"backend": Workers, "num_workers": workers, "overwork": True}
    given |= parallel if workers else {"backend": pufferlib.vector.Serial}
    return pufferlib.vector.make([_create] * num_envs, **given)


def number_of_workers(config: ThirdParty, num_envs: int) -> int:
    """Number of worker processes; 0: the environments run in this process.

    One core of this rank (of those that CORES leaves to the run) is kept for the learner, because a waiting worker
    spins. Raises UsageError if the environments cannot be divided evenly among `config.workers`.
    """
    if config.backend == "serial" or (config.backend == "auto" and sys.platform == "darwin"):
        return 0  # macOS does not fork safely
    if config.workers:
        if num_envs % config.workers:
            raise UsageError(f"env.workers={config.workers} does not divide the {num_envs} envs of this process")
        return config.workers
    usable = cores()
    own = cores_left(min(psutil.cpu_count(logical=False) or usable, usable))
    spare = max(1, own // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1)
    workers = max(count for count in range(1, spare + 1) if num_envs % count == 0)
    return workers if workers > 1 or config.backend == "multiprocessing" else 0


_Multiprocessing: Any = pufferlib.vector.Multiprocessing if pufferlib else object


class Workers(_Multiprocessing):
    """PufferLib's worker processes. A dead worker raises EnvError, and workers end when their parent process ends."""

    def __init__(self, *arguments: Any, **words: Any):
        super().__init__(*arguments, **words)
        # At exit multiprocessing waits for running processes, so they must be stopped before that.
        self.close = Finalize(self, stop, args=(self.processes, self.driver_env), exitpriority=10)

    def recv(self) -> Any:
        """PufferLib's `recv`, which raises EnvError if a worker has died instead of waiting for ever."""
        checked, rounds = time.monotonic(), 0
        semaphores = self.buf["semaphores"]
        while (semaphores < pufferlib.vector.MAIN).any():
            rounds += 1
            if rounds > 100:
                time.sleep(2e-5)  # there may be fewer cores than workers
            if time.monotonic() - checked > CHECK_INTERVAL:
                checked = time.monotonic()
                self._check_alive()
        return super().recv()

    def _check_alive(self) -> None:
        for i, process in enumerate(self.processes):
            if not process.is_alive() and self.buf["semaphores"][i] < pufferlib.vector.MAIN:
                raise death(i, process, self.envs_per_worker)


def _create(
    config: ThirdParty, stream: int, number: int, row: int, board: Board, driver: int, buf: Any = None, seed: int = 0
) -> EmulatedEnv:
    """Make one environment, in this process or in a worker."""
    if os.getpid() != driver:
        _set_up_worker()
    return EmulatedEnv(config, stream, number, row, board, buf)


_set_up: set[int] = set()


def _set_up_worker() -> None:
    """Set up this process as a worker, once: signals, threads, and a thread that ends it with its parent.

    Ctrl-C, and a SIGTERM to the process group (from torchrun or a machine that is shut down), also reach the workers.
    They ignore both, because the trainer needs them until it has written its last checkpoint. SIGTERM gets an empty
    handler: a program that an environment starts would inherit SIG_IGN. If the parent is killed, the worker ends too.
    """
    parent = multiprocessing.parent_process()
    if os.getpid() in _set_up or parent is None:
        return
    _set_up.add(os.getpid())
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

    def end_with(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=end_with, args=(parent.sentinel,), daemon=True).start()
