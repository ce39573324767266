"""One step of every world: actions, regeneration, observations, rewards, end of the episode."""

import numba
import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.actions import act, regenerate
from memexp.envs.grid.compiled import compiled
from memexp.envs.grid.inventories import set_initial
from memexp.envs.grid.observe import observe
from memexp.envs.grid.rng import draw


@compiled
def begin(s, w):
    """Start an episode on the game and map that world w now holds, and write its first observations."""
    s.world[w, col.STEP] = 0
    s.terminated[w] = False
    for slot in range(s.inventory.shape[1]):
        s.held[w, slot, col.NUM_RESOURCES] = 0
        for r in range(col.NUM_RESOURCES):
            s.inventory[w, slot, r] = 0
    for i in range(col.GAME_STATS):
        s.game_stats[w, i] = 0
    for obj in range(s.world[w, col.NUM_OBJECTS]):
        s.objects[w, obj, col.END] = 0
        s.objects[w, obj, col.DURATION] = 0
        s.objects[w, obj, col.USES] = 0
    for agent in range(s.agents.shape[1]):
        begin_agent(s, w, agent)
    for agent in range(s.agents.shape[1]):
        observe(s, w, agent)


@compiled
def begin_agent(s, w, agent):
    """Give an agent its initial state, inventory included; its cell is given by the map."""
    s.agents[w, agent, col.VIBE] = 0
    s.agents[w, agent, col.STOOD] = s.agents[w, agent, col.CELL]
    s.agents[w, agent, col.STILL] = 0
    s.agents[w, agent, col.SUCCESS] = 0
    s.agents[w, agent, col.LAST_ACTION] = 0
    for i in range(col.AGENT_STATS):
        s.agent_stats[w, agent, i] = 0
    for i in range(col.NUM_INVALID_SEEN):
        s.invalid_seen[w, agent, i, 1] = 0
    s.rewards[w, agent] = 0
    s.returns[w, agent] = 0
    s.reward_sums[w, agent] = 0
    for i in range(s.world[w, col.INITIAL], s.world[w, col.INITIAL_END]):
        set_initial(s, w, agent, s.rows[w, i, col.RESOURCE], s.rows[w, i, col.AMOUNT])


@compiled
def play(s, w, actions, seen):
    """One step of world w with actions [W, A], in the order of s.order; `seen`: write observations."""
    num_agents = s.agents.shape[1]
    step = s.world[w, col.STEP] + 1
    s.world[w, col.STEP] = step
    for i in range(num_agents):
        agent = s.order[w, i]
        act(s, w, agent, actions[w, agent])
    interval = s.world[w, col.REGEN_INTERVAL]
    if interval > 0 and step % interval == 0:
        for agent in range(num_agents):
            regenerate(s, w, agent)
    if seen:
        for agent in range(num_agents):
            observe(s, w, agent)
    for agent in range(num_agents):
        reward(s, w, agent)
    s.terminated[w] = 0 < s.world[w, col.MAX_STEPS] <= step
    if s.terminated[w] and seen:
        for agent in range(num_agents):
            for i in range(col.NUM_TOKENS):
                for j in range(3):
                    s.final_obs[w, agent, i, j] = s.obs[w, agent, i, j]


@compiled
def reward(s, w, agent):
    """Pay an agent the change of its weighted statistics, in float32 as the original does."""
    total = np.float32(0)
    for i in range(s.world[w, col.NUM_REWARDS]):
        stat = s.reward_stats[w, i]
        if stat < col.AGENT_STATS:
            value = s.agent_stats[w, agent, stat]
        else:
            value = s.game_stats[w, stat - col.AGENT_STATS]
        total += min(value * s.reward_weights[w, i, col.WEIGHT], s.reward_weights[w, i, col.CAP])
    s.rewards[w, agent] = total - s.reward_sums[w, agent]
    s.returns[w, agent] += s.rewards[w, agent]
    s.reward_sums[w, agent] = total


@compiled
def shuffle(s, w):
    """Put the agents of a world into a fresh random order (Fisher-Yates)."""
    for i in range(s.order.shape[1] - 1, 0, -1):
        j = draw(s, w, i + 1)
        s.order[w, i], s.order[w, j] = s.order[w, j], s.order[w, i]


@compiled(parallel=True)
def step_worlds(s, actions):
    """One step of every world; actions [W, A] integers."""
    for w in numba.prange(s.world.shape[0]):
        shuffle(s, w)
        play(s, w, actions, True)


@compiled
def replay_worlds(s, actions):
    """One step of every world, the agents acting in the order that stands in s.order."""
    for w in range(s.world.shape[0]):
        play(s, w, actions, True)


@compiled(parallel=True)
def wander(s, actions, steps):
    """Carry world w `steps[w]` steps on by uniformly random actions; `actions` [W, A] is room to work in."""
    for w in numba.prange(s.world.shape[0]):
        for i in range(steps[w]):
            shuffle(s, w)
            for agent in range(s.agents.shape[1]):
                actions[w, agent] = draw(s, w, s.world[w, col.NUM_ACTIONS])
            play(s, w, actions, i == steps[w] - 1)
