"""The rules as CUDA kernels: one step of every world (environment), and the start of the next episode.

    act      one thread per world           agents act one after another
    look     one thread per agent           milestones and observations
    settle   one thread per world           counts tokens in the order of agents, computes rewards, ends episodes
    renew    one block per world            if the episode has ended: keeps its final state, copies the next one in
    deliver  one block per prepared world   copies uploaded worlds to the places where `renew` looks for them

Acting is a chain of dependent reads with many branches. With many agents per world, each acting thread is a block, so
a warp, of its own: threads of one warp would wait for each other at every branch. With one agent per world the chain is
short and worlds are many, so 32 of them share a warp. Looking is nine tenths of the work and independent by agent;
neighbouring threads look for agents of one world and share its tables and map in the cache. A thread writes its 600
bytes of observation one by one. These writes are not coalesced, but the cache collects them. Copies use 32-bit words
side by side and are coalesced.

The rules and the order of floating-point sums are those of the CPU, so the results are the same bits. Launches depend
on shapes alone, so a CUDA graph can replay them. Arguments are named tuples, which CUDA's simulator
(NUMBA_ENABLE_CUDASIM=1 with NUMBA_DISABLE_JIT=1) supports.
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

try:  # the config of numba-cuda, not that of the CUDA target inside Numba
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
"""Words of a record before its arrays: index of the world, number of its episode."""
NUM_ENDED, NUM_STARVED = 0, 1
"""Counters: ended episodes, and worlds that found no next episode (which must not happen)."""

KERNELS: dict[str, Any] = {}
"""Name -> kernel, `kernel[grid, block, stream](...)`."""


class Memory(NamedTuple):
    """One block of device memory, as numbers of 32 and of 16 bits."""

    words: Any  # int32 [bytes / 4]
    halves: Any  # int16 [bytes / 2]


class Plan(NamedTuple):
    """What to copy between two blocks. A field: (begin, row length) of target and source, numbers per row."""

    words: Any  # int64 [fields, 5]
    halves: Any  # int64 [fields, 5]


class Turn(NamedTuple):
    """What a step needs besides the worlds."""

    actions: Any  # int64 [W, A]
    steps: Any  # int64 [W]: number of steps of each world
    seen: Any  # int32 [W, A]: tokens of each agent's observation, including those that did not fit
    dones: Any  # bool [W, A]: the agent's episode has ended


class Change(NamedTuple):
    """What starts the next episode of a world."""

    live: Memory
    pool: Memory  # the next episode of every world, as it is after its start
    log: Memory  # records of `record` words with the final state of ended episodes
    record: int
    to_last: Plan  # within `live`: observations to final_obs
    to_log: Plan
    to_live: Plan
    episode: Any  # int64 [W]: number of the running episode
    ready: Any  # int64 [W]: number of the episode in the pool
    counters: Any  # int32 [2]: see NUM_ENDED, NUM_STARVED


class Delivery(NamedTuple):
    """Worlds that were uploaded together."""

    batch: Memory
    to: Memory
    plan: Plan
    worlds: Any  # int64 [L]: the world that each of them is for, -1: none
    episodes: Any  # int64 [L]
    ready: Any  # int64 [W], as in Change


def kernel(function: Callable[..., None]) -> Any:
    """A CUDA kernel. It is compiled on its first launch and cached on disk under the hash of all rules."""
    before = config.CACHE_DIR  # type: ignore[attr-defined]
    config.CACHE_DIR = cache_directory(Path(__file__).parent)  # type: ignore[attr-defined]
    try:
        KERNELS[function.__name__] = cuda.jit(cache=True)(function)
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
    return KERNELS[function.__name__]


@kernel
def act(s, turn, mode):
    """Make turn.steps[w] steps in every world w, but leave looking and settling of the last one. See step_worlds."""
    w = cuda.grid(1)
    if w < s.world.shape[0]:
        for step in range(turn.steps[w]):
            if step > 0:  # the steps before are not observed
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
    """Milestones and observations of all agents of the worlds that made a step."""
    n, num_agents = cuda.grid(1), s.agents.shape[1]
    w, agent = n // num_agents, n % num_agents
    if w < s.world.shape[0] and turn.steps[w] > 0:
        note_milestones(s, w, agent)
        turn.seen[w, agent] = look(s, w, agent)


@kernel
def settle_all(s, turn):
    """Count tokens, compute rewards and dones."""
    w = cuda.grid(1)
    if w < s.world.shape[0]:
        if turn.steps[w] > 0:
            for agent in range(s.agents.shape[1]):
                count_tokens(s, w, turn.seen[w, agent])
            settle(s, w)
        for agent in range(s.agents.shape[1]):
            turn.dones[w, agent] = s.terminated[w]


@kernel
def renew(s, change):
    """If an episode has ended: keep its last observations and final state, and start the next one."""
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
        copy_row(delivery.to, w, delivery.batch, v, delivery.plan, lane, lanes)
        if lane == 0:
            delivery.ready[w] = delivery.episodes[v]


def launches(s: Any, turn: Turn, mode: int, stream: Any) -> dict[str, Callable[[], None]]:
    """The kernels of one step in order, except `renew`. s: State of arrays on the device."""
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
    """Copy row v of every field of `plan` to row w. All lanes of a block work together."""
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
