"""The environments of a grid game on a GPU. State, observations, rewards and actions stay there; steps never wait.

An episode ends only by its length (step.settle), so the host knows in advance which step ends which episode. It
prepares the next episodes early and records what must have ended without asking the device. The device detects the ends
itself, and `pop_finished` compares both. In CUDA's simulator, CPU tensors take the place of device tensors.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memexp.config import UsageError
from memexp.envs.grid import columns as col
from memexp.envs.grid import cuda as kernels
from memexp.envs.grid.cpu_envs import EpisodeTable, Finished, Outcome
from memexp.envs.grid.memory import Block, Log, copying, keeping_last, shared, stream_of
from memexp.envs.grid.prefetch import BATCH, Order, Pool
from memexp.envs.grid.state import COMMON, Sizes, State, allocate
from memexp.envs.grid.step import GIVEN, RANDOM
from memexp.graphs import Replayed

SOON = 128
"""An episode that ends within this many steps has its successor prepared even if the batch is not full."""
LOOK_AHEAD_EVERY = 8
"""Steps between two checks of what to prepare."""


class DeviceEnvs:
    """The environments on `device`. Results equal those of CpuEnvs."""

    def __init__(self, table: EpisodeTable, sizes: Sizes, device: str) -> None:
        if not kernels.SIMULATED and find_spec("numba_cuda") is None:
            raise UsageError(f"device '{device}': the grid games need numba-cuda there: pip install 'memexp[gpu]'")
        where = torch.device("cpu") if kernels.SIMULATED else torch.device(device)
        n, agents = table.num_envs, sizes.agents
        self._table, self._sizes = table, sizes
        self._live = Block(sizes, n, where)
        self._pool = Pool(table, sizes, where)
        self._log = Log(self._live, 2 * n)
        self._actions = torch.zeros(n, agents, dtype=torch.int64, device=where)
        self._steps = torch.ones(n, dtype=torch.int64, device=where)
        self._seen = torch.zeros(n, agents, dtype=torch.int32, device=where)
        self._dones = torch.zeros(n, agents, dtype=torch.bool, device=where)
        self._episode = torch.zeros(n, dtype=torch.int64, device=where)
        parts = (self._actions, self._steps, self._seen, self._dones)
        self._turn = kernels.Turn(*(shared(tensor) for tensor in parts))
        self._change = kernels.Change(
            live=self._live.shared,
            pool=self._pool.block.shared,
            log=self._log.shared,
            record=self._log.record,
            to_last=keeping_last(self._live),
            to_log=self._log.plan(self._live),
            to_live=copying(self._live, self._pool.block),
            episode=shared(self._episode),
            ready=shared(self._pool.ready),
            counters=shared(self._log.counters),
        )
        self._one_step = Replayed(lambda: self._launch(GIVEN), where)
        self._now = 0  # number of the latest step
        self._done_at = np.zeros(n, np.int64)  # the step that ends the running episode; 0: none does
        self._unknown_next = np.zeros(n, np.bool_)  # next task not known before the next `pop_finished`
        self._expected: list[tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]] = []
        self._finished: list[Finished] = []
        tensors = self._live.tensors
        self._obs = tensors["obs"].view(n * agents, col.NUM_TOKENS, 3)
        self._reward = tensors["rewards"].view(n * agents)
        self.final_obs = tensors["final_obs"].view(n * agents, col.NUM_TOKENS, 3)

    @property
    def state(self) -> State:
        """Copies of all arrays in the memory of the host."""
        common = {name: array for name, array in allocate(1, self._sizes)._asdict().items() if name in COMMON}
        return State(**self._live.host(), **common)

    def reset(self) -> Outcome:
        """Start the first episode of every environment."""
        table = self._table
        table.restart()
        orders = [Order(w, 0, table.task_of(w, 0)) for w in range(table.num_envs)]
        self._pool.ensure(orders)
        for name, tensor in self._pool.block.tensors.items():
            if name not in ("rewards", "terminated", "final_obs"):
                self._live.tensors[name].copy_(tensor)
        self._live.tensors["terminated"].zero_()
        for order in orders:
            table.start(order.w, order.task)
        self._start(self._pool.length)
        self._finished.clear()
        return self._outcome()

    def ready(self) -> None:
        """The host's part of a step: record which episodes it ends, and have the next ones on the device."""
        self._now += 1
        self._pool.collect()
        ending = np.flatnonzero(self._done_at == self._now)
        if len(ending):
            self._turn_over(ending)
        if self._now % LOOK_AHEAD_EVERY == 0:
            self._look_ahead()

    def step(self, actions: Tensor) -> Outcome:
        """Enqueue one step of every environment. Those that finish start their next episode. Does not wait."""
        self._actions.copy_(actions.view_as(self._actions))
        self._one_step()
        return self._outcome()

    def desync(self) -> Outcome:
        """Play at random to a random step of each first episode."""
        self.reset()
        steps = self._table.steps_out_of_phase(self._pool.length)
        self._steps.copy_(torch.from_numpy(steps))
        self._launch(RANDOM)
        self._steps.fill_(1)
        self._done_at -= steps
        self._table.cut |= steps > 0
        return self._outcome()

    def pop_finished(self) -> list[Finished]:
        """The episodes finished since the last call, fetched in one transfer."""
        self._gather()
        self._unknown_next[:] = False
        popped, self._finished = self._finished, []
        return popped

    def state_dict(self) -> dict[str, Any]:
        """The state in the format of CpuEnvs, so that either class can continue from it."""
        self._gather()
        arrays = {name: array for name, array in self._live.host().items() if name != "final_obs"}
        return {"arrays": arrays, **self._table.state_dict(), "ended": [tuple(part) for part in self._finished]}

    def load_state_dict(self, state: dict[str, Any]) -> Outcome:
        arrays = state["arrays"]
        self._live.load(arrays)
        self._dones.copy_(self._live.tensors["terminated"][:, None].expand_as(self._dones))
        self._table.load_state_dict(state)
        world = arrays["world"]
        self._start(np.where(world[:, col.MAX_STEPS] > 0, world[:, col.MAX_STEPS] - world[:, col.STEP], 0))
        self._finished = [Finished(*part) for part in state["ended"]]
        return self._outcome()

    def _start(self, lengths: np.ndarray) -> None:
        """Begin to count steps. `lengths` `[W]`: steps left of each running episode (0: it never ends)."""
        self._now = 0
        self._done_at = lengths.copy()
        self._episode.copy_(torch.from_numpy(self._table.episode))
        self._expected.clear()
        self._log.counters.zero_()
        for w in range(self._table.num_envs):
            self._pool.vacate(w)
        self._unknown_next[:] = False

    def launches(self, mode: int) -> dict[str, Callable[[], None]]:
        """The kernels of one step in order. Calling a value enqueues its kernel on the current stream."""
        s, stream = self._live.state, stream_of(self._obs)
        renew = kernels.renew[len(self._dones), kernels.COPYING, stream]
        return kernels.launches(s, self._turn, mode, stream) | {"renew": lambda: renew(s, self._change)}

    def _launch(self, mode: int) -> None:
        for enqueue in self.launches(mode).values():
            enqueue()

    def _turn_over(self, ending: np.ndarray) -> None:
        """Record that the next step ends the episodes of these environments."""
        table = self._table
        if sum(len(rows) for rows, *_ in self._expected) + len(ending) > self._log.length:
            self._gather()
        following = table.episode[ending] + 1
        orders = [Order(w, e, table.task_of(w, e)) for w, e in zip(ending.tolist(), following.tolist(), strict=True)]
        self._pool.ensure(orders)
        self._expected.append((ending, following - 1, ~table.cut[ending], table.labels(ending)))
        table.cut[ending] = False
        table.episode[ending] = following
        lengths = self._pool.length[ending]
        self._done_at[ending] = np.where(lengths > 0, self._now + lengths, 0)
        for order in orders:
            table.start(order.w, order.task)
            self._pool.vacate(order.w)

    def _look_ahead(self) -> None:
        """Order next episodes if they fill a batch or one of them is needed soon."""
        wanted = [w for w, order in enumerate(self._pool.orders) if order is None and not self._unknown_next[w]]
        if not wanted or not self._pool.has_room:
            return
        wanted = sorted((w for w in wanted if self._done_at[w]), key=lambda w: self._done_at[w])[:BATCH]
        if len(wanted) == BATCH or (wanted and self._done_at[wanted[0]] <= self._now + SOON):
            orders = []
            for w in wanted:
                episode = int(self._table.episode[w]) + 1
                task = self._table.peek(w, episode)
                if task is None:
                    self._unknown_next[w] = True
                else:
                    orders.append(Order(w, episode, task))
            self._pool.order(orders)

    def _gather(self) -> None:
        """Fetch the final state of finished episodes.

        Raises RuntimeError if the device has not ended exactly the episodes that the host expected.
        """
        if not self._expected:
            return
        rows, episodes, whole = (np.concatenate(parts) for parts in list(zip(*self._expected, strict=True))[:3])
        known = [part for *_, part in self._expected]
        self._expected.clear()
        counters, heads, arrays = self._log.read(len(rows))
        names = heads[:, 0].astype(np.int64) << 32 | heads[:, 1]
        order, expected = np.argsort(names), rows << 32 | episodes
        ended, starved = counters[kernels.NUM_ENDED], counters[kernels.NUM_STARVED]
        if ended != len(rows) or starved or not np.array_equal(names[order], np.sort(expected)):
            raise RuntimeError(
                f"the device ended {ended} episodes ({starved} without a next one), the host expected {len(rows)}"
            )
        records = order[np.searchsorted(names[order], expected)][whole]
        if len(records):
            mine = {name: np.concatenate([part[name] for part in known])[whole] for name in known[0]}
            self._finished.append(Finished(**{name: array[records] for name, array in arrays.items()}, **mine))

    def _outcome(self) -> Outcome:
        return self._obs, self._reward, self._dones.view(-1)
