"""A batch as a VecEnv: a vector environment that steps all its environments with one call.

Who resets an environment whose episode has ended depends on the batch (Gymnasium's AutoresetMode):

    DISABLED   memexp does, with reset(options={"reset_mask": ...}), before the step returns
    SAME_STEP  the batch does in the same step; infos["final_obs"] has the true last observations
    NEXT_STEP  the batch does in the next step, in which the action does nothing: `BatchedEnv.resetting`
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, iterate
from torch import Tensor

from memexp.config import UsageError, exit_text
from memexp.envs.base import EnvError, TaskSource, mix64, random_actions
from memexp.envs.config import ThirdParty
from memexp.envs.puffer import masks, source, spaces
from memexp.envs.puffer.api_checks import STEP, ApiError, ObservationReader, unpacked
from memexp.envs.puffer.emulated import Board, means_of_numbers, own_traceback
from memexp.envs.puffer.env import WARM_UP, ThirdPartyEnv
from memexp.envs.puffer.spaces import short

_WARM_UP = 3


def third_party(
    config: ThirdParty, num_envs: int, device: str, seed: int, first_env: int, tasks: TaskSource | None
) -> ThirdPartyEnv:
    """Environments of other people: as a batch if `config` names one, else stepped one by one."""
    kind = BatchedEnv if source.is_batched(config) else ThirdPartyEnv
    return kind(config, num_envs, device, seed, first_env, tasks)


class Stepped(NamedTuple):
    """A step of N environments. Observations are arrays, or tensors on the batch's device."""

    obs: Any  # to act on next
    reward: np.ndarray  # float32 [N]
    terminated: np.ndarray  # bool [N]
    truncated: np.ndarray  # bool [N]
    rows: np.ndarray  # the environments whose episodes ended
    last: Any  # their true last observations
    numbers: dict[int, dict[str, float]]  # environment -> numbers in the last info of its episode


class Batch:
    """A vector environment whose results are checked. It is its own `driver_env`, which shows what they are like."""

    num_agents = 1

    def __init__(self, config: ThirdParty, first_env: int, board: Board) -> None:
        if config.workers or config.backend == "multiprocessing":
            raise UsageError(f"{config.id} is a batch, which this process steps: leave out env.workers and env.backend")
        self._config, self._id, self._first, self._board = config, config.id, first_env, board
        self.num_envs, self.driver_env = len(board.episode), self
        self.env = source.make_batch(config, self.num_envs)
        try:
            self.mode = self._autoreset_mode()
            self.observation, self.action = self._spaces(config)
        except UsageError:
            self.close()
            raise
        if config.max_steps and self.mode != AutoresetMode.DISABLED:
            self.close()
            raise UsageError(
                f"{config.id} resets its environments itself ({self.mode.name}), so env.max_steps cannot cut their "
                "episodes: give it a limit of its own, such as env.options={max_episode_steps: 500}"
            )
        self.join = getattr(self.env, "join", None) if self.mask else None
        self.modules = [*(cls.__module__ for cls in source.classes_of(self.env)), *(name for name, _ in config.imports)]
        self.solved_return = source.solved_return(config, self.env)
        self.limit = source.step_limit(config, self.env)
        self.single_action_space, self.first_action = self.action, 0
        if isinstance(self.action, gymnasium.spaces.Discrete):
            self.single_action_space = gymnasium.spaces.Discrete(int(self.action.n))
            self.first_action = int(self.action.start)
        self._read_one = ObservationReader(self.observation)
        self._read = ObservationReader(self.observation, (self.num_envs,))
        self.steps = np.zeros(self.num_envs, np.int64)
        """Steps of the running episodes."""
        self.resetting = np.zeros(self.num_envs, bool)
        """NEXT_STEP: the environments that the next step only resets."""

    def reset(self, seed: int) -> Any:
        """Begin new episodes in all environments; returns their first observations."""
        self.steps[:], self.resetting[:] = 0, False
        obs, infos = self._ask("reset()", "observations, infos", lambda: self.env.reset(seed=seed))
        obs = self._observations(obs, "reset() returned")
        self._check_masks(obs, infos, "reset()")
        return obs

    def step(self, actions: np.ndarray, cut: np.ndarray) -> Stepped:
        """One step of all environments. DISABLED: episodes also end where `cut` is True, and at the limit."""
        given = (actions + self.first_action).astype(self.action.dtype)
        idle, self.resetting = self.resetting, np.zeros(self.num_envs, bool)
        self.steps += ~idle
        obs, rewards, *flags, infos = self._ask("step()", STEP, lambda: self.env.step(given))
        obs = self._observations(obs, "step() returned")
        reward = self._rewards(rewards)
        terminated, truncated = map(self._flags, flags)
        over = (terminated | truncated) & ~idle
        self._board.cut[:] = False
        if self.mode == AutoresetMode.DISABLED:
            self._board.cut[:] = (cut | (self.steps >= self.limit)) & ~over
        ended = over | (self._board.cut > 0)
        rows = ended.nonzero()[0]
        last, numbers = None, {}
        if len(rows):
            last = self._last_observations(obs, infos, rows, truncated)
            numbers = self._numbers(infos, rows)
            self._board.episode[rows] += 1
            self.steps[rows] = 0
            if self.mode == AutoresetMode.DISABLED:
                obs = self._reset(ended, obs)
            elif self.mode == AutoresetMode.NEXT_STEP:
                self.resetting = ended
        self._check_masks(obs, infos, "step()")
        reward[idle] = 0
        return Stepped(obs, reward, terminated & over | idle, ended & ~(terminated & over), rows, last, numbers)

    def close(self) -> None:
        try:
            self.env.close()
        except Exception as error:
            print(f"{self._id} raised an error when it was closed: {error}")

    def _autoreset_mode(self) -> AutoresetMode:
        mode = self.env.metadata.get("autoreset_mode")
        try:
            return AutoresetMode(mode)
        except ValueError:
            raise UsageError(
                f"{self._id}: metadata['autoreset_mode'] is {mode!r}, not gymnasium.vector.AutoresetMode.NEXT_STEP, "
                "SAME_STEP or DISABLED: say when environments are reset whose episodes have ended"
            ) from None

    def _spaces(self, config: ThirdParty) -> tuple[gymnasium.Space, gymnasium.Space]:
        """Observation and action space of one environment. Raises UsageError if one is missing or not supported."""
        for name in ("single_observation_space", "single_action_space"):
            if not isinstance(getattr(self.env, name, None), gymnasium.Space):
                raise UsageError(f"{self._id} has no {name}")
        observation, action = self.env.single_observation_space, self.env.single_action_space
        self.mask = masks.mask_of(config, observation, action)
        return observation, action

    def _ask(self, where: str, expected: str, call: Callable[[], Any]) -> tuple[Any, ...]:
        """What a method of the batch returns. Raises EnvError, with its traceback, for an error in it."""
        try:
            return unpacked(call(), where, expected)
        except ApiError as error:
            raise EnvError(f"{self._id}: {error}") from None
        except SystemExit as error:
            raise EnvError(f"{self._id}: {exit_text(error)}") from None
        except Exception as error:
            raise EnvError(f"{self._id} raised an error in {where} of the batch:\n{own_traceback(error)}") from error

    def _place(self, row: int) -> str:
        return f"env {self._first + row}, episode {self._board.episode[row]}, step {self.steps[row]}"

    def _observations(self, obs: Any, where: str) -> Any:
        """Checked observations of all environments: of a Box that is no NumPy array, a tensor where it lies."""
        obs = _arrays(obs)
        if isinstance(obs, Tensor) and self._is_right(obs):
            return obs
        obs = _on_cpu(obs)
        try:
            return self._read(obs, where)
        except (ApiError, TypeError, ValueError, KeyError) as error:
            told = str(error) if isinstance(error, ApiError) else f"{where} {short(obs)}"
        told += f"; {self.num_envs} observations of {short(self.observation)} are expected"
        with suppress(Exception):  # its parts may be no batches at all
            for row, one in enumerate(iterate(batch_space(self.observation, self.num_envs), obs)):
                try:
                    self._read_one(one, where)
                except ApiError as error:
                    told = f"{error} ({self._place(row)})"
                    break
        raise EnvError(f"{self._id}: {told}")

    def _check_masks(self, obs: Any, infos: Any, where: str) -> None:
        """Raise EnvError if the mask of an observation to act on allows nothing, or if there should be none."""
        try:
            if self.mask is None:
                masks.refuse_late(self._config, [infos], where)
            else:
                played = (~self.resetting).nonzero()[0]
                self.mask.refuse_empty(obs[played], where)
        except masks.EmptyMaskError as error:
            raise EnvError(f"{self._id}: {error} ({self._place(played[error.row])})") from None
        except ApiError as error:
            raise EnvError(f"{self._id}: {error}") from None

    def _is_right(self, obs: Tensor) -> bool:
        """Whether these are observations of all environments, of a Box."""
        space, shape = self.observation, (self.num_envs, *(self.observation.shape or ()))
        is_box = isinstance(space, gymnasium.spaces.Box) and obs.shape == shape
        if not is_box or str(obs.dtype) != f"torch.{space.dtype}":
            return False
        return not obs.is_floating_point() or bool((obs.abs() <= spaces.MOST).all())

    def _column(self, values: Any, what: str) -> np.ndarray:
        """One number for each environment."""
        array = np.asarray(_on_cpu(values))
        if array.shape != (self.num_envs,) or array.dtype.kind not in "biuf":
            raise EnvError(f"{self._id}: step() returned {short(array)} as {what}, not {self.num_envs} numbers")
        return array

    def _flags(self, values: Any) -> np.ndarray:
        """Whether an episode has ended, for each environment."""
        flags = self._column(values, "flags of episodes' ends")
        if not masks.is_binary(flags):
            raise EnvError(f"{self._id}: step() returned {short(flags)} as flags of episodes' ends, not 0 and 1")
        return flags.astype(bool)

    def _rewards(self, values: Any) -> np.ndarray:
        rewards = self._column(values, "rewards")
        wrong = (~(np.abs(rewards) <= spaces.MOST)).nonzero()[0]
        if len(wrong):
            told = f"step() returned the reward {rewards[wrong[0]]}, {spaces.NOT_FINITE}"
            raise EnvError(f"{self._id}: {told} ({self._place(wrong[0])})")
        return rewards.astype(np.float32)

    def _last_observations(self, obs: Any, infos: Any, rows: np.ndarray, truncated: np.ndarray) -> Any:
        """True last observations of the environments `rows`, a copy."""
        if self.mode != AutoresetMode.SAME_STEP:
            return obs[rows]
        given = infos.get("final_obs") if isinstance(infos, Mapping) else None
        if given is None:
            if truncated[rows].any():
                told = "step() truncated an episode and reset it (SAME_STEP) without infos['final_obs']"
                raise EnvError(f"{self._id}: {told} ({self._place(rows[truncated[rows]][0])})")
            return obs[rows]  # nothing reads them
        shown, row = list[Any](), -1
        try:
            for row in rows:
                one = _on_cpu(_picked(_arrays(given), row))
                shown.append(self._read_one(one, "step() returned final_obs with").copy())
        except (ApiError, IndexError, TypeError, KeyError) as error:
            told = str(error) if isinstance(error, ApiError) else f"step() returned final_obs {short(given)}"
            raise EnvError(f"{self._id}: {told}; expected are {self.num_envs} observations, or an object array with "
                           f"those of the ended episodes ({self._place(row)})") from None  # fmt: skip
        return np.stack(shown)

    def _reset(self, ended: np.ndarray, obs: Any) -> Any:
        """The observations, in which those of the environments `ended` are the first of their next episodes."""
        before = obs.clone() if isinstance(obs, Tensor) else obs.copy()
        options = {"reset_mask": ended.copy()}
        shown, _ = self._ask("reset()", "observations, infos", lambda: self.env.reset(options=options))
        after = self._observations(shown, "reset() returned")
        if type(before) is not type(after):
            raise EnvError(f"{self._id}: step() and reset() returned arrays of different libraries")
        going_on = ~ended if isinstance(after, np.ndarray) else torch.from_numpy(~ended).to(after.device)
        if bool((after[going_on] != before[going_on]).any()):
            raise EnvError(
                f"{self._id}: reset(options={{'reset_mask': mask}}) changed environments whose mask is False; "
                "autoreset_mode DISABLED asks for this option"
            )
        return after

    def _numbers(self, infos: Any, rows: np.ndarray) -> dict[int, dict[str, float]]:
        """Environment -> the finite numbers in its info of this step; SAME_STEP: in infos["final_info"], if there."""
        if self.mode == AutoresetMode.SAME_STEP and isinstance(infos, Mapping):
            infos = infos.get("final_info", infos)
        if not infos or not isinstance(infos, Mapping):
            return {}
        columns, told = dict[str, np.ndarray](), {f"_{name}" for name in infos}
        for name, values in infos.items():
            with suppress(ValueError):  # of ragged lists
                column = np.asarray(None if name in told or isinstance(values, Mapping | str) else _on_cpu(values))
                if column.shape == (self.num_envs,):
                    columns[name] = column
        said = {name: np.asarray(_on_cpu(infos.get(f"_{name}", True))) for name in columns}
        said = {name: np.broadcast_to(mask, self.num_envs) for name, mask in said.items()}
        return {
            int(row): means_of_numbers([{name: column[row] for name, column in columns.items() if said[name][row]}], {})
            for row in rows
        }


def _arrays(obs: Any) -> Any:
    """The arrays of other libraries, such as JAX, as tensors of the same memory (DLPack); everything else as it is."""
    if isinstance(obs, Mapping):
        return {key: _arrays(part) for key, part in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_arrays(part) for part in obs)
    if isinstance(obs, np.ndarray | np.generic) or not hasattr(obs, "__dlpack__"):
        return obs
    return obs if isinstance(obs, Tensor) else torch.from_dlpack(obs)


def _on_cpu(obs: Any) -> Any:
    """The tensors among observations as arrays."""
    if isinstance(obs, Mapping):
        return {key: _on_cpu(part) for key, part in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_on_cpu(part) for part in obs)
    return obs.detach().cpu().numpy() if isinstance(obs, Tensor) else obs


def _picked(obs: Any, row: int) -> Any:
    """The observation of one environment."""
    if isinstance(obs, Mapping):
        return {key: _picked(part, row) for key, part in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_picked(part, row) for part in obs)
    return obs[row]


class BatchedEnv(ThirdPartyEnv):
    """`num_envs` environments that one vector environment steps.

    A batch is seeded as a whole, so what its environments show depends on their number, too. These environments cannot
    be saved, so a restored state starts new episodes.
    """

    _vec: Batch

    def _make_vec(self) -> Batch:
        return Batch(self._config, self._first_env, self._board)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        stepped = self._step(actions, np.zeros(self.num_envs, bool))
        if not self.ends_by_itself:
            self._refuse_endless(_mask(stepped.rows, self.num_envs))
        scaled = stepped.reward * np.float32(self._config.reward_scale)
        arrays = scaled, stepped.terminated, stepped.truncated
        reward, terminated, truncated = (torch.from_numpy(array).to(self.device) for array in arrays)
        return self._tensor(stepped.obs), reward, terminated, truncated

    def _step(self, actions: Tensor, cut: np.ndarray) -> Stepped:
        """A step that the log knows. Episodes may also end where `cut` is True."""
        played = torch.from_numpy(~self._vec.resetting).long()
        stepped = self._vec.step(self._translate(actions), cut)
        if len(stepped.rows):
            self.final_obs[torch.from_numpy(stepped.rows).to(self.device)] = self._tensor(stepped.last)
        told = {"env/cut": torch.from_numpy(self._board.cut.astype(np.float32))}
        for row, numbers in stepped.numbers.items():
            for name, number in numbers.items():
                told.setdefault(f"env/{name}", torch.full((self.num_envs,), torch.nan))[row] = number
        self._log.add(torch.from_numpy(stepped.reward), _mask(stepped.rows, self.num_envs), told, played)
        self._note_resets()
        return stepped

    def _note_resets(self) -> None:
        if self._vec.mode == AutoresetMode.NEXT_STEP:
            self.resetting = torch.from_numpy(self._vec.resetting).to(self.device)

    def _refuse_endless(self, over: Tensor) -> None:
        super()._refuse_endless(over)
        if not self.ends_by_itself and self._vec.steps.max() > self._vec.limit:
            raise UsageError(
                f"{self._config.id}: no episode ended within {self._vec.limit:,} steps: give it a limit of its own, "
                "such as env.options={max_episode_steps: 500}"
            )

    def _restart_out_of_phase(self) -> Tensor:
        """New episodes, then random steps. Of fixed length they stay in phase, unless memexp resets them (DISABLED)."""
        obs = self._restart(whole=False)
        stream = mix64(self._seed, self._first_env, int(self._board.episode.sum()), _WARM_UP) >> 1
        generator = torch.Generator().manual_seed(stream)
        longest = min(WARM_UP, self._config.max_steps or WARM_UP)
        begin = torch.randint(longest, (self.num_envs,), generator=generator).numpy()
        for step in range(longest):
            obs = self._tensor(self._step(random_actions(self, obs, generator), begin == step).obs)
        self._log.clear(running_are_whole=False)
        self.random_steps += longest * self.num_envs
        return obs

    def _restart(self, whole: bool) -> Tensor:
        begun = int(self._board.episode.sum())
        obs = self._tensor(self._vec.reset(mix64(self._seed, self._first_env, begun) >> 34))
        self._log.clear(running_are_whole=whole)
        self.final_obs = obs.clone()
        self._note_resets()
        return obs


def _mask(rows: np.ndarray, count: int) -> Tensor:
    """bool `[count]`: True in these rows."""
    return torch.zeros(count, dtype=torch.bool).index_fill(0, torch.from_numpy(rows), True)
