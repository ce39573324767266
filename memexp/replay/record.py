"""Plays one episode in one world of a grid game and keeps what it takes to show every step of it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from memexp.envs.grid import columns as col
from memexp.envs.grid.state import State
from memexp.envs.grid.step import GIVEN, step_worlds
from memexp.envs.grid.vec_env import GridEnv
from memexp.replay.changes import ChangeLog, Changes
from memexp.replay.facts import Crop, facts_of
from memexp.replay.players import Player, Thoughts

FLOATS = ("reward", "return", "value")
"""Channels that hold float32 numbers, kept as the int32 of the same bits."""
NO_ACTION = -1
Frame = dict[str, np.ndarray]
"""The channels of one step by name."""


@dataclass(frozen=True)
class Recording:
    """One episode. A agents, O objects, C chests, R resources, K likeliest actions; step 0 is the start.

    Channels, int32 unless said otherwise:
        cell [A]               place on the map, row * width + column
        vibe [A]
        action, success [A]    the action that led to this step (NO_ACTION in step 0), and whether it succeeded
        cut [A]                0, or 1 + the location byte where the observation was cut off: tokens had no more room
        inventory [A, R]
        reward, return [A]     float32: of this step, and the sum so far
        end, uses [O]          step in which the cooldown ends; number of uses
        chest [C, R]           contents
        choices, chances [A, K], value [A]   of a policy, before it acts: see players.Thoughts
    """

    facts: dict[str, Any]
    """What does not change, as JSON can hold it; see facts.facts_of."""
    shapes: dict[str, tuple[int, ...]]
    """Channel -> shape, in the order in which their numbers stand in `changes`."""
    changes: Changes

    @property
    def last(self) -> int:
        """The last step."""
        return self.changes.last

    def frame(self, step: int) -> Frame:
        """All channels in a step."""
        sizes = [prod(shape) for shape in self.shapes.values()]
        parts = np.split(self.changes.at(step), np.cumsum(sizes)[:-1])
        shaped = zip(self.shapes.items(), parts, strict=True)
        return {name: _typed(name, part).reshape(shape) for (name, shape), part in shaped}

    def series(self, channel: str, *index: int) -> np.ndarray:
        """One number of a channel in all steps, `[T + 1]`."""
        before = list(self.shapes).index(channel)
        start = sum(prod(shape) for shape in list(self.shapes.values())[:before])
        number = start + int(np.ravel_multi_index(index, self.shapes[channel]))
        return _typed(channel, self.changes.of(number))


def _typed(channel: str, numbers: np.ndarray) -> np.ndarray:
    """The numbers of a channel from the int32 that they are kept as."""
    return numbers.view(np.float32) if channel in FLOATS else numbers


def record(
    env: GridEnv, player: Player, max_steps: int | None = None, watch: Callable[[int, int], None] | None = None
) -> Recording:
    """Play the first episode of `env`, one world on the CPU, to its end or for `max_steps`.

    The game is stepped by its rules alone, so that the last step's state is still there to be recorded; `env` itself
    is not to be used afterwards. `watch` is told (steps played, steps of the whole) now and then.
    """
    obs, s = env.reset(), env.state
    whole = int(s.world[0, col.MAX_STEPS])
    last = min(whole, max_steps or whole)
    actions, one = np.full((1, env.num_agents), NO_ACTION), np.ones(1, np.int64)
    resets = torch.ones(env.num_agents, dtype=torch.bool)
    log, crop = ChangeLog(), Crop(s)
    for step in range(last + 1):
        chosen, thoughts = player(obs, resets)
        frame = _frame(s, crop, actions[0], thoughts)
        log.note(np.concatenate([part.reshape(-1) for part in frame.values()]))
        actions[0] = chosen.numpy()
        resets[:] = False
        if watch and (step % 32 == 0 or step == last):
            watch(step, last)
        if step < last:
            step_worlds(s, actions, one, GIVEN)
    return Recording(facts_of(env, crop), {name: part.shape for name, part in frame.items()}, log.close())


def _frame(s: State, crop: Crop, actions: np.ndarray, thoughts: Thoughts | None) -> Frame:
    """What there is to see of world 0, all as int32."""
    agents, inventory = s.agents[0], s.inventory[0, :, : col.NUM_RESOURCES]
    num_agents, objects = len(agents), s.objects[0, : s.world[0, col.NUM_OBJECTS]]
    chests = int(np.count_nonzero(objects[:, col.SLOT] >= 0))
    full = agents[:, col.TOKENS] == col.NUM_TOKENS
    frame = {
        "cell": crop.cells(agents[:, col.CELL]),
        "vibe": agents[:, col.VIBE],
        "action": actions,
        "success": agents[:, col.SUCCESS],
        "cut": np.where(full, s.obs[0, :, -1, 0].astype(np.int64) + 1, 0),
        "inventory": inventory[:num_agents],
        "reward": s.rewards[0] if s.world[0, col.STEP] else np.zeros(num_agents, np.float32),
        "return": s.agent_stats[0, :, col.RETURN].copy(),
        "end": objects[:, col.END],
        "uses": objects[:, col.USES],
        "chest": inventory[num_agents : num_agents + chests],
    }
    if thoughts:
        frame |= {"choices": thoughts.choices, "chances": thoughts.chances, "value": thoughts.values}
    return {name: part.view(np.int32) if name in FLOATS else part.astype(np.int32) for name, part in frame.items()}
