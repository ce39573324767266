"""The rules inside CUDA kernels: one step of every world, and the change to the next episode where one has ended.

    act      one thread a world          agents act one after another, as the rules say
    look     one thread an agent         milestones and observations: every agent writes its own alone
    settle   one thread a world          counts tokens in the agents' order, pays rewards, ends episodes
    renew    one block a world           where an episode has ended: keeps what it leaves behind, copies the next one in
    deliver  one block a prepared world  copies worlds that were uploaded in bulk to where `renew` looks for them

Why so. In a world of many agents acting is a chain of dependent reads, and agents do different things: lanes of one
warp that act for different worlds would wait for each other at every branch. There each acting thread is a block, so
a warp, of its own: a device has room for thousands of them, and idle lanes cost nothing while memory is waited for. In
worlds of one agent the chain is short and the worlds are many: there 32 of them share a warp. Looking is nine tenths of
the work and independent by agent. Neighbouring threads look for agents of one world, whose tables and map they share in
the cache. What a thread writes is an observation of 600 bytes, byte by byte: not coalesced, but caught by the cache,
since each line is filled by one thread within microseconds. Copies run over 32-bit words side by side: coalesced.

All rules are the CPU's, and floating-point sums keep its order: the results are the same bits. Launches depend on
shapes alone, so that a CUDA graph can hold them. Everything is passed in named tuples, which CUDA's simulator
(NUMBA_ENABLE_CUDASIM=1 with NUMBA_DISABLE_JIT=1) hands on as they are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba.cuda
import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.grid.milestones import note_milestones
from memexp.envs.grid.observe import count_tokens, look
from memexp.envs.grid.rng import draw
from memexp.envs.grid.step import RANDOM, RECORDED, act_in_turn, settle, shuffle
from memexp.jit import cache_directory

try:  # what numba-cuda reads, as opposed to the target that is built into Numba
    from numba.cuda.core import config  # type: ignore[import-not-found]
except ImportError:
    from numba.core import config  # type: ignore[attr-defined]

cuda: Any = numba.cuda
SIMULATED = bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]
COPYING = 4 if SIMULATED else 128
"""Threads that copy one world."""
LOOKING = 4 if SIMULATED else 64
"""Agents in one block of `look`."""
RECORD_HEAD = 2
"""Words of a record before its arrays: number of the world, number of its episode."""
NUM_ENDED, NUM_STARVED = 0, 1
"""Counters: episodes that ended; and worlds that found no next one, which must not happen."""

KERNELS: dict[str, Any] = {}
"""Name -> kernel, `kernel[grid, block, stream](...)`."""


class Memory(NamedTuple):
    """One piece of device memory, seen as numbers of 32 and of 16 bits."""

    words: Any
    """int32 [bytes / 4]."""
    halves: Any
    """int16 [bytes / 2]."""


class Plan(NamedTuple):
    """What to copy between two pieces of memory: rows (begin, length of a row) there, the same here, numbers a row."""

    words: Any
    """int64 [fields, 5]."""
    halves: Any
    """int64 [fields, 5]."""


class Turn(NamedTuple):
    """What a step needs besides the worlds."""

    actions: Any
    """int64 [W, A]."""
    steps: Any
    """int64 [W]: how many steps to carry each world on."""
    seen: Any
    """int32 [W, A]: tokens of each agent's observation, those that found no room included."""
    ends: Any
    """bool [W, A]: the agent's episode has ended."""


class Change(NamedTuple):
    """What changes a world that has ended to its next episode."""

    live: Memory
    pool: Memory
    """The next episode of every world, as it stands after its start."""
    log: Memory
    """Records of `record` words: what ended episodes leave behind."""
    record: int
    to_last: Plan
    """Copies observations to where the last ones are kept, within `live`."""
    to_log: Plan
    to_live: Plan
    episode: Any
    """int64 [W]: number of the episode that a world plays."""
    ready: Any
    """int64 [W]: number of the episode that lies in the pool."""
    counters: Any
    """int32 [2]: see NUM_ENDED, NUM_STARVED."""


class Delivery(NamedTuple):
    """Worlds that were uploaded together."""

    lot: Memory
    to: Memory
    plan: Plan
    worlds: Any
    """int64 [L]: the world that each of them is for, -1: none."""
    episodes: Any
    """int64 [L]."""
    ready: Any
    """int64 [W], as in Change."""


def kernel(function: Callable[..., None]) -> Any:
    """A CUDA kernel, compiled on its first launch and kept on disk under the hash of all rules."""
    before = config.CACHE_DIR  # type: ignore[attr-defined]
    config.CACHE_DIR = cache_directory(Path(__file__).parent)  # type: ignore[attr-defined]
    try:
        KERNELS[function.__name__] = cuda.jit(cache=True)(function)
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
    return KERNELS[function.__name__]


@kernel
def act(s, turn, mode):
    """Carry every world w turn.steps[w] steps on; the last one is left to be looked at and settled. See step_worlds."""
    w = cuda.grid(1)
    if w < s.world.shape[0]:
        for step in range(turn.steps[w]):
            if step > 0:  # nobody looks at the steps between
                for agent in range(s.agents.shape[1]):
                    note_milestones(s, w, agent)
                settle(s, w)
            if mode != RECORDED:
                shuffle(s, w)
            if mode == RANDOM:
                for agent in range(s.agents.shape[1]):
                    turn.actions[w, agent] = draw(s, w, s.world[w, col.NUM_ACTIONS])
            act_in_turn(s, w, turn.actions)


@kernel
def look_around(s, turn):
    """Milestones and observations of all agents of the worlds that were carried on."""
    n, num_agents = cuda.grid(1), s.agents.shape[1]
    w, agent = n // num_agents, n % num_agents
    if w < s.world.shape[0] and turn.steps[w] > 0:
        note_milestones(s, w, agent)
        turn.seen[w, agent] = look(s, w, agent)


@kernel
def settle_all(s, turn):
    """Count tokens, pay rewards and say whose episodes have ended."""
    w = cuda.grid(1)
    if w < s.world.shape[0]:
        if turn.steps[w] > 0:
            for agent in range(s.agents.shape[1]):
                count_tokens(s, w, turn.seen[w, agent])
            settle(s, w)
        for agent in range(s.agents.shape[1]):
            turn.ends[w, agent] = s.terminated[w]


@kernel
def renew(s, change):
    """Where an episode has ended: keep its last observations and what it leaves behind, begin the next one."""
    w, lane, lanes = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    if not s.terminated[w]:
        return
    place = cuda.shared.array(1, np.int32)
    if lane == 0:
        place[0] = cuda.atomic.add(change.counters, NUM_ENDED, 1)
    cuda.syncthreads()
    first = place[0] * change.record
    copy_row(change.live, w, change.live, w, change.to_last, lane, lanes)
    if first < change.log.words.shape[0]:
        copy_row(change.log, place[0], change.live, w, change.to_log, lane, lanes)
        if lane == 0:
            change.log.words[first] = w
            change.log.words[first + 1] = change.episode[w]
    cuda.syncthreads()
    following = change.episode[w] + 1
    if change.ready[w] == following:
        copy_row(change.live, w, change.pool, w, change.to_live, lane, lanes)
    elif lane == 0:
        cuda.atomic.add(change.counters, NUM_STARVED, 1)
    cuda.syncthreads()
    if lane == 0:
        change.episode[w] = following


@kernel
def deliver(delivery):
    """Copy every uploaded world to its place."""
    v, lane, lanes = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x
    w = delivery.worlds[v]
    if w >= 0:
        copy_row(delivery.to, w, delivery.lot, v, delivery.plan, lane, lanes)
        if lane == 0:
            delivery.ready[w] = delivery.episodes[v]


def launches(s: Any, turn: Turn, mode: int, stream: Any) -> dict[str, Callable[[], None]]:
    """What carries all worlds on, but for what follows an episode's end, in order; s: State of arrays on the device."""
    n, num_agents = s.agents.shape[:2]
    lanes = min(n, 32)
    alone = 1 if num_agents > 1 else lanes
    return {
        "act": lambda: act[-(-n // alone), alone, stream](s, turn, mode),
        "look": lambda: look_around[-(-n * num_agents // LOOKING), LOOKING, stream](s, turn),
        "settle": lambda: settle_all[-(-n // lanes), lanes, stream](s, turn),
    }


@compiled
def copy_row(to, w, of, v, plan, lane, lanes):
    """Copy row v of every field of `plan` to row w; all lanes of a block do this together."""
    for f in range(plan.words.shape[0]):
        there = plan.words[f, 0] + w * plan.words[f, 1]
        here = plan.words[f, 2] + v * plan.words[f, 3]
        for i in range(lane, plan.words[f, 4], lanes):
            to.words[there + i] = of.words[here + i]
    for f in range(plan.halves.shape[0]):
        there = plan.halves[f, 0] + w * plan.halves[f, 1]
        here = plan.halves[f, 2] + v * plan.halves[f, 3]
        for i in range(lane, plan.halves[f, 4], lanes):
            to.halves[there + i] = of.halves[here + i]
