"""One step of every world: actions, regeneration, observations, rewards, end of the episode."""

import numba
import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.actions import act, regenerate
from memexp.envs.grid.compiled import choose_threads, compiled, entry, inlined, num_cores
from memexp.envs.grid.inventories import set_initial
from memexp.envs.grid.maps import furnish
from memexp.envs.grid.milestones import note_milestones
from memexp.envs.grid.observe import observe
from memexp.envs.grid.occupancy import survey
from memexp.envs.grid.rng import draw
from memexp.envs.grid.state import State

GIVEN, RECORDED, RANDOM, QUIET = range(4)
CHUNK = 16
"""Number of worlds that one core steps at a time."""
AGENTS_FOR_MORE_CORES = 1024
"""With fewer agents, one core is faster than all."""


@compiled
def begin(s, w):
    """Start an episode with the game and map of world w, and write the first observations.

    Rewards and `terminated` keep their values: they belong to the episode that the latest step ended.
    """
    s.world[w, col.STEP] = 0
    for slot in range(s.inventory.shape[1]):
        for i in range(col.INVENTORY_COLUMNS):
            s.inventory[w, slot, i] = 0
    for i in range(col.GAME_STATS):
        s.game_stats[w, i] = 0
    for obj in range(s.world[w, col.NUM_OBJECTS]):
        s.objects[w, obj, col.END] = 0
        s.objects[w, obj, col.DURATION] = 0
        s.objects[w, obj, col.USES] = 0
    survey(s, w)
    for agent in range(s.agents.shape[1]):
        begin_agent(s, w, agent)
    for agent in range(s.agents.shape[1]):
        observe(s, w, agent)


@compiled
def begin_agent(s, w, agent):
    """Set the initial state of an agent, including its inventory. The map sets its cell."""
    s.agents[w, agent, col.TURN] = agent
    s.agents[w, agent, col.VIBE] = 0
    s.agents[w, agent, col.START] = s.agents[w, agent, col.CELL]
    s.agents[w, agent, col.STOOD] = s.agents[w, agent, col.CELL]
    s.agents[w, agent, col.STILL] = 0
    s.agents[w, agent, col.SUCCESS] = 0
    s.agents[w, agent, col.LAST_ACTION] = 0
    for i in range(col.AGENT_STAT_COLUMNS):
        s.agent_stats[w, agent, i] = 0
    for i in range(col.NUM_INVALID_SEEN):
        s.invalid_seen[w, agent, i, 1] = 0
    for i in range(s.milestones.shape[2]):
        s.milestones[w, agent, i] = col.NOT_YET
    for i in range(s.world[w, col.INITIAL], s.world[w, col.INITIAL_END]):
        set_initial(s, w, agent, s.rows[w, i, col.RESOURCE], s.rows[w, i, col.AMOUNT])


@inlined
def act_in_turn(s, w, actions):
    """The agents of world w act in the order of TURN, actions [W, A]; then they regenerate."""
    step = s.world[w, col.STEP] + 1
    s.world[w, col.STEP] = step
    for i in range(s.agents.shape[1]):
        agent = s.agents[w, i, col.TURN]
        act(s, w, agent, actions[w, agent])
    interval = s.world[w, col.REGEN_INTERVAL]
    if interval > 0 and step % interval == 0:
        for agent in range(s.agents.shape[1]):
            regenerate(s, w, agent)


@inlined
def settle(s, w):
    """Compute the rewards of a step and end the episode if it is over. Only MAX_STEPS ends an episode."""
    for agent in range(s.agents.shape[1]):
        reward(s, w, agent)
    s.terminated[w] = 0 < s.world[w, col.MAX_STEPS] <= s.world[w, col.STEP]


@inlined
def keep_last(s, w):
    """Copy the last observations of an ended episode to final_obs."""
    for agent in range(s.agents.shape[1]):
        for i in range(col.NUM_TOKENS):
            for j in range(3):
                s.final_obs[w, agent, i, j] = s.obs[w, agent, i, j]


@inlined
def reward(s, w, agent):
    """The reward of an agent: the change of its weighted statistics, in float32 as in MettaGrid."""
    total = np.float32(0)
    for i in range(s.world[w, col.NUM_REWARDS]):
        stat = int(s.reward_terms[w, i, col.STAT])
        if stat < col.AGENT_STATS:
            value = s.agent_stats[w, agent, stat]
        else:
            value = s.game_stats[w, stat - col.AGENT_STATS]
        total += min(value * s.reward_terms[w, i, col.WEIGHT], s.reward_terms[w, i, col.CAP])
    s.rewards[w, agent] = total - s.agent_stats[w, agent, col.PAID]
    s.agent_stats[w, agent, col.PAID] = total
    s.agent_stats[w, agent, col.RETURN] += s.rewards[w, agent]


@inlined
def shuffle(s, w):
    """Shuffle the order in which the agents of a world act (Fisher-Yates)."""
    for i in range(s.agents.shape[1] - 1, 0, -1):
        j = draw(s, w, i + 1)
        agent = s.agents[w, i, col.TURN]
        s.agents[w, i, col.TURN] = s.agents[w, j, col.TURN]
        s.agents[w, j, col.TURN] = agent


@entry()
def begin_worlds(s, worlds, scratch, furnished):
    """Start an episode in each of `worlds` [n] with its game, on a new map unless `furnished`."""
    for i in range(worlds.shape[0]):
        w = worlds[i]
        if not furnished:
            furnish(s, w, scratch)
        begin(s, w)


@compiled
def carry_on(s, first, last, actions, steps, mode):
    """Step worlds first .. last - 1, see step_worlds."""
    for w in range(first, last):
        for step in range(steps[w]):
            if mode != RECORDED:
                shuffle(s, w)
            if mode == RANDOM:
                for agent in range(s.agents.shape[1]):
                    actions[w, agent] = draw(s, w, s.world[w, col.NUM_ACTIONS])
            act_in_turn(s, w, actions)
            for agent in range(s.agents.shape[1]):
                note_milestones(s, w, agent)
            if mode < RANDOM or (mode == RANDOM and step == steps[w] - 1):
                for agent in range(s.agents.shape[1]):
                    observe(s, w, agent)
            settle(s, w)
            if s.terminated[w]:
                keep_last(s, w)


@entry()
def step_on_one_core(s, actions, steps, mode):
    """`step_worlds` on this core."""
    carry_on(s, 0, s.world.shape[0], actions, steps, mode)


@entry(parallel=True)
def step_on_all_cores(s, actions, steps, mode):
    """`step_worlds` on all cores."""
    num_worlds = s.world.shape[0]
    for i in numba.prange((num_worlds + CHUNK - 1) // CHUNK):
        first = np.int64(i) * CHUNK  # an unsigned prange index would make Numba compile every rule a second time
        carry_on(s, first, min(first + CHUNK, num_worlds), actions, steps, mode)


def step_worlds(s: State, actions: np.ndarray, steps: np.ndarray, mode: int = GIVEN) -> None:
    """Make `steps[w]` steps in each world w with actions int64 [W, A], the same in every step.

    Mode GIVEN: agents act in random order. RECORDED: in the order of TURN. RANDOM: `actions` is overwritten with
    uniformly random ones, and only the last step is observed. QUIET: as GIVEN, without observations. Uses
    NUMBA_NUM_THREADS cores (default: all) if there are enough agents.
    """
    if num_cores() == 1 or actions.size < AGENTS_FOR_MORE_CORES:
        step_on_one_core(s, actions, steps, mode)
    else:
        choose_threads()
        step_on_all_cores(s, actions, steps, mode)
