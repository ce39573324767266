"""Control environments with known answers, which show whether the verdicts about other environments can be trusted.

All environments advance in lockstep as tensors. Random numbers are counter-based: they depend on (seed, global env
index, episode, step) alone, so they do not depend on how the environments are spread over ranks.
"""

from typing import Any

import torch
from torch import Tensor

from memexp.envs.base import Episodes, TaskSource, VecEnv, mix64
from memexp.envs.config import ChainRecall, DelayedCue, TMaze, TMazeCue
from memexp.envs.episodes import EpisodeLog
from memexp.spaces import VectorSpace

FORWARD, LEFT, RIGHT = 0, 1, 2
"""Actions of the T-mazes."""

_SIDE, _SYMBOL, _RANDOM_PLAY, _CUE = 0, 1, 2, 3  # purposes of random numbers


class ControlEnv(VecEnv):
    """Base of the control environments: counters of episode and step, random numbers, episode log, saving."""

    _episode: Tensor  # [N] int64: number of the running episode
    _t: Tensor  # [N] int64: steps taken in it

    def __init__(
        self, config: Any, num_envs: int, device: str, seed: int, first_env: int, tasks: TaskSource | None
    ) -> None:
        self._configure(config)
        self.num_envs = self.num_agents = num_envs
        self.device = torch.device(device)
        self.ceiling_return = 1.0
        seeds = [_signed(mix64(seed, first_env + i)) for i in range(num_envs)]
        self._stream = torch.tensor(seeds, dtype=torch.int64, device=self.device)
        self._log = EpisodeLog(num_envs, self.device, first_env)
        self._restart()

    def _configure(self, config: Any) -> None:
        """Take the knobs over."""
        raise NotImplementedError

    def _restart(self) -> None:
        self._episode = torch.zeros_like(self._stream)
        self._t = torch.zeros_like(self._stream)

    def _draw(self, purpose: int, counter: Tensor, options: int) -> Tensor:
        """A random number in 0..options-1 for each environment `[N]`, a hash of (stream, episode, purpose, counter)."""
        return _hash(_hash(_hash(self._stream + self._episode) + counter) + purpose).remainder(options)

    def _begin(self, done: Tensor) -> None:
        """Start the next episode where `done` `[N]`."""
        self._episode += done
        self._t.masked_fill_(done, 0)

    def _observe(self) -> Tensor:
        raise NotImplementedError

    def reset(self) -> Tensor:
        self._restart()
        self._log.clear()
        self.final_obs = self._observe()
        return self._observe()

    def pop_episodes(self) -> Episodes:
        return self._log.pop()

    def state_dict(self) -> dict[str, Any]:
        return {"episode": self._episode.clone(), "t": self._t.clone(), "log": self._log.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        self._episode.copy_(state["episode"])
        self._t.copy_(state["t"])
        self._log.load_state_dict(state["log"])
        return self._observe()


class TMazeEnv(ControlEnv):
    """A corridor of `length` cells, then a turn left or right. A cue in the first `cue_steps` steps shows which pays 1.

    Observation `[N, 5]`: cue left, cue right, start, corridor, junction. All corridor cells look alike and the
    observation does not show the time, so a memoryless policy succeeds in at most half of the episodes. `tmaze_cue`
    shows the cue in every step. Turning in the corridor does nothing; turning at the junction ends the episode. After
    10 * (length + 1) steps the episode is truncated.
    """

    num_actions = 3
    observation = VectorSpace(5)

    def _configure(self, config: TMaze | TMazeCue) -> None:
        self._length = config.length
        self._cue_steps = config.cue_steps if isinstance(config, TMaze) else None
        self.shortest_truncation = self._max_steps = 10 * (config.length + 1)
        self.memory_span = 0 if self._cue_steps is None else config.length + 1 - self._cue_steps

    def _restart(self) -> None:
        super()._restart()
        self._position = torch.zeros_like(self._stream)
        self._side = self._draw(_SIDE, self._t, 2)

    def _observe(self) -> Tensor:
        cue = torch.ones_like(self._t, dtype=torch.bool) if self._cue_steps is None else self._t < self._cue_steps
        start, junction = self._position == 0, self._position == self._length
        columns = (cue & (self._side == 0), cue & (self._side == 1), start, ~start & ~junction, junction)
        return torch.stack(columns, dim=1).float()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        junction = self._position == self._length
        terminated = junction & (actions != FORWARD)
        reward = (terminated & (actions - LEFT == self._side)).float()
        self._position += (actions == FORWARD) & ~junction
        self._t += 1
        truncated = ~terminated & (self._t >= self._max_steps)
        done = terminated | truncated
        self.final_obs = self._observe()
        self._log.add(reward, done, {"env/success": reward, "env/timeout": truncated.float()})
        self._begin(done)
        self._position.masked_fill_(done, 0)
        self._side = torch.where(done, self._draw(_SIDE, torch.zeros_like(self._t), 2), self._side)
        return self._observe(), reward, terminated, truncated

    def desync(self) -> Tensor:
        self.reset()
        for step in range(longest := 3 * (self._length + 1)):
            self.step(self._draw(_RANDOM_PLAY, torch.full_like(self._t, step), self.num_actions))
        self.random_steps += longest * self.num_envs
        self._log.clear(running_are_whole=False)
        return self._observe()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "position": self._position.clone(), "side": self._side.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        self._position.copy_(state["position"])
        self._side.copy_(state["side"])
        return super().load_state_dict(state)


class ChainRecallEnv(ControlEnv):
    """Each step shows a symbol. The action must name the symbol of k steps ago (as POPGym's RepeatPrevious).

    Observation `[N, num_symbols]`, one-hot. A right answer pays 1 / (episode_length - k); the first k steps pay
    nothing. So a perfect policy returns 1, a random one 1 / num_symbols. The time limit truncates the episode.
    """

    def _configure(self, config: ChainRecall) -> None:
        self._k, self._length = config.k, config.episode_length
        self.memory_span = config.k
        self.shortest_truncation = self._length
        self.num_actions = config.num_symbols
        self.observation = VectorSpace(config.num_symbols)

    def _symbol(self, t: Tensor) -> Tensor:
        return self._draw(_SYMBOL, t, self.num_actions)

    def _observe(self) -> Tensor:
        return torch.nn.functional.one_hot(self._symbol(self._t), self.num_actions).float()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        asked = self._t >= self._k
        right = asked & (actions == self._symbol(self._t - self._k))
        reward = right.float() / (self._length - self._k)
        self._t += 1
        truncated = self._t >= self._length
        self.final_obs = self._observe()
        self._log.add(reward, truncated, {})
        self._begin(truncated)
        return self._observe(), reward, torch.zeros_like(truncated), truncated

    def desync(self) -> Tensor:
        self.reset()
        self._t.copy_(self._draw(_RANDOM_PLAY, self._t, self._length))
        self._log.clear(running_are_whole=False)
        return self._observe()


class DelayedCueEnv(ControlEnv):
    """Each step shows a symbol, which the action must name. After `delay` steps it must name the cue of the first step.

    Observation `[N, 2 * num_symbols + 1]`: symbol and cue, each one-hot or nothing, and whether the cue is asked for.
    The symbols pay 1 - share in all, the cue pays `share`. Then the episode ends. So memory alone earns the last
    share * (1 - 1 / num_symbols) of a perfect policy's return of 1.
    """

    def _configure(self, config: DelayedCue) -> None:
        self.memory_span = self._delay = config.delay
        self._share, self.num_actions = config.share, config.num_symbols
        self.observation = VectorSpace(2 * config.num_symbols + 1)

    def _shown(self) -> tuple[Tensor, Tensor, Tensor]:
        """The symbol of the step and the cue of the episode, and whether the cue is asked for, all `[N]`."""
        cue = self._draw(_CUE, torch.zeros_like(self._t), self.num_actions)
        return self._draw(_SYMBOL, self._t, self.num_actions), cue, self._t == self._delay

    def _observe(self) -> Tensor:
        symbol, cue, asked = self._shown()
        one_hot = torch.nn.functional.one_hot(torch.stack((symbol, cue)), self.num_actions)
        lit = torch.stack((~asked, self._t == 0)).unsqueeze(-1)
        return torch.cat((*(one_hot * lit), asked.unsqueeze(-1)), dim=1).float()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        symbol, cue, asked = self._shown()
        right = (actions == torch.where(asked, cue, symbol)).float()
        reward = right * torch.where(asked, self._share, (1 - self._share) / self._delay)
        self._t += 1
        self.final_obs = self._observe()
        self._log.add(reward, asked, {"env/success": right * asked})
        self._begin(asked)
        return self._observe(), reward, asked, torch.zeros_like(asked)

    def desync(self) -> Tensor:
        self.reset()
        self._t.copy_(self._draw(_RANDOM_PLAY, self._t, self._delay + 1))
        self._log.clear(running_are_whole=False)
        return self._observe()


def _signed(number: int) -> int:
    """The int64 with the same bits as this unsigned 64-bit number."""
    return number - (1 << 64) if number >= 1 << 63 else number


_GOLDEN, _MIX1, _MIX2 = (_signed(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _hash(x: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 `[N]`. Products wrap; masks make the shifts logical."""
    x = x + _GOLDEN
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MIX1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MIX2
    return x ^ ((x >> 31) & ((1 << 33) - 1))
