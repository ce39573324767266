"""Many environments through Gymnasium's vector environments, where PufferLib is not installed.

PufferLib has no packages for Python 3.13 and later, nor for every platform. Both ways step the same `EmulatedEnv` into
the same buffers, so results do not depend on the way. Each process has one Gymnasium environment, `Rows`, which steps
all of its environments. An episode that ends is followed by the next one in the same step (AutoresetMode.SAME_STEP).
"""

import signal
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.sharedctypes import RawArray
from multiprocessing.util import Finalize
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from memexp.config import EnvError

try:
    import pufferlib.vector
except ImportError:
    pufferlib: Any = None

PufferEnv: Any = pufferlib.PufferEnv if pufferlib else object
"""What PufferLib asks an environment to be."""
Buffers = dict[str, np.ndarray]
"""observations `[N, *shape]`, rewards, terminals and truncations `[N]`, of N rows."""


def make_buffers(space: gymnasium.spaces.Box, rows: int) -> Buffers:
    """Buffers in memory that worker processes share, all zero."""
    kinds = {"observations": (space.dtype, space.shape), "rewards": (np.float32, ())}
    kinds |= {"terminals": (bool, ()), "truncations": (bool, ())}
    found: Buffers = {}
    for name, (dtype, shape) in kinds.items():
        size = int(np.prod((rows, *shape)))
        memory = RawArray("b", size * np.dtype(dtype).itemsize)
        found[name] = np.frombuffer(memory, dtype, size).reshape(rows, *shape)
    return found


class Rows(gymnasium.Env):
    """The environments of one process. What a step gives is in the buffers; `told` in its info are their infos."""

    def __init__(self, makers: Sequence[Callable[..., Any]], buffers: Buffers, agents: int) -> None:
        self._makers, self._buffers, self._agents = makers, buffers, agents
        self._envs: list[Any] = []
        self.observation_space = gymnasium.spaces.Discrete(1)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,))  # not looked at: any array of rows is passed on

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        if not self._envs:  # Gymnasium makes one more in the trainer's process, which it only asks for its spaces
            shares = [slice(i * self._agents, (i + 1) * self._agents) for i in range(len(self._makers))]
            for make, rows in zip(self._makers, shares, strict=True):
                self._envs.append(make(buf={name: whole[rows] for name, whole in self._buffers.items()}))
        return 0, _told([env.reset() for env in self._envs])

    def step(self, action: np.ndarray) -> tuple[int, float, bool, bool, dict[str, Any]]:
        shares = action.reshape(len(self._envs), self._agents, *action.shape[1:])
        infos = _told([env.step(share) for env, share in zip(self._envs, shares, strict=True)])
        return 0, 0.0, False, False, infos

    def close(self) -> None:
        for env in self._envs:
            env.close()


def _told(results: list[tuple[Any, ...]]) -> dict[str, Any]:
    infos = [info for *_, infos in results for info in infos]
    return {"told": infos} if infos else {}


class GymnasiumVec:
    """The environments of `makers` in `workers` processes, or in this one; called as PufferLib's are."""

    def __init__(self, driver: Any, makers: Sequence[Callable[..., Any]], workers: int) -> None:
        self.driver_env, self.single_observation_space = driver, driver.single_observation_space
        agents, self._parts = driver.num_agents, workers or 1
        self.buffers = make_buffers(driver.single_observation_space, len(makers) * agents)
        each = len(makers) // self._parts
        rows: list[Callable[[], gymnasium.Env]] = []
        for first in range(0, len(makers), each):
            share = slice(first * agents, (first + each) * agents)
            mine = {name: whole[share] for name, whole in self.buffers.items()}
            rows.append(partial(Rows, makers[first : first + each], mine, agents))
        same = {"copy": False, "autoreset_mode": AutoresetMode.SAME_STEP}
        # With fork, the processes share the buffers and the board as they are.
        if workers:
            self.envs: Any = AsyncVectorEnv(rows, context="fork", daemon=False, **same)
        else:
            self.envs = SyncVectorEnv(rows, **same)
        self.processes = getattr(self.envs, "processes", [])
        self._each, self._infos = each, dict[str, Any]()
        self.close = Finalize(self, _stop, args=(self.envs, driver), exitpriority=10)

    def async_reset(self, seed: int) -> None:
        self._infos = self._alive(self.envs.reset)[-1]

    def send(self, actions: np.ndarray) -> None:
        self._infos = self._alive(self.envs.step, actions.reshape(self._parts, -1, *actions.shape[1:]))[-1]

    def _alive(self, do: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return do(*arguments)
        except (EOFError, ConnectionError):
            for i, process in enumerate(self.processes):
                process.join(1)
                if not process.is_alive():
                    raise death(i, process, self._each) from None
            raise

    def recv(self) -> tuple[Any, ...]:
        infos = [info for told in self._infos.get("told", ()) for info in told or ()]
        buf = self.buffers
        return buf["observations"], buf["rewards"], buf["terminals"], buf["truncations"], None, infos, None, None


def _stop(envs: Any, driver: Any) -> None:
    if isinstance(envs, AsyncVectorEnv):
        envs.closed = True  # it would wait for the workers
        stop(envs.processes, driver)
    else:
        envs.close()
        driver.close()


def stop(processes: Sequence[Any], driver: Any) -> None:
    """Kill the worker processes, and close the environment that shows what the others are like."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    driver.close()


def death(number: int, process: Any, environments: int) -> EnvError:
    """The error that says how a worker process died."""
    code = process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return EnvError(f"worker {number}, which ran {environments} environments, died ({how}); what it printed is above")
