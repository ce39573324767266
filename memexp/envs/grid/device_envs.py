"""The worlds of a grid game on a GPU: state, observations, rewards and actions never leave it, steps never wait.

All that ends an episode is its length (step.settle), so the host knows beforehand in which step which world ends. It
prepares next episodes ahead of need and keeps account of what has ended without asking the device; the device finds out
for itself, and `pop_ended` compares the two. In CUDA's simulator tensors on the CPU stand for those on the device.
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
from memexp.envs.grid.cpu_envs import Ended, Outcome, Roster
from memexp.envs.grid.memory import Block, Log, copying, keeping_last, shared, stream_of
from memexp.envs.grid.prefetch import LOT, Order, Pool
from memexp.envs.grid.state import COMMON, Sizes, State, allocate
from memexp.envs.grid.step import GIVEN, RANDOM
from memexp.graphs import Replayed

SOON = 128
"""Steps before its end for which a world's next episode is prepared even if that does not fill a lot."""
GLANCE = 8
"""Steps between two looks at what has to be prepared."""


class DeviceWorlds:
    """The worlds on `device`. See HostWorlds, whose results these are."""

    def __init__(self, roster: Roster, sizes: Sizes, device: str) -> None:
        if not kernels.SIMULATED and find_spec("numba_cuda") is None:
            raise UsageError(f"device '{device}': the grid games need numba-cuda there: pip install 'memexp[gpu]'")
        where = torch.device("cpu") if kernels.SIMULATED else torch.device(device)
        n, agents = roster.num_envs, sizes.agents
        self._roster, self._sizes = roster, sizes
        self._live = Block(sizes, n, where)
        self._pool = Pool(roster, sizes, where)
        self._log = Log(self._live, 2 * n)
        self._actions = torch.zeros(n, agents, dtype=torch.int64, device=where)
        self._steps = torch.ones(n, dtype=torch.int64, device=where)
        self._seen = torch.zeros(n, agents, dtype=torch.int32, device=where)
        self._ends = torch.zeros(n, agents, dtype=torch.bool, device=where)
        self._episode = torch.zeros(n, dtype=torch.int64, device=where)
        parts = (self._actions, self._steps, self._seen, self._ends)
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
        self._now = 0  # steps of all worlds so far
        self._ends_at = np.zeros(n, np.int64)  # the step that ends the episode a world plays; 0: none does
        self._unforetold = np.zeros(n, np.bool_)  # worlds whose next task is not known before the next `pop_ended`
        self._noted: list[tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]] = []
        self._left: list[Ended] = []
        tensors = self._live.tensors
        self._obs = tensors["obs"].view(n * agents, col.NUM_TOKENS, 3)
        self._reward = tensors["rewards"].view(n * agents)
        self.final_obs = tensors["final_obs"].view(n * agents, col.NUM_TOKENS, 3)

    @property
    def state(self) -> State:
        """Copies of all arrays in the host's memory."""
        common = {name: array for name, array in allocate(1, self._sizes)._asdict().items() if name in COMMON}
        return State(**self._live.host(), **common)

    def reset(self) -> Outcome:
        """Begin every world's first episode."""
        roster = self._roster
        roster.restart()
        orders = [Order(w, 0, roster.task_of(w, 0)) for w in range(roster.num_envs)]
        self._pool.secure(orders)
        for name, tensor in self._pool.block.tensors.items():
            if name not in ("rewards", "terminated", "final_obs"):
                self._live.tensors[name].copy_(tensor)
        self._live.tensors["terminated"].zero_()
        for order in orders:
            roster.note(order.w, order.task)
        self._start(self._pool.length)
        self._left.clear()
        return self._outcome()

    def ready(self) -> None:
        """What the host has to do before a step: note what it ends, see that what follows is there."""
        self._now += 1
        self._pool.collect()
        ending = np.flatnonzero(self._ends_at == self._now)
        if len(ending):
            self._turn_over(ending)
        if self._now % GLANCE == 0:
            self._look_ahead()

    def step(self, actions: Tensor) -> Outcome:
        """One step of every world; those that end begin their next episode. Enqueues, and waits for nothing."""
        self._actions.copy_(actions.view_as(self._actions))
        self._one_step()
        return self._outcome()

    def desync(self) -> Outcome:
        """Carry every world to a random step of its first episode by random play."""
        self.reset()
        steps = self._roster.steps_out_of_phase(self._pool.length)
        self._steps.copy_(torch.from_numpy(steps))
        self._launch(RANDOM)
        self._steps.fill_(1)
        self._ends_at -= steps
        self._roster.cut |= steps > 0
        return self._outcome()

    def pop_ended(self) -> list[Ended]:
        """What the episodes that ended since the last call leave behind; one transfer, if there are any."""
        self._gather()
        self._unforetold[:] = False
        left, self._left = self._left, []
        return left

    def state_dict(self) -> dict[str, Any]:
        """As HostWorlds has it: either can continue from what the other has saved."""
        self._gather()
        arrays = {name: array for name, array in self._live.host().items() if name != "final_obs"}
        return {"arrays": arrays, **self._roster.state_dict(), "ended": [tuple(part) for part in self._left]}

    def load_state_dict(self, state: dict[str, Any]) -> Outcome:
        arrays = state["arrays"]
        self._live.load(arrays)
        self._ends.copy_(self._live.tensors["terminated"][:, None].expand_as(self._ends))
        self._roster.load_state_dict(state)
        world = arrays["world"]
        self._start(np.where(world[:, col.MAX_STEPS] > 0, world[:, col.MAX_STEPS] - world[:, col.STEP], 0))
        self._left = [Ended(*part) for part in state["ended"]]
        return self._outcome()

    def _start(self, lengths: np.ndarray) -> None:
        """Every world is at the beginning or within an episode of which so many steps are left (0: it never ends)."""
        self._now = 0
        self._ends_at = lengths.copy()
        self._episode.copy_(torch.from_numpy(self._roster.episode))
        self._noted.clear()
        self._log.counters.zero_()
        for w in range(self._roster.num_envs):
            self._pool.vacate(w)
        self._unforetold[:] = False

    def launches(self, mode: int) -> dict[str, Callable[[], None]]:
        """The kernels of one step of every world, in order, each to be enqueued on the current stream by a call."""
        s, stream = self._live.state, stream_of(self._obs)
        renew = kernels.renew[len(self._ends), kernels.COPYING, stream]
        return kernels.launches(s, self._turn, mode, stream) | {"renew": lambda: renew(s, self._change)}

    def _launch(self, mode: int) -> None:
        for enqueue in self.launches(mode).values():
            enqueue()

    def _turn_over(self, ending: np.ndarray) -> None:
        """The step to come ends the episodes of these worlds."""
        roster = self._roster
        if sum(len(worlds) for worlds, *_ in self._noted) + len(ending) > self._log.length:
            self._gather()
        following = roster.episode[ending] + 1
        orders = [Order(w, e, roster.task_of(w, e)) for w, e in zip(ending.tolist(), following.tolist(), strict=True)]
        self._pool.secure(orders)
        self._noted.append((ending, following - 1, ~roster.cut[ending], roster.ended(ending)))
        roster.cut[ending] = False
        roster.episode[ending] = following
        lengths = self._pool.length[ending]
        self._ends_at[ending] = np.where(lengths > 0, self._now + lengths, 0)
        for order in orders:
            roster.note(order.w, order.task)
            self._pool.vacate(order.w)

    def _look_ahead(self) -> None:
        """Order next episodes: by the lot, or before a world's end comes near."""
        wanted = [w for w, order in enumerate(self._pool.asked) if order is None and not self._unforetold[w]]
        if not wanted or not self._pool.has_room:
            return
        wanted = sorted((w for w in wanted if self._ends_at[w]), key=lambda w: self._ends_at[w])[:LOT]
        if len(wanted) == LOT or (wanted and self._ends_at[wanted[0]] <= self._now + SOON):
            orders = []
            for w in wanted:
                episode = int(self._roster.episode[w]) + 1
                task = self._roster.foretell(w, episode)
                if task is None:
                    self._unforetold[w] = True
                else:
                    orders.append(Order(w, episode, task))
            self._pool.ask(orders)

    def _gather(self) -> None:
        """Fetch what ended episodes have left behind, and compare what ended with what had to end.

        Raises RuntimeError where they differ.
        """
        if not self._noted:
            return
        worlds, episodes, whole = (np.concatenate(parts) for parts in list(zip(*self._noted, strict=True))[:3])
        known = [part for *_, part in self._noted]
        self._noted.clear()
        counters, heads, arrays = self._log.read(len(worlds))
        names = heads[:, 0].astype(np.int64) << 32 | heads[:, 1]
        order, expected = np.argsort(names), worlds << 32 | episodes
        ended, starved = counters[kernels.NUM_ENDED], counters[kernels.NUM_STARVED]
        if ended != len(worlds) or starved or not np.array_equal(names[order], np.sort(expected)):
            raise RuntimeError(
                f"the device ended {ended} episodes ({starved} of them with none to follow), not these {len(worlds)}"
            )
        rows = order[np.searchsorted(names[order], expected)][whole]
        if len(rows):
            mine = {name: np.concatenate([part[name] for part in known])[whole] for name in known[0]}
            self._left.append(Ended(**{name: array[rows] for name, array in arrays.items()}, **mine))

    def _outcome(self) -> Outcome:
        return self._obs, self._reward, self._ends.view(-1)
