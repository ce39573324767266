"""Any Gymnasium or PettingZoo environment as a VecEnv."""

from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import batch_space, iterate
from torch import Tensor

from memexp.config import UsageError
from memexp.envs.base import EnvError, Episodes, TaskSource, VecEnv, flags, mix64
from memexp.envs.config import ThirdParty
from memexp.envs.episodes import EpisodeLog
from memexp.envs.puffer import masks, spaces
from memexp.envs.puffer.api_checks import ApiError, ObservationReader
from memexp.envs.puffer.emulated import ACT, LAST
from memexp.envs.puffer.readings import choose
from memexp.envs.puffer.source import LIMIT
from memexp.envs.puffer.workers import make_board, make_vec
from memexp.spaces import ActionSpace, CellsSpace, ImageSpace, VectorSpace

WARM_UP = 256
"""Most random steps that bring the environments out of phase."""
_WARM_UP = 2


class ThirdPartyEnv(VecEnv):
    """`num_envs` environments of one kind. Each agent of a PettingZoo environment is a row.

    An agent that finishes before its environment stays as a row without reward until the environment's episode ends,
    and is done once more then. The return of an episode is the mean over its agents. These environments cannot be
    saved, so a restored state starts new episodes.
    """

    continues = False

    def __init__(
        self, config: ThirdParty, num_envs: int, device: str, seed: int, first_env: int, tasks: TaskSource | None
    ) -> None:
        if num_envs < 1:
            raise UsageError(f"num_envs must be at least 1, not {num_envs}")
        self._config, self._seed, self._first_env = config, seed, first_env
        self.device = torch.device(device)
        self._board = make_board(num_envs)
        self._vec = self._make_vec()
        driver = self._vec.driver_env
        self.num_envs, self.num_agents = num_envs, num_envs * driver.num_agents
        try:
            readings = choose(config, driver.observation)
        except UsageError:
            self._vec.close()
            raise
        words = {part: reading.word for part, reading in readings.items()}
        mask = masks.MASK if driver.mask else None
        self.masks_in_info = driver.join is not None and driver.join.in_info
        self.observation = spaces.observation_space(driver.observation, config.id, words, mask)
        self.reading = words
        self.because = {part: reading.because for part, reading in readings.items()}
        self._actions = spaces.action_space(driver.action, config.id)
        self.num_actions = self._actions.count or 0
        self.ceiling_return, self.solved_return = config.ceiling_return, driver.solved_return
        self._modules = driver.modules
        self._action_space = driver.single_action_space
        self._log = EpisodeLog(num_envs, torch.device("cpu"), first_env)
        self.ends_by_itself = False

    def _make_vec(self) -> Any:
        return make_vec(self._config, self._seed, self._first_env, self._board)

    @property
    def modules(self) -> list[str]:
        return self._modules

    def encode(self, observations: Any, action_masks: Any = None, ended: Any = None) -> Tensor:
        single, join = self._vec.driver_env.observation, self._vec.driver_env.join
        if not isinstance(observations, list):
            try:
                observations = [*iterate(batch_space(join.given if join else single, 1), observations)]
            except (TypeError, ValueError, KeyError, IndexError):
                shown = spaces.short(observations)
                raise UsageError(f"{self._config.id}: {shown} is no batch of {spaces.short(single)}") from None
        in_info = self.masks_in_info
        if in_info and action_masks is None and all(masks.mask_in(one) is not None for one in observations):
            join, in_info = None, False  # they hold their masks already
        if (action_masks is None) == in_info:
            how = "are in info: pass them as action_masks" if in_info else "are not in info: pass no action_masks"
            raise UsageError(f"{self._config.id}: masks of actions {how}")
        if not len(observations):
            raise UsageError(f"{self._config.id}: there are no observations to act on")
        given = [(f"number {i} of the batch is", one) for i, one in enumerate(observations)]
        over = flags("ended", ended, len(given)).numpy()
        try:
            if join:
                told = join.of_each(action_masks, len(given), "action_masks is") if in_info else [None] * len(given)
                each = zip(given, told, over, strict=True)
                given = [(what, join(one, {masks.MASK: mask}, last, what)) for (what, one), mask, last in each]
            rows = np.stack([self._read(one, what).copy() for what, one in given])
            if mask := self._vec.driver_env.mask:
                mask.refuse_empty(rows[~over], "the batch", in_turns=self.num_agents > self.num_envs)
        except masks.EmptyMaskError as error:
            row = np.flatnonzero(~over)[error.row]
            raise UsageError(f"{self._config.id}: the action mask of number {row} of the batch allows no action "
                             "of each choice") from None  # fmt: skip
        except ApiError as error:
            raise UsageError(f"{self._config.id}: {error}") from None
        return self._tensor(rows)

    @cached_property
    def _read(self) -> ObservationReader:
        return ObservationReader(self._vec.driver_env.observation)

    def decode(self, actions: Tensor) -> np.ndarray:
        return self._translate(actions) + self._vec.driver_env.first_action

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
        dones = terminated | truncated
        over = torch.from_numpy(self._by_env(dones).all(1))
        if dones.any():
            self._refuse_endless(over)
            self.final_obs = self._tensor(obs[:, LAST])
        gain = torch.from_numpy(self._by_env(reward).mean(1))
        self._log.add(gain, over, {**self._told, "env/cut": torch.from_numpy(self._board.cut.astype(np.float32))})
        scaled = reward * np.float32(self._config.reward_scale)
        paid, done, cut = (torch.from_numpy(array).to(self.device) for array in (scaled, terminated, truncated))
        return self._tensor(obs[:, ACT]), paid, done, cut

    def pop_episodes(self) -> Episodes:
        return self._log.pop()

    def state_dict(self) -> dict[str, Any]:
        """The number of the running episode of each environment."""
        return {"episode": self._board.episode.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        """Start in each environment the episode after the saved one, out of phase."""
        self._board.episode[:] = state["episode"] + 1
        return self._restart_out_of_phase()

    def close(self) -> None:
        self._vec.close()

    def _restart_out_of_phase(self) -> Tensor:
        begun = [int(number) for number in self._board.episode]
        seeds = [mix64(self._seed, self._first_env + i, begun[i], _WARM_UP) for i in range(self.num_envs)]
        longest = min(WARM_UP, self._config.max_steps or WARM_UP)
        self._board.warm_up[:] = [seed % longest for seed in seeds]
        self.random_steps += int(self._board.warm_up.sum()) * (self.num_agents // self.num_envs)
        return self._restart(whole=False)

    def _restart(self, whole: bool) -> Tensor:
        self._vec.async_reset(0)
        obs, *_ = self._receive()
        self._log.clear(running_are_whole=whole)
        self.final_obs = self._tensor(obs[:, LAST]).clone()
        return self._tensor(obs[:, ACT])

    def _receive(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """PufferLib's buffers after a step of all: obs `[N, 2, ...]`, reward, terminated, truncated `[N]`.

        Raises EnvError for an error in an environment.
        """
        obs, reward, terminated, truncated, _, infos, _, _ = self._vec.recv()
        self._told: dict[str, Tensor] = {}  # of the episodes that have just ended: numbers in their last infos
        for info in infos:
            if "error" in info:
                raise EnvError(info["error"])
            for name, number in info.get("numbers", {}).items():
                column = self._told.setdefault(f"env/{name}", torch.full((self.num_envs,), torch.nan))
                column[info["row"]] = number
        return obs, reward, terminated, truncated

    def _refuse_endless(self, over: Tensor) -> None:
        """Raise UsageError if only the default limit of this project has ever ended an episode."""
        if self._config.max_steps is None and not self.ends_by_itself:
            cut = torch.from_numpy(self._board.cut).bool()
            self.ends_by_itself = bool((over & ~cut).any())
            if bool((over & cut).any()) and not self.ends_by_itself:
                raise UsageError(
                    f"{self._config.id}: no episode ended within {LIMIT:,} steps: say when to cut them, such as "
                    "env.max_steps=500"
                )

    def _by_env(self, rows: np.ndarray) -> np.ndarray:
        """`[N]` as `[num_envs, agents]`."""
        return rows.reshape(self.num_envs, -1)

    def _translate(self, actions: Tensor) -> np.ndarray:
        """Actions as the environments take them: int32, or floats scaled from -1..1 to the bounds of their Box."""
        given = actions.cpu().numpy()
        space = self._action_space
        if not isinstance(space, gymnasium.spaces.Box):
            return given.astype(np.int32)
        low, high = space.low, space.high
        bounded = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(bounded, low, 0), np.where(bounded, high, 0)  # no warnings about infinities
        scaled = np.where(bounded, low + (given.clip(-1, 1) + 1) / 2 * (high - low), given)
        return np.clip(scaled, space.low, space.high).astype(space.dtype)

    def _tensor(self, rows: np.ndarray | Tensor) -> Tensor:
        """Observations as the policy's encoder takes them."""
        space = self.observation
        tensor = torch.as_tensor(rows)
        if isinstance(space, VectorSpace):
            tensor = tensor.reshape(len(rows), space.size).float()
        elif isinstance(space, ImageSpace | CellsSpace):
            tensor = tensor.reshape(len(rows), *space.shape)
        return tensor.to(self.device)
