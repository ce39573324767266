"""Worlds side by side: PufferLib's serial and multiprocessing backends; what keeps workers from being left behind."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing import connection
from multiprocessing.sharedctypes import RawArray
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import psutil
import pufferlib.vector
import torch

from memexp.config import UsageError, cores_left
from memexp.envs.base import WorldError
from memexp.envs.config import ThirdParty
from memexp.envs.puffer.world import Board, World

LOOK = 0.2
"""Seconds between two looks at whether workers are alive."""


def make_board(num_envs: int) -> Board:
    """A board in shared memory, all zero."""
    kinds = (("q", np.int64), ("q", np.int64), ("b", np.int8))
    return Board(*(np.frombuffer(RawArray(kind, num_envs), dtype) for kind, dtype in kinds))


def make_vec(config: ThirdParty, stream: int, first: int, board: Board) -> Any:
    """PufferLib's vector environment of worlds number `first` and following, one for each row of the board."""
    num_envs = len(board.episode)
    shared = {"config": config, "stream": stream, "board": board, "driver": os.getpid()}
    arguments = [shared | {"number": first + row, "row": row} for row in range(num_envs)]
    given: dict[str, Any] = {"env_args": [[]] * num_envs, "env_kwargs": arguments, "num_envs": num_envs}
    workers = number_of_workers(config, num_envs)
    if workers:
        given |= {"backend": Workers, "num_workers": workers, "overwork": True}
    else:
        given |= {"backend": pufferlib.vector.Serial}
    return pufferlib.vector.make([_create] * num_envs, **given)


def number_of_workers(config: ThirdParty, num_envs: int) -> int:
    """Worker processes; 0: worlds run in this process.

    As many as there are cores for this rank (of those that CORES leaves to the run) but one, which learns: a worker
    waits for its next step without sleeping, so that on two cores it would take from the learner what it gives. Raises
    UsageError for a number that does not share the worlds out evenly.
    """
    if config.backend == "serial":
        return 0
    if config.workers:
        if num_envs % config.workers:
            raise UsageError(f"env.workers={config.workers} does not divide the {num_envs} worlds of this process")
        return config.workers
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = cores_left(min(psutil.cpu_count(logical=False) or usable, usable))
    spare = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1)
    workers = max(count for count in range(1, spare + 1) if num_envs % count == 0)
    return workers if workers > 1 or config.backend == "multiprocessing" else 0


class Workers(pufferlib.vector.Multiprocessing):
    """PufferLib's workers, which are noticed when they die, and end when the process that started them does."""

    def __init__(self, *arguments: Any, **words: Any):
        super().__init__(*arguments, **words)
        # At exit multiprocessing waits for processes that run: they must be told to end before.
        self.close = Finalize(self, _stop, args=(self.processes, self.driver_env), exitpriority=10)

    def recv(self) -> Any:
        """As PufferLib's, but raises WorldError where it would wait for ever."""
        looked, rounds = time.monotonic(), 0
        semaphores = self.buf["semaphores"]
        while (semaphores < pufferlib.vector.MAIN).any():
            rounds += 1
            if rounds > 100:
                time.sleep(2e-5)  # cores may be fewer than workers
            if time.monotonic() - looked > LOOK:
                looked = time.monotonic()
                self._look()
        return super().recv()

    def _look(self) -> None:
        for i, process in enumerate(self.processes):
            if not process.is_alive() and self.buf["semaphores"][i] < pufferlib.vector.MAIN:
                code = process.exitcode or 0
                how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                raise WorldError(
                    f"worker {i}, which ran {self.envs_per_worker} environments, died ({how}); what it printed is above"
                )


def _stop(processes: list[Any], driver: World) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    driver.close()


def _create(
    config: ThirdParty, stream: int, number: int, row: int, board: Board, driver: int, buf: Any = None, seed: int = 0
) -> World:
    """The world, in whichever process PufferLib wants it."""
    if os.getpid() != driver:
        _settle_in()
    return World(config, stream, number, row, board, buf)


_settled: set[int] = set()


def _settle_in() -> None:
    """Make this process a worker, once: signals, threads and end as its parent needs them.

    Ctrl-C, and a SIGTERM to the whole group (of a machine that is taken away, of torchrun), reach workers too, but the
    trainer decides when to stop: it still needs them for the update whose checkpoint it writes. SIGTERM gets a handler
    that does nothing, since being ignored would be inherited by programs that environments start. A worker ends with
    its parent, even if that is killed.
    """
    parent = multiprocessing.parent_process()
    if os.getpid() in _settled or parent is None:
        return
    _settled.add(os.getpid())
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

    def end_with(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=end_with, args=(parent.sentinel,), daemon=True).start()
