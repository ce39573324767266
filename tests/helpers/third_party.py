"""Small environments by other people, as tests need them: `module:helpers.third_party:NAME`."""

import os
import signal
import sys
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Counting(gymnasium.Env):
    """Shows [steps taken, seed's first draw, the last action]; ends after `length` steps, by truncation if `cut`."""

    def __init__(self, length: int = 5, cut: bool = False, start: int = 0):
        self.length, self.cut = length, cut
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(3, start=start)

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.t, self.drawn = 0, self.np_random.random()
        return self._obs(-1), {}

    def _obs(self, action: int) -> np.ndarray:
        return np.array([self.t, self.drawn, action], np.float32)

    def step(self, action: Any):
        self.t += 1
        ends = self.t >= self.length
        return self._obs(action), float(self.t), ends and not self.cut, ends and self.cut, {}


class Blinking(Counting):
    """Renders an image of an odd size, whose colour is the step; `how` it goes wrong."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None, how: str = "", **words):
        super().__init__(**words)
        self.render_mode, self.how = None if how == "mode" else render_mode, how

    def render(self):
        return "a text" if self.how == "text" else np.full((31, 45, 3), 40 * self.t, np.uint8)


class Going(Counting):
    """Goes wrong in its third step (or step `at`) as `how` says."""

    def __init__(self, how: str, length: int = 5, at: int = 3):
        super().__init__(length)
        self.how, self.at = how, at

    def step(self, action: Any):
        obs, reward, terminated, truncated, info = super().step(action)
        if self.t == self.at:
            if self.how == "crash":
                raise ZeroDivisionError("the wheel came off")
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "nan observation":
                obs[0] = np.nan
            if self.how in ("nan reward", "huge reward"):
                reward = float("nan") if self.how == "nan reward" else 1e300
        return obs, reward, terminated, truncated, info


class Careless(Counting):
    """Does not keep Gymnasium's interface, as `how` says; `raising` raises in __init__ or in reset."""

    def __init__(self, how: str = "", raising: str = ""):
        super().__init__()
        self.how, self.raising = how, raising
        if how == "outside":
            self.observation_space = spaces.Box(-1, 1, (3,), np.float32)
        if raising == "init":
            raise RuntimeError("no licence found")

    def reset(self, *, seed: int | None = None, options: Any = None):
        obs, info = super().reset(seed=seed)
        if self.raising == "reset":
            raise RuntimeError("the map is missing")
        return obs if self.how == "old reset" else (obs, info)

    def _obs(self, action: int) -> Any:
        obs = super()._obs(action)
        changed = {
            "wide": np.zeros(4, np.float32),
            "wide later": np.zeros(4 if self.t == 2 else 3, np.float32),
            "double": obs.astype(np.float64),
            "outside": np.full(3, 1e6, np.float32),
            "complex": obs.astype(np.complex64),
            "nothing": None,
            "list": obs.tolist(),
        }
        return changed.get(self.how, obs)

    def step(self, action: Any):
        obs, reward, terminated, truncated, info = super().step(action)
        paid = {"no reward": None, "rewards": np.ones(3), "array": np.array([reward]), "word": "much"}
        reward = paid.get(self.how, reward)
        if self.how == "old step":
            return obs, reward, terminated, info
        return obs, reward, terminated, truncated, info


class Naming(gymnasium.Env):
    """Shows a name and a number; the name is `later` after two steps."""

    def __init__(self, later: int = 0, shown: str = ""):
        self.later, self.shown = later, shown
        parts = {
            "name": spaces.MultiDiscrete([9, 4]),
            "place": spaces.Box(-1, 1, (2,), np.float64 if shown == "huge" else np.float32),
        }
        self.observation_space, self.action_space = spaces.Dict(parts), spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None):
        self.t = 0
        return self._obs(), {}

    def _obs(self) -> dict[str, Any]:
        place = {"list": [0.5, 7.0], "doubles": np.array([0.5, 7.0]), "nan": np.array([0, np.nan], np.float32)}
        place["huge"] = np.array([0, 1e300])
        name = np.array([8, self.later if self.t == 2 else 3])
        return {"name": name, "place": place.get(self.shown, np.array([0.5, 7.0], np.float32))}

    def step(self, action: Any):
        self.t += 1
        return self._obs(), 1.0, self.t == 4, False, {}


class Scored(Counting):
    """Tells at the end of an episode whether it was a success, and more; "rare" only of about half of the episodes."""

    def __init__(self):
        super().__init__(length=4)

    def reset(self, *, seed: int | None = None, options: Any = None):
        self.is_rare = seed is not None and seed % 2
        return super().reset(seed=seed)

    def step(self, action: Any):
        obs, reward, terminated, truncated, _ = super().step(action)
        info: dict[str, Any] = {"success": self.t == 4, "score": np.float32(2.5), "says": "well done", "all": [1, 2]}
        info |= {"array": np.array([7]), "endless": np.inf, "time": {"r": 1.0}, 3: 4.0}
        return obs, reward, terminated, truncated, info | ({"rare": 1} if self.is_rare else {})


class Endless(Counting):
    """Never ends."""

    def __init__(self):
        super().__init__(length=10**9)


class Parted(gymnasium.Env):
    """Shows nested parts. From its second step on, the part `path` is `value` instead; "gone": it is left out."""

    observation_space = spaces.Dict(
        {
            "cue": spaces.Discrete(3),
            "far": spaces.Tuple((spaces.Discrete(2, start=1), spaces.Dict({"bits": spaces.MultiBinary(3)}))),
            "map": spaces.Box(0, 255, (2, 2), np.uint8),
            "names": spaces.MultiDiscrete([3, 4]),
            "place": spaces.Box(-1, 1, (4,), np.float32),
            "said": spaces.Text(20),
        }
    )
    action_space = spaces.Discrete(2)

    def __init__(self, path: tuple[Any, ...] = (), value: Any = "gone"):
        self.path, self.value = path, value

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def _obs(self) -> Any:
        obs: Any = {
            "cue": 2,
            "far": [1, {"bits": np.array([0, 1, 1], np.int8)}],
            "map": np.array([[0, 255], [7, 8]], np.uint8),
            "names": np.array([2, 3]),
            "place": np.array([0.5, 7, -2, 1], np.float32),
            "said": "go left",
        }
        if self.t >= 2 and self.path:
            *above, last = self.path
            inside = obs
            for key in above:
                inside = inside[key]
            if isinstance(self.value, str) and self.value == "gone":
                del inside[last]
            else:
                inside[last] = self.value
        return obs

    def step(self, action: Any):
        self.t += 1
        return self._obs(), 1.0, self.t == 4, False, {}


class Numbered(Parted):
    """Its parts are numbered, not named."""

    observation_space = spaces.Dict({0: spaces.Discrete(3), 1: spaces.Discrete(2)})

    def _obs(self) -> Any:
        return {0: 2, 1: 1}


class Told(Counting):
    """Says in each step which action pays: a text, `extra` words before it."""

    def __init__(self, extra: int = 0):
        super().__init__(length=8)
        self.observation_space = spaces.Dict({"said": spaces.Text(1000)})
        self.extra = extra

    def _obs(self, action: int) -> Any:
        self.due = int(self.np_random.integers(3))
        return {"said": "hm " * self.extra + ("take the left", "take the right", "wait, do not take any")[self.due]}

    def step(self, action: Any):
        paid = float(action == self.due)
        obs, _, *rest = super().step(action)
        return obs, paid, *rest


class Graphic(Counting):
    """Shows a graph, which no encoder reads."""

    def __init__(self):
        super().__init__()
        graph = spaces.Graph(spaces.Discrete(2), None)
        self.observation_space = spaces.Dict({"count": self.observation_space, "hint": graph})


class Closed(Counting):
    """Ends the interpreter at `place`, as programs with a window do when it is closed."""

    def __init__(self, place: str = "step", code: Any = "the simulator has gone"):
        super().__init__()
        self.place, self.code = place, code
        self._close_at("init")

    def _close_at(self, place: str) -> None:
        if self.place == place:
            sys.exit(self.code)

    def reset(self, *, seed: int | None = None, options: Any = None):
        self._close_at("reset")
        return super().reset(seed=seed)

    def step(self, action: Any):
        self._close_at("step")
        return super().step(action)

    def close(self) -> None:
        self._close_at("close")


class Wandering(Counting):
    """Changes the working directory to that of this file, as programs do to find their pictures."""

    def __init__(self):
        super().__init__()
        os.chdir(os.path.dirname(__file__))


class Showing(gymnasium.Env):
    """Random observations of any space, random actions of any space; ends after 6 steps."""

    SEEN: ClassVar = {
        "vector": spaces.Box(-5, 5, (4,), np.float32),
        "doubles": spaces.Box(-5, 5, (2, 3), np.float64),
        "scalar": spaces.Box(-1, 1, (), np.float32),
        "pixels": spaces.Box(0, 255, (40, 30, 3), np.uint8),
        "channels first": spaces.Box(0, 255, (4, 30, 40), np.uint8),
        "gray": spaces.Box(0, 255, (24, 20), np.uint8),
        "cells": spaces.Box(0, 255, (7, 7, 3), np.uint8),
        "name": spaces.Discrete(5),
        "names": spaces.MultiDiscrete([3, 4, 2]),
        "late names": spaces.Discrete(3, start=2),
        "bits": spaces.MultiBinary(4),
        "dict": spaces.Dict(
            {
                "a": spaces.Box(-1, 1, (3,), np.float32),
                "b": spaces.Discrete(4),
                "c": spaces.Dict({"d": spaces.Box(0, 255, (7, 7, 3), np.uint8), "e": spaces.MultiDiscrete([2, 9])}),
            }
        ),
        "tuple": spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3), spaces.Discrete(4))),
    }
    DONE: ClassVar = {
        "choice": spaces.Discrete(3),
        "choices": spaces.MultiDiscrete([2, 3]),
        "torques": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 1], np.float32)),
        "free": spaces.Box(-np.inf, np.inf, (2,), np.float32),
        "late choice": spaces.Discrete(3, start=5),
        "dict": spaces.Dict({"a": spaces.Discrete(2)}),
    }

    def __init__(self, seen: str = "vector", done: str = "choice"):
        self.observation_space, self.action_space = self.SEEN[seen], self.DONE[done]

    def reset(self, *, seed: int | None = None, options: Any = None):
        self.t = 0
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any):
        assert self.action_space.contains(action if np.ndim(action) else type(self.action_space.sample())(action))
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == 6, False, {}


class Pair:
    """A PettingZoo parallel environment: agent b ends after 2 steps, agent a after 4; a step pays its number."""

    metadata: ClassVar = {"name": "pair"}
    possible_agents: ClassVar = ["a", "b"]
    render_mode = None

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(0, 100, (2,), np.float32)

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None):
        self.t, self.agents = 0, list(self.possible_agents)
        return self._obs(), {agent: {} for agent in self.agents}

    def _obs(self) -> dict[str, np.ndarray]:
        return {agent: np.array([self.t, agent == "b"], np.float32) for agent in self.agents}

    def step(self, actions: dict[str, int]):
        self.t += 1
        lives = self.agents
        obs = self._obs()
        rewards = {agent: float(self.t) for agent in lives}
        ends = {agent: self.t == {"a": 4, "b": 2}[agent] for agent in lives}
        self.agents = [agent for agent in lives if not ends[agent]]
        return obs, rewards, ends, dict.fromkeys(lives, False), {agent: {} for agent in lives}

    def close(self) -> None:
        pass


class BlinkingPair(Pair):
    """Renders an image, whose colour is the step."""

    metadata: ClassVar = {"name": "blinking pair", "render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def render(self):
        return np.full((20, 30, 3), 40 * self.t, np.uint8)


class PartedPair(Pair):
    """Two agents that see the parts of Parted; agent b sees what `path` and `value` say."""

    def __init__(self, path: tuple[Any, ...] = (), value: Any = "gone"):
        self.seen = Parted(), Parted(path, value)

    def observation_space(self, agent: str) -> Any:
        return Parted.observation_space

    def _obs(self) -> Any:
        for env in self.seen:
            env.t = self.t
        return {agent: self.seen[agent == "b"]._obs() for agent in self.agents}


class ScoredPair(Pair):
    """Agent a always tells its success, b only in about half of the episodes; a alone tells the score of both."""

    def reset(self, seed: int | None = None, options: Any = None):
        self.is_rare = seed is not None and seed % 2
        return super().reset(seed)

    def step(self, actions: dict[str, int]):
        *given, infos = super().step(actions)
        told = {"a": {"success": 0.0, "score": 3.0}, "b": {"success": 1.0} if self.is_rare else {}}
        return *given, {agent: told[agent] for agent in infos}


class CarelessPair(Pair):
    """Does not keep PettingZoo's interface, as `how` says."""

    def __init__(self, how: str = ""):
        self.how = how

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(-2, -1, (2,), np.float32) if self.how == "outside" else super().observation_space(agent)

    def reset(self, seed: int | None = None, options: Any = None):
        obs, infos = super().reset(seed)
        return obs if self.how == "old reset" else (obs, infos)

    def _obs(self) -> Any:
        obs: Any = super()._obs()
        if self.how == "one array":
            return np.zeros((2, 2), np.float32)
        if self.how == "stranger":
            return obs | {"c": obs["a"]}
        if self.t == {"late": 0, "live unseen": 1, "dead unseen": 2}.get(self.how):
            return {"a": obs["a"]}
        if self.how == "narrow later" and self.t:
            return obs | {"a": np.zeros(1, np.float32)}
        if self.how == "lists":
            return {agent: one.tolist() for agent, one in obs.items()}
        return obs

    def step(self, actions: dict[str, int]):
        obs, rewards, *rest, infos = super().step(actions)
        if self.how == "crash":
            raise ZeroDivisionError("the wheel came off")
        paid: dict = {"no reward": {"a": 1.0}, "word": {"a": 1.0, "b": "much"}, "one number": 1.0}
        given = obs, paid.get(self.how, rewards), *rest, infos
        return given[:4] if self.how == "old step" else given


class Masked(gymnasium.Env):
    """Half of six actions (or of two choices among six, `several`) are forbidden in each step, others than before.

    A forbidden action ends the episode. The first observation shows a cue, 0 or 1. The lowest allowed action (of each
    choice) earns 1 / 8 after the cue 0, the highest one after the cue 1; episodes last eight steps. `where` the mask
    is: "info", "part" (of a Dict), "tuple" or "floats" (such parts), "late" (in info, but not of reset()) or "none".
    wrong: what is wrong with the mask of step 3. parts: the observation is a Dict anyway.
    """

    ACTIONS, LENGTH = 6, 8

    def __init__(
        self, where: str = "info", several: bool = False, start: int = 0, wrong: str = "", parts: bool = False
    ):
        self.where, self.several, self.wrong, self.start, self.parts = where, several, wrong, start, parts
        shown = spaces.Box(0, 1, (3,), np.float32)
        choices = 2 if several else 1
        part: dict[str, spaces.Space] = {
            "part": spaces.MultiBinary(choices * self.ACTIONS),
            "tuple": spaces.Tuple([spaces.MultiBinary(self.ACTIONS)] * choices),
            "floats": spaces.Box(0, 1, (choices, self.ACTIONS), np.float32),
        }
        self.observation_space: spaces.Space = spaces.Dict(seen=shown) if parts else shown
        if where in part:
            self.observation_space = spaces.Dict(seen=shown, action_mask=part[where])
        six = spaces.Discrete(self.ACTIONS, start=start)
        self.action_space = spaces.MultiDiscrete([self.ACTIONS] * 2) if several else six

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.t, self.cue = 0, int(self.np_random.integers(2))
        return self._shown()

    def _shown(self):
        masks = [self.np_random.permutation([1] * 3 + [0] * 3).astype(np.int8) for _ in range(1 + self.several)]
        self.allowed = masks
        mask: Any = tuple(masks) if self.several else masks[0]
        if self.t == 3 and self.wrong:
            wrongs = {"none": 0 * masks[0], "short": masks[0][:4], "negative": -masks[0], "missing": None,
                      "half": (masks[0], 0 * masks[-1]), "logits": (masks[0] - 1) * 1e9}  # fmt: skip
            mask = wrongs[self.wrong]
        seen = np.array([self.t == 0, self.t == 0 and self.cue, self.t / self.LENGTH], np.float32)
        apart = mask if isinstance(mask, tuple) else (mask,)
        part = {"part": lambda: np.concatenate(apart), "tuple": lambda: apart,
                "floats": lambda: np.stack(apart).astype(np.float32)}  # fmt: skip
        if self.where in part:
            return {"seen": seen, "action_mask": part[self.where]()}, {}
        told = mask is not None and (self.where == "info" or (self.where == "late" and self.t > 0))
        return {"seen": seen} if self.parts else seen, {"action_mask": mask} if told else {}

    def step(self, action: Any):
        chosen = np.atleast_1d(np.asarray(action)) - self.start
        legal = all(mask[one] for mask, one in zip(self.allowed, chosen, strict=True))
        wanted = [np.flatnonzero(mask)[-1 if self.cue else 0] for mask in self.allowed]
        reward = float(legal and chosen.tolist() == wanted) / self.LENGTH
        self.t += 1
        obs, info = self._shown()
        return obs, reward, not legal or self.t >= self.LENGTH, False, info | {"legal": float(legal)}


class MaskedPair(Pair):
    """Two agents act in turn: the mask of the one whose turn it is not allows nothing. A forbidden action raises."""

    def __init__(self, where: str = "info"):
        self.where, self.t = where, 0

    def action_space(self, agent: str):
        return spaces.Discrete(3)

    def observation_space(self, agent: str):
        shown = super().observation_space(agent)
        return spaces.Dict(observation=shown, action_mask=spaces.MultiBinary(3)) if self.where == "part" else shown

    def _masks(self):
        allowed = np.array([0, 1, 0], np.int8)
        return {agent: allowed * (i == self.t % 2) for i, agent in enumerate(self.possible_agents)}

    def _told(self, obs: dict[str, Any], infos: dict[str, Any]):
        masks = self._masks()
        if self.where == "part":
            return {agent: {"observation": one, "action_mask": masks[agent]} for agent, one in obs.items()}, infos
        return obs, {agent: {**infos.get(agent, {}), "action_mask": masks[agent]} for agent in obs}

    def reset(self, seed: int | None = None, options: Any = None):
        self.t = 0
        return self._told(*super().reset(seed, options))

    def step(self, actions: dict[str, int]):
        agent = self.possible_agents[self.t % 2]
        if agent in actions and actions[agent] != 1:
            raise ValueError(f"{agent} plays {actions[agent]}, which is forbidden")
        self.t += 1
        obs, *rest, infos = super().step(actions)
        obs, infos = self._told(obs, infos)
        return obs, *rest, infos
