"""Prepares episodes in advance: a CPU thread builds them in batches, and each batch is uploaded in one copy."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from memexp.envs.grid import columns as col
from memexp.envs.grid.cpu_envs import EpisodeTable
from memexp.envs.grid.cuda import COPYING, Delivery, deliver
from memexp.envs.grid.memory import Block, copying, shared, stream_of
from memexp.envs.grid.rooms import room_for
from memexp.envs.grid.state import Sizes
from memexp.envs.grid.step import begin_worlds

BATCHES = 3
"""Batches in flight: one is prepared while another is uploaded."""
BATCH = 64
"""Most episodes in a batch."""


class Order(NamedTuple):
    """An episode to prepare: row of the environment, number of the episode, task."""

    w: int
    episode: int
    task: int


class Batch:
    """Memory for episodes as they are after their start, on the host and, once uploaded, on the device."""

    def __init__(self, sizes: Sizes, length: int, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.host = Block(sizes, length, torch.device("cpu"), pinned)
        self.on_device = Block(sizes, length, device)
        self.labels = torch.zeros(2, length, dtype=torch.int64, pin_memory=pinned)
        self.device_labels = torch.zeros(2, length, dtype=torch.int64, device=device)
        self.uploaded = torch.cuda.Event() if pinned else None
        self.orders: Sequence[Order] = ()
        self.work: Future[None] | None = None
        self._scratch = room_for(sizes.height, sizes.width)

    def prepare(self, table: EpisodeTable) -> None:
        """Build tables and maps of the orders and start the episodes on the CPU."""
        if self.uploaded is not None:
            self.uploaded.synchronize()  # wait until the previous content has left
        for row, order in enumerate(self.orders):
            table.load(self.host.state, row, *order)
        begin_worlds(self.host.state, np.arange(len(self.orders)), self._scratch, False)


class Pool:
    """The next episode of every environment, each in its own place on the device."""

    def __init__(self, table: EpisodeTable, sizes: Sizes, device: torch.device) -> None:
        n, length = table.num_envs, min(BATCH, table.num_envs)
        self.block = Block(sizes, n, device)
        self.ready = torch.full((n,), -1, dtype=torch.int64, device=device)
        """Number of the episode in each place, `[W]` on the device."""
        self.orders: list[Order | None] = [None] * n
        """The order for each place; None: none yet."""
        self.there = np.zeros(n, np.bool_)
        """Whether the device has, or has been told to put, the ordered episode in its place."""
        self.length = np.zeros(n, np.int64)
        """Length of the episode in each place, steps; 0: it never ends."""
        self._table = table
        self._idle = [Batch(sizes, length, device) for _ in range(BATCHES)]
        self._busy: list[Batch] = []  # in the order of their start
        self._thread = ThreadPoolExecutor(1, "episodes")
        self._plan = copying(self.block, self._idle[0].on_device)
        self._ready: Any = shared(self.ready)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def has_room(self) -> bool:
        """Whether a batch can be ordered without waiting."""
        return bool(self._idle)

    def vacate(self, w: int) -> None:
        """Cancel the order for environment w."""
        self.orders[w] = None
        self.there[w] = False

    def order(self, orders: Sequence[Order]) -> None:
        """Start to prepare these episodes. They replace earlier orders for the same environments."""
        for begin in range(0, len(orders), BATCH):
            while not self._idle:
                self.collect(wait=True)
            batch = self._idle.pop()
            batch.orders = orders[begin : begin + BATCH]
            for order in batch.orders:
                self.orders[order.w], self.there[order.w] = order, False
            batch.work = self._thread.submit(batch.prepare, self._table)
            self._busy.append(batch)

    def collect(self, wait: bool = False) -> None:
        """Upload the batches that are ready. `wait`: wait for the first of them."""
        while self._busy and self._busy[0].work and (wait or self._busy[0].work.done()):
            wait = False
            batch = self._busy.pop(0)
            assert batch.work
            batch.work.result()
            self._deliver(batch)
            self._idle.append(batch)

    def ensure(self, orders: Sequence[Order]) -> None:
        """Make sure that work enqueued from now on in the current stream finds these episodes."""
        self.order([order for order in orders if self.orders[order.w] != order])
        while not all(self.there[order.w] for order in orders):
            self.collect(wait=True)
        if self._stream:
            torch.cuda.current_stream().wait_stream(self._stream)

    def _deliver(self, batch: Batch) -> None:
        """Upload a batch and copy its episodes to their places, except those whose order has changed."""
        batch.labels[0] = -1
        for row, order in enumerate(batch.orders):
            if self.orders[order.w] == order and not self.there[order.w]:
                batch.labels[0, row], batch.labels[1, row] = order.w, order.episode
                self.there[order.w] = True
                self.length[order.w] = batch.host.state.world[row, col.MAX_STEPS]
        earlier = torch.cuda.current_stream() if self._stream else None
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            batch.on_device.memory.copy_(batch.host.memory, non_blocking=True)
            batch.device_labels.copy_(batch.labels, non_blocking=True)
            if self._stream and earlier and batch.uploaded:
                batch.uploaded.record()
                self._stream.wait_stream(earlier)  # it may still read episodes from these places
            worlds, episodes = shared(batch.device_labels)
            delivery = Delivery(batch.on_device.shared, self.block.shared, self._plan, worlds, episodes, self._ready)
            deliver[len(batch.labels[0]), COPYING, stream_of(batch.on_device.memory)](delivery)
