"""Any Gymnasium or PettingZoo environment as a VecEnv."""

from collections.abc import Callable
from typing import Any, NoReturn

import gymnasium
import numpy as np
import torch
from torch import Tensor

from memexp.config import UsageError
from memexp.envs.base import Episodes, TaskSource, VecEnv, WorldError, mix64
from memexp.envs.config import ThirdParty
from memexp.envs.episodes import EpisodeLog
from memexp.envs.puffer import spaces
from memexp.envs.puffer.source import LIMIT
from memexp.envs.puffer.workers import make_board, make_vec
from memexp.envs.puffer.world import ACT, LAST, World
from memexp.spaces import ActionSpace, CategoriesSpace, ImageSpace, Part, StructSpace, VectorSpace

WARM_UP = 256
"""Most steps of random play that bring worlds out of phase."""
_WARM_UP = 2


class ThirdPartyEnv(VecEnv):
    """`num_envs` environments; the agents of a PettingZoo environment are rows.

    An agent that ends before its world stays as a row of zeros without reward until the world ends, and then ends with
    it. The return of an episode is the mean over agents, its length the world's. A state that is restored begins new
    episodes: the environments of other people cannot be saved.
    """

    continues = False

    def __init__(
        self, config: ThirdParty, num_envs: int, device: str, seed: int, first_world: int, tasks: TaskSource | None
    ) -> None:  # fmt: skip
        if num_envs < 1:
            raise UsageError(f"num_envs must be at least 1, not {num_envs}")
        self._config, self._seed, self._first_world = config, seed, first_world
        self.device = torch.device(device)
        self._board = make_board(num_envs)
        self._vec = make_vec(config, seed, first_world, self._board)
        driver: World = self._vec.driver_env
        self.num_envs, self.num_agents = num_envs, num_envs * driver.num_agents
        self.observation = spaces.observation_space(driver.observation, config.id)
        self._actions = spaces.action_space(driver.action, config.id)
        self.num_actions = self._actions.count or 0
        self.ceiling_return = driver.ceiling
        self._action_space = driver.single_action_space
        self._floats = _float_columns(self.observation, self._vec.single_observation_space)
        self._names = _name_columns(self.observation)
        self._log = EpisodeLog(num_envs, torch.device("cpu"), first_world)
        self._ends_by_itself = False

    @property
    def actions(self) -> ActionSpace:
        return self._actions

    def reset(self) -> Tensor:
        self._board.episode[:] = self._board.warm_up[:] = 0
        return self._restart(whole=True)

    def desync(self) -> Tensor:
        self._board.episode[:] = 0
        return self._restart_out_of_phase()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        self._vec.send(self._translate(actions))
        obs, reward, terminated, truncated = self._receive()
        ends = terminated | truncated
        over = torch.from_numpy(self._of_worlds(ends).all(1))
        if ends.any():
            self._refuse_endless(over)
            self.final_obs = self._tensor(obs[:, LAST])
        gain = torch.from_numpy(self._of_worlds(reward).mean(1))
        self._log.add(gain, over, {"env/cut": torch.from_numpy(self._board.cut.astype(np.float32))})
        scaled = reward * np.float32(self._config.reward_scale)
        paid, done, cut = (torch.from_numpy(array).to(self.device) for array in (scaled, terminated, truncated))
        return self._tensor(obs[:, ACT]), paid, done, cut

    def pop_episodes(self) -> Episodes:
        return self._log.pop()

    def state_dict(self) -> dict[str, Any]:
        """Which episode each world is in."""
        return {"episode": self._board.episode.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        """Every world begins the episode after the one that it was in, out of phase."""
        self._board.episode[:] = state["episode"] + 1
        return self._restart_out_of_phase()

    def close(self) -> None:
        self._vec.close()

    def _restart_out_of_phase(self) -> Tensor:
        begun = [int(number) for number in self._board.episode]
        seeds = [mix64(self._seed, self._first_world + w, begun[w], _WARM_UP) for w in range(self.num_envs)]
        longest = min(WARM_UP, self._config.max_steps or WARM_UP)
        self._board.warm_up[:] = [seed % longest for seed in seeds]
        return self._restart(whole=False)

    def _restart(self, whole: bool) -> Tensor:
        self._vec.async_reset(0)
        obs, *_ = self._receive()
        self._log.clear(running_are_whole=whole)
        self.final_obs = self._tensor(obs[:, LAST]).clone()
        return self._tensor(obs[:, ACT])

    def _receive(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """PufferLib's buffers after all worlds have stepped: obs `[N, 2, ...]`, reward, terminated, truncated `[N]`."""
        obs, reward, terminated, truncated, _, infos, _, _ = self._vec.recv()
        for info in infos:
            if "error" in info:
                raise WorldError(info["error"])
        if not np.isfinite(reward).all():
            self._refuse_numbers("the reward", reward)
        for columns in self._floats:
            shown = columns(obs)
            if not np.isfinite(shown[:, ACT]).all():
                self._refuse_numbers("the observation", shown[:, ACT])
            ends = terminated | truncated
            if ends.any() and not np.isfinite(shown[ends, LAST]).all():
                self._refuse_numbers("the last observation of an episode", np.where(ends[:, None], shown[:, LAST], 0))
        for what, columns, counts in self._names:
            shown = columns(obs)
            if (wrong := (shown < 0) | (shown >= counts)).any():
                self._refuse(what, shown, wrong, counts)
        return obs, reward, terminated, truncated

    def _refuse_numbers(self, what: str, rows: np.ndarray) -> None:
        self._refuse(what, rows, ~np.isfinite(rows))

    def _refuse(self, what: str, shown: np.ndarray, wrong: np.ndarray, counts: np.ndarray | None = None) -> NoReturn:
        """Raise WorldError for the first number of `shown` `[N, ...]` that is `wrong`; counts: of names, a column."""
        place = tuple(np.argwhere(wrong)[0])
        world = int(place[0]) * self.num_envs // self.num_agents
        why = "" if counts is None else f", not one of 0 to {counts[place[-1]] - 1},"
        raise WorldError(
            f"{self._config.id}: {what} is {shown[place]}{why} in world {self._first_world + world}, "
            f"episode {self._board.episode[world]} of seed {self._seed}"
        )

    def _refuse_endless(self, over: Tensor) -> None:
        """Raises UsageError where nothing but this project's own limit has ever ended an episode, and nobody set it."""
        if self._config.max_steps is None and not self._ends_by_itself:
            cut = torch.from_numpy(self._board.cut).bool()
            self._ends_by_itself = bool((over & ~cut).any())
            if bool((over & cut).any()) and not self._ends_by_itself:
                raise UsageError(
                    f"{self._config.id}: no episode ended within {LIMIT:,} steps: say when to cut them, such as "
                    "env.max_steps=500"
                )

    def _of_worlds(self, rows: np.ndarray) -> np.ndarray:
        """`[N]` as `[num_envs, agents]`."""
        return rows.reshape(self.num_envs, -1)

    def _translate(self, actions: Tensor) -> np.ndarray:
        """What PufferLib's worlds take: int32, or floats within the bounds of their Box."""
        given = actions.cpu().numpy()
        space = self._action_space
        if not isinstance(space, gymnasium.spaces.Box):
            return given.astype(np.int32)
        low, high = space.low, space.high
        bounded = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(bounded, low, 0), np.where(bounded, high, 0)  # no warnings of infinities
        scaled = np.where(bounded, low + (given.clip(-1, 1) + 1) / 2 * (high - low), given)
        return np.clip(scaled, space.low, space.high).astype(space.dtype)

    def _tensor(self, rows: np.ndarray) -> Tensor:
        """Observations as the policy's encoder takes them."""
        space = self.observation
        tensor = torch.from_numpy(rows)
        if isinstance(space, VectorSpace):
            tensor = tensor.reshape(self.num_agents, space.size).float()
        elif isinstance(space, ImageSpace):
            tensor = tensor.reshape(self.num_agents, *space.shape)
        return tensor.to(self.device)


def _float_columns(space: Any, box: Any) -> list[Any]:
    """Functions that pick the floats `[N, 2, ...]` out of PufferLib's buffer."""
    if not isinstance(space, StructSpace):
        return [lambda obs: obs.reshape(*obs.shape[:2], -1)] if np.issubdtype(box.dtype, np.floating) else []
    return [_columns(part) for part in space.parts if part.dtype.startswith("float")]


def _name_columns(space: Any) -> list[tuple[str, Any, np.ndarray]]:
    """For each part that consists of names: what it is called, the function that picks it, how many names there are."""
    parts = space.parts if isinstance(space, StructSpace) else ()
    return [
        (spaces.called(part.name), _columns(part), np.array(part.space.counts))
        for part in parts
        if isinstance(part.space, CategoriesSpace)
    ]


def _columns(part: Part) -> Callable[[np.ndarray], np.ndarray]:
    """A function that picks the numbers `[N, 2, size]` of a part out of PufferLib's buffer `[N, 2, num_bytes]`."""
    end = part.offset + int(np.prod(part.shape)) * np.dtype(part.dtype).itemsize
    return lambda obs: np.ascontiguousarray(obs[..., part.offset : end]).view(part.dtype)
