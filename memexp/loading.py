"""`memexp.load`: what a run measured, and the policy that it trained, in Python."""

import operator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from memexp import envs
from memexp.config import Config, UsageError, did_you_mean
from memexp.envs.base import Episodes, VecEnv, concatenated, flags
from memexp.policy.actions import Gaussian, MultiCategorical
from memexp.policy.model import State
from memexp.ppo.checkpoint import CheckpointError, load_weights
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import join
from memexp.ppo.evaluate import MOST_ENVS, acting, first_episodes, held_out_noise, held_out_worlds
from memexp.ppo.horizon import policy_with
from memexp.ppo.received import check_received
from memexp.ppo.trainer import autocast
from memexp.runs import Run, RunInfo, find_runs

if TYPE_CHECKING:
    import polars as pl


class LoadedRun:
    """A run directory: its config, what it measured, and its policy."""

    def __init__(self, run: Run):
        self.run = run

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def info(self) -> RunInfo:
        """run.json: what the run is."""
        return self.run.info

    @property
    def config(self) -> TrainConfig:
        return TrainConfig.parse(self.run.config, self.run.name)

    @property
    def metrics(self) -> "pl.DataFrame":
        """One row an update (docs/files.md)."""
        import polars as pl

        return pl.DataFrame(self.run.metrics(), infer_schema_length=None)

    @property
    def episodes(self) -> "pl.DataFrame":
        """One row a finished episode of the training (docs/files.md)."""
        return self.run.episodes()

    def policy(self, device: str = "cpu", trust: bool = False) -> "LoadedPolicy":
        """The policy of the newest checkpoint. `trust`: import whatever the run's config names.

        Raises UsageError if the config names what this machine does not know, and without a checkpoint.
        """
        config = self.config
        check_received(self.name, config, trust)
        steps, weights = newest_weights(self.run)
        return LoadedPolicy(config, steps, weights, device)


HUB_WEIGHTS, HUB_STEPS = "model.safetensors", "agent_steps"
"""Weights in a folder that `memexp export --hub` wrote, and the key of their agent steps in its metadata."""


def newest_weights(run: Run) -> tuple[int, dict[str, Tensor]]:
    """Agent steps and weights of a run's newest checkpoint, or of a hub folder. Raises UsageError if there is none."""
    hub = run.path / HUB_WEIGHTS
    try:
        return _from_hub(hub) if hub.exists() else load_weights(run.checkpoints)
    except CheckpointError as error:
        raise UsageError(f"run '{run.name}': {error}") from None


def _from_hub(file: Path) -> tuple[int, dict[str, Tensor]]:
    """Agent steps and weights. Raises CheckpointError if the file is damaged."""
    try:
        with safe_open(file, "pt") as opened:
            steps = int((opened.metadata() or {}).get(HUB_STEPS, 0))
            return steps, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{file.name} cannot be read: {error}") from None


def load(run: str | Path) -> LoadedRun:
    """A run by its name below $MEMEXP_HOME, or by the path of its directory or of a folder of the Hugging Face hub.

    Raises UsageError if there is none.
    """
    runs = {one.name: one for one in find_runs()}
    found = runs.get(str(run)) or Run(Path(run))
    if not found.exists():
        if found.path.is_dir():
            raise UsageError(f"{run} holds no run: a run's directory has a config.yaml and a run.json")
        raise UsageError(f"there is no run '{run}'{did_you_mean(str(run), runs)}")
    return LoadedRun(found)


@dataclass(frozen=True)
class ActInfo:
    """What a policy thought when it acted, for N agents."""

    value: np.ndarray
    """The critic's value of the observation [N]."""
    probabilities: np.ndarray | list[np.ndarray] | None
    """Of discrete actions [N, A]; a list of such arrays for several choices at once; None for continuous actions."""
    mean: np.ndarray | None
    """Of continuous actions [N, size], before they are scaled to the bounds of the action space."""
    std: np.ndarray | None
    hidden: list[np.ndarray]
    """Output of each layer of the memory stack [N, d_hidden], for probes."""


class LoadedPolicy:
    """A trained policy. It takes observations and returns actions as the environment itself has them."""

    def __init__(self, config: TrainConfig, agent_steps: int, weights: dict[str, Tensor], device: str = "cpu"):
        self.config, self.agent_steps, self.device = config, agent_steps, join(device).device
        self.env: VecEnv = envs.build(serial(config.env), 1, str(self.device))
        self.env.close()  # only its spaces are needed
        self.module = policy_with(config, self.env, weights, self.device)
        self._fresh = self.init_state(1)
        self._generator = torch.Generator(self.device)

    def seed(self, seed: int) -> None:
        """Seed the draws of actions. A policy that was not seeded draws the same ones each time it is loaded."""
        try:
            self._generator.manual_seed(operator.index(seed))
        except (TypeError, RuntimeError, ValueError):
            raise UsageError(f"seed {seed!r} is no whole number of 64 bits") from None

    def init_state(self, n: int) -> State:
        """The memory of `n` agents at the start of an episode: tensors `[n, ...]` by name; empty for a twin."""
        if not isinstance(n, int | np.integer) or n < 1:
            raise UsageError(f"init_state({n!r}): a number of agents, 1 or more, is expected")
        return self.module.init_state(n, self.device)

    @torch.no_grad()
    def act(
        self,
        obs: Any,
        state: State,
        resets: Any = None,
        greedy: bool = False,
        action_masks: Any = None,
        ended: Any = None,
    ) -> tuple[np.ndarray, State, ActInfo]:
        """Actions of N agents, their memory after this step, and what the policy thought.

        obs: a list of N observations, or a batch of them as Gymnasium's vector environments return it. resets `[N]`:
        True where this observation is the first of a new episode; its memory is cleared before. greedy: the most
        probable action instead of a sample. action_masks: `info["action_mask"]` of each agent, where the environment
        has them there. ended `[N]`: True where this observation is the last of an episode, whose action nobody plays,
        as in vector environments with NEXT_STEP; its mask may allow nothing.

        Raises UsageError for what does not fit: observations, masks, resets, or a state of other agents.
        """
        rows = self.env.encode(obs, action_masks, ended).to(self.device)
        cleared = flags("resets", resets, len(rows)).to(self.device)
        state = self._checked(state, cleared)
        hidden: list[np.ndarray] = []
        keep = [layer.register_forward_hook(_keep(hidden)) for layer in self.module.stack.blocks]
        try:
            with autocast(self.config.trainer.precision, self.device):
                logits, values, state = self.module(rows, state, cleared)
        finally:
            for hook in keep:
                hook.remove()
        actions = self.module.actions
        chosen = actions.mode(logits) if greedy else self.draw(logits)
        probabilities = mean = std = None
        if isinstance(actions, Gaussian):
            mean, log_std = (part.cpu().numpy() for part in logits.chunk(2, -1))
            std = np.exp(log_std)
        elif isinstance(actions, MultiCategorical):
            probabilities = [part.softmax(-1).cpu().numpy() for part in logits.split(actions.counts, -1)]
        else:
            probabilities = logits.softmax(-1).cpu().numpy()
        info = ActInfo(values.cpu().numpy(), probabilities, mean, std, hidden)
        return self.env.decode(chosen), state, info

    def _checked(self, state: State, cleared: Tensor) -> State:
        """The memory at the start of a step, fresh where it is cleared. Raises UsageError if it is another policy's."""
        n = len(cleared)
        if not isinstance(state, dict) or state.keys() != self._fresh.keys():
            raise UsageError("the state is none of this policy: pass that of init_state(n) or of the step before")
        for name, fresh in self._fresh.items():
            leaf, shape = state[name], (n, *fresh.shape[1:])
            if not isinstance(leaf, Tensor) or leaf.dtype != fresh.dtype:
                kind = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
                raise UsageError(f"the state '{name}' is {kind}; expected a tensor of {fresh.dtype}, as init_state has")
            if leaf.shape[1:] == shape[1:] and leaf.dim() and len(leaf) != n:
                raise UsageError(f"the state is that of {len(leaf)} agents, not of {n}: init_state({n}) makes one")
            if leaf.shape != shape:
                raise UsageError(f"the state '{name}' has shape {list(leaf.shape)}; expected {list(shape)}")
        rows = {name: cleared.view(n, *[1] * (fresh.dim() - 1)) for name, fresh in self._fresh.items()}
        return {name: torch.where(rows[name], fresh, state[name]) for name, fresh in self._fresh.items()}

    def draw(self, logits: Tensor) -> Tensor:
        """Actions at random, with the probabilities that `logits` `[N, ...]` give, as tensors of the policy."""
        shape = (len(logits), *self.env.actions.shape)
        return self.module.actions.sample(logits, torch.rand(shape, generator=self._generator, device=self.device))

    @torch.no_grad()
    def play(self, episodes: int, env: Config | None = None, seed: int | None = None, greedy: bool = False) -> Episodes:
        """Columns of the first `episodes` episodes of a held-out evaluation, as a run evaluates itself.

        env: another environment with the same observations and actions. Raises UsageError if they differ.
        """
        config, seed = env or self.config.env, self.config.seed if seed is None else seed
        parts: list[Episodes] = []
        for first in range(0, episodes, MOST_ENVS):
            made = held_out_worlds(config, min(MOST_ENVS, episodes - first), seed, str(self.device), first)
            with closing(made):
                for what, field in (("observation", "observation"), ("kind of actions", "actions")):
                    if (given := getattr(made, field)) != (own := getattr(self.env, field)):
                        raise UsageError(f"--env: another {what} than the run's: {given}, not {own}")
                agents = made.num_agents // made.num_envs
                noise = held_out_noise(seed, made, first * agents, episodes * agents)
                acts = acting(self.module, made)

                def choose(obs: Tensor, resets: Tensor, acts: Any = acts, noise: Any = noise) -> Tensor:
                    actions, logits = self.module.actions, acts(obs, resets)
                    return actions.mode(logits) if greedy else actions.sample(logits, noise.sample())

                with autocast(self.config.trainer.precision, self.device):
                    parts.append(first_episodes(made, choose))
        return concatenated(parts)


def serial(config: Config) -> Config:
    """The config of an environment that runs in this process."""
    return config.model_copy(update={"backend": "serial"} if "backend" in type(config).model_fields else {})


def _keep(hidden: list[np.ndarray]) -> Any:
    def hook(layer: nn.Module, given: Any, returned: tuple[Tensor, Any]) -> None:
        hidden.append(returned[0].reshape(-1, returned[0].shape[-1]).float().cpu().numpy())

    return hook
