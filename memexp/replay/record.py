"""Plays one episode in one environment of a grid game and keeps what is needed to show every step."""

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
from memexp.replay.policies import Actor, Predictions

FLOATS = ("reward", "return", "value")
"""Channels of float32 numbers, stored as the int32 with the same bits."""
NO_ACTION = -1
Frame = dict[str, np.ndarray]
"""The channels of one step by name."""


@dataclass(frozen=True)
class Recording:
    """One episode. A agents, O objects, C chests, R resources, K most probable actions; step 0 is the start.

    Channels (int32 unless noted):
        cell [A]               position on the map, row * width + column
        vibe [A]
        action, success [A]    the action that led to this step (NO_ACTION in step 0), and whether it succeeded
        cut [A]                0, or 1 + the location byte at which the observation was cut off
        inventory [A, R]
        reward, return [A]     float32: of this step, and the sum so far
        end, uses [O]          step at which the cooldown ends; number of uses
        chest [C, R]           contents
        choices, chances [A, K], value [A]   outputs of a run's policy: see policies.Predictions
    """

    facts: dict[str, Any]  # see facts.facts_of
    shapes: dict[str, tuple[int, ...]]  # channel -> shape, in the order of the numbers in `changes`
    changes: Changes

    @property
    def last(self) -> int:
        return self.changes.last

    def frame(self, step: int) -> Frame:
        """All channels of a step."""
        sizes = [prod(shape) for shape in self.shapes.values()]
        parts = np.split(self.changes.at(step), np.cumsum(sizes)[:-1])
        shaped = zip(self.shapes.items(), parts, strict=True)
        return {name: _typed(name, part).reshape(shape) for (name, shape), part in shaped}


def _typed(channel: str, numbers: np.ndarray) -> np.ndarray:
    """The numbers of a channel from the stored int32."""
    return numbers.view(np.float32) if channel in FLOATS else numbers


def record(
    env: GridEnv, actor: Actor, max_steps: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Recording:
    """Play the first episode of `env`, one environment on the CPU, to its end or for `max_steps`.

    This steps the engine directly, so that the state after the last step can be recorded. Do not use `env` afterwards.
    `progress` is called now and then with (steps played, all steps).
    """
    obs, s = env.reset(), env.state
    whole = int(s.world[0, col.MAX_STEPS])
    last = min(whole, max_steps or whole)
    actions, one = np.full((1, env.num_agents), NO_ACTION), np.ones(1, np.int64)
    resets = torch.ones(env.num_agents, dtype=torch.bool)
    log, crop = ChangeLog(), Crop(s)
    for step in range(last + 1):
        chosen, predictions = actor(obs, resets)
        frame = _frame(s, crop, actions[0], predictions)
        log.add(np.concatenate([part.reshape(-1) for part in frame.values()]))
        actions[0] = chosen.numpy()
        resets[:] = False
        if progress and (step % 32 == 0 or step == last):
            progress(step, last)
        if step < last:
            step_worlds(s, actions, one, GIVEN)
    return Recording(facts_of(env, crop), {name: part.shape for name, part in frame.items()}, log.close())


def _frame(s: State, crop: Crop, actions: np.ndarray, predictions: Predictions | None) -> Frame:
    """The channels of environment 0, as int32."""
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
    if predictions:
        frame |= {"choices": predictions.choices, "chances": predictions.chances, "value": predictions.values}
    return {name: part.view(np.int32) if name in FLOATS else part.astype(np.int32) for name, part in frame.items()}
