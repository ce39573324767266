"""Episodes prepared ahead of need: on a CPU thread, in lots, uploaded in bulk beside whatever the device does."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from memexp.envs.grid import columns as col
from memexp.envs.grid.cpu_envs import Roster
from memexp.envs.grid.cuda import COPYING, Delivery, deliver
from memexp.envs.grid.memory import Block, copying, shared, stream_of
from memexp.envs.grid.rooms import room_for
from memexp.envs.grid.state import Sizes
from memexp.envs.grid.step import begin_worlds

LOTS = 3
"""Lots in flight: one is prepared while another is uploaded."""
LOT = 64
"""Most episodes in a lot."""


class Order(NamedTuple):
    """An episode that is wanted: world, number of the episode, task."""

    w: int
    episode: int
    task: int


class Lot:
    """Room for episodes, as they stand after their start: in the host's memory and, once uploaded, on the device."""

    def __init__(self, sizes: Sizes, length: int, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.host = Block(sizes, length, torch.device("cpu"), pinned)
        self.twin = Block(sizes, length, device)
        self.labels = torch.zeros(2, length, dtype=torch.int64, pin_memory=pinned)
        self.twin_labels = torch.zeros(2, length, dtype=torch.int64, device=device)
        self.uploaded = torch.cuda.Event() if pinned else None
        self.orders: Sequence[Order] = ()
        self.work: Future[None] | None = None
        self._scratch = room_for(sizes.height, sizes.width)

    def prepare(self, roster: Roster) -> None:
        """Build the tables and maps of the orders and begin the episodes, as the CPU does."""
        if self.uploaded is not None:
            self.uploaded.synchronize()  # what was prepared here before has left
        for row, order in enumerate(self.orders):
            roster.load(self.host.state, row, *order)
        begin_worlds(self.host.state, np.arange(len(self.orders)), self._scratch, False)


class Pool:
    """The next episode of every world, in a place of its own: on order, on its way or there."""

    def __init__(self, roster: Roster, sizes: Sizes, device: torch.device) -> None:
        n, length = roster.num_envs, min(LOT, roster.num_envs)
        self.block = Block(sizes, n, device)
        self.ready = torch.full((n,), -1, dtype=torch.int64, device=device)
        """Number of the episode that lies in each place, `[W]` on the device."""
        self.asked: list[Order | None] = [None] * n
        """What is wanted in each place, None: nothing yet."""
        self.there = np.zeros(n, np.bool_)
        """Whether it has been put there, or is going to be by what the device has been told to do."""
        self.length = np.zeros(n, np.int64)
        """Steps of the episode that is there; 0: it never ends."""
        self._roster = roster
        self._idle = [Lot(sizes, length, device) for _ in range(LOTS)]
        self._busy: list[Lot] = []  # in the order in which they were begun
        self._thread = ThreadPoolExecutor(1, "episodes")
        self._plan = copying(self.block, self._idle[0].twin)
        self._ready: Any = shared(self.ready)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def has_room(self) -> bool:
        """Whether a lot can be ordered without waiting."""
        return bool(self._idle)

    def vacate(self, w: int) -> None:
        """Want nothing in the place of world w until it is asked for."""
        self.asked[w] = None
        self.there[w] = False

    def ask(self, orders: Sequence[Order]) -> None:
        """Have these episodes prepared, instead of what was wanted there before."""
        for begin in range(0, len(orders), LOT):
            while not self._idle:
                self.collect(wait=True)
            lot = self._idle.pop()
            lot.orders = orders[begin : begin + LOT]
            for order in lot.orders:
                self.asked[order.w], self.there[order.w] = order, False
            lot.work = self._thread.submit(lot.prepare, self._roster)
            self._busy.append(lot)

    def collect(self, wait: bool = False) -> None:
        """Send off the lots that have been prepared; `wait` for the first of them."""
        while self._busy and self._busy[0].work and (wait or self._busy[0].work.done()):
            wait = False
            lot = self._busy.pop(0)
            assert lot.work
            lot.work.result()
            self._deliver(lot)
            self._idle.append(lot)

    def secure(self, orders: Sequence[Order]) -> None:
        """Make sure that these episodes are there for what the current stream is told to do from now on."""
        self.ask([order for order in orders if self.asked[order.w] != order])
        while not all(self.there[order.w] for order in orders):
            self.collect(wait=True)
        if self._stream:
            torch.cuda.current_stream().wait_stream(self._stream)

    def _deliver(self, lot: Lot) -> None:
        """Upload a lot and put its episodes into their places, those that are no longer wanted left out."""
        lot.labels[0] = -1
        for row, order in enumerate(lot.orders):
            if self.asked[order.w] == order and not self.there[order.w]:
                lot.labels[0, row], lot.labels[1, row] = order.w, order.episode
                self.there[order.w] = True
                self.length[order.w] = lot.host.state.world[row, col.MAX_STEPS]
        earlier = torch.cuda.current_stream() if self._stream else None
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            lot.twin.memory.copy_(lot.host.memory, non_blocking=True)
            lot.twin_labels.copy_(lot.labels, non_blocking=True)
            if self._stream and earlier and lot.uploaded:
                lot.uploaded.record()
                self._stream.wait_stream(earlier)  # which may still be taking episodes from these places
            worlds, episodes = shared(lot.twin_labels)
            delivery = Delivery(lot.twin.shared, self.block.shared, self._plan, worlds, episodes, self._ready)
            deliver[len(lot.labels[0]), COPYING, stream_of(lot.twin.memory)](delivery)
