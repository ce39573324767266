"""A task that needs memory: a colour is shown in the first step and asked for in the last."""

from typing import Any

import gymnasium
import numpy as np


class Colour(gymnasium.Env):
    """One of `colours` is shown for a step. `delay` steps later the agent must name it, for a reward of 1.

    With `always` the colour stays in view: then nothing needs to be remembered.
    """

    def __init__(self, colours: int = 4, delay: int = 4, always: bool = False):
        self.colours, self.delay, self.always = colours, delay, always
        self.observation_space = gymnasium.spaces.MultiDiscrete([colours + 1, 2])
        self.action_space = gymnasium.spaces.Discrete(colours)

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.t, self.colour = 0, int(self.np_random.integers(self.colours))
        return self.observation(), {}

    def observation(self) -> np.ndarray:
        """The colour (or `colours` for none), and whether it is asked for."""
        shown = self.colour if self.always or self.t == 0 else self.colours
        return np.array([shown, self.t == self.delay], np.int64)

    def step(self, action: int):
        asked, right = self.t == self.delay, int(action) == self.colour
        self.t += 1
        return self.observation(), float(asked and right), asked, False, {}
