"""The trainer of one rank: environments, policy, optimiser, and one step of training (rollout, advantages, update)."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from memexp import envs
from memexp.config import UsageError
from memexp.curriculum import schedule
from memexp.envs.base import Episodes, concatenated, mix64
from memexp.policy.model import Policy
from memexp.ppo.checkpoint import Checkpoint
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.ppo import Learner, gae
from memexp.ppo.rollout import ActionNoise, Actor, CudaRollout, Segments, collect
from memexp.ppo.timing import Stopwatch, gpu_use


def _undecorated(method: Callable[..., Any]) -> Callable[..., Any]:
    return getattr(method, "__wrapped__", method)


class AdamW(torch.optim.AdamW):
    """torch.optim.AdamW without what torch puts around its methods for torch.compile, which we do not apply to it.

    The first call would import the compiler: 1.5 s of CPU time and 140 MB.
    """

    add_param_group, zero_grad, state_dict, load_state_dict = (
        _undecorated(getattr(torch.optim.AdamW, name))
        for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    )
    step = torch.no_grad()(_undecorated(torch.optim.AdamW.step))


class Trainer:
    """One rank's share of a run. All randomness follows from the seed and the environments' numbers over all ranks."""

    def __init__(self, config: TrainConfig, ranks: Ranks):
        hyper, self.ranks = config.trainer, ranks
        share = hyper.envs_per_rank(ranks.world_size)
        self.tasks = schedule.build(config.curriculum, config.seed, hyper.num_envs)
        self.env = envs.build(config.env, share, str(ranks.device), config.seed, ranks.rank * share, self.tasks)
        self.config = self._with_readings(config)
        torch.manual_seed(mix64(config.seed, 1) >> 1)
        self.policy = Policy(self.env.observation, self.env.actions, config.cortex, config.policy).to(ranks.device)
        self.optimizer = AdamW(
            self.policy.parameters(), hyper.learning_rate, eps=1e-5, weight_decay=hyper.weight_decay, fused=True
        )
        n = self.env.num_agents
        mine = n, ranks.rank * n, ranks.world_size * n
        self.noise = ActionNoise(mix64(config.seed, 2) >> 1, *mine, ranks.device, self.env.actions.shape)
        self.shuffle = torch.Generator().manual_seed(mix64(config.seed, 3) >> 1)
        obs = self.env.desync()
        resets = torch.ones(n, dtype=torch.bool, device=ranks.device)
        self.actor = Actor(obs, self.policy.init_state(n, ranks.device), resets)
        self.cuda_rollout: CudaRollout | None = None
        self.segments = Segments.empty(self.env, obs, hyper.horizon)
        self.learner = Learner(self.policy, self.optimizer, hyper, ranks, self.cast)
        self.clock = Stopwatch(ranks.device)
        self.agent_steps = 0
        self.updates = 0
        self._idle_since: float | None = None

    def _with_readings(self, config: TrainConfig) -> TrainConfig:
        """The config that also says how each part of the observation is read, so that nothing decides it again."""
        reading = self.env.reading
        if reading is None:
            return config
        if any(other != reading for other in self.ranks.gather(reading)):
            raise UsageError(f"the ranks read the observation differently: give env.reading={dict(reading)}")
        return config.model_copy(update={"env": config.env.model_copy(update={"reading": dict(reading)})})

    @property
    def finished(self) -> bool:
        return self.agent_steps >= self.config.trainer.total_timesteps

    def train_step(self) -> dict[str, float]:
        """One rollout of `horizon` steps and one update on it; returns the update's metrics.

        time/rollout (of which time/engine in the environments), time/update and time/logging are this rank's seconds.
        The last is everything since the previous update: episodes, metrics, checkpoints, evaluations.
        """
        hyper = self.config.trainer
        clock, s, begun = self.clock, self.segments, time.perf_counter()
        with clock.part("rollout"):
            last_values = self.collect()
        with clock.part("update"):
            advantages, returns = gae(s.rewards, s.values, s.dones, last_values, hyper.gamma, hyper.gae_lambda)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            metrics = self.learner.update(s, advantages, returns, self.shuffle)
            # Only after the update: acting and learning must use the same statistics.
            self.policy.update_statistics(s.obs, self.ranks.sum)
        self.agent_steps += s.rewards.numel() * self.ranks.world_size
        self.updates += 1
        times = {f"time/{name}": seconds for name, seconds in clock.read().items()}
        times["time/logging"], self._idle_since = begun - (self._idle_since or begun), time.perf_counter()
        metrics |= {"learning_rate": self.optimizer.param_groups[0]["lr"]}
        return metrics | times | gpu_use(self.ranks.device)

    def learning_rate(self) -> float:
        """Linear decay to `learning_rate_end` times the full rate at `total_timesteps`, times a linear warm-up."""
        hyper = self.config.trainer
        progress = min(1.0, self.agent_steps / hyper.total_timesteps)
        decay = 1 - (1 - hyper.learning_rate_end) * progress
        warm = min(1.0, (self.updates + 1) / hyper.warmup_updates) if hyper.warmup_updates else 1.0
        return hyper.learning_rate * decay * warm

    def pop_episodes(self) -> Episodes:
        """Columns of all ranks' whole episodes that finished since the last call; the curriculum learns from them.

        Every rank calls this after each update.
        """
        parts = self.ranks.gather((self.env.pop_episodes(), self.tasks.note()))
        episodes = concatenated(part for part, _ in parts)
        self.tasks.advance(episodes, [note for _, note in parts])
        return episodes

    def checkpoint(self) -> Checkpoint:
        """The whole state of the run at this moment; the tensors are not copied."""
        return Checkpoint(
            self.agent_steps,
            self.policy.state_dict(),
            {
                "optimizer": self.optimizer.state_dict(),
                "action_noise": self.noise.generator.get_state(),
                "shuffle": self.shuffle.get_state(),
                "updates": self.updates,
                "usual_norm": self.learner.guard.usual,
                "tasks": self.tasks.state_dict(),
            },
            {"env": self.env.state_dict(), "state": self.actor.state, "resets": self.actor.resets},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from `checkpoint` as if the run had never stopped; on another kind of device with other noise."""
        self.policy.load_state_dict(checkpoint.weights)
        shared: dict[str, Any] = checkpoint.shared
        self.optimizer.load_state_dict(shared["optimizer"])
        noise = shared["action_noise"] if "action_noise" in shared else shared["dice"]  # in older checkpoints
        self.noise.restore(noise.cpu(), mix64(self.config.seed, 2, checkpoint.agent_steps) >> 1)
        self.shuffle.set_state(shared["shuffle"].cpu())
        self.learner.guard.usual.copy_(shared.get("usual_norm", 0))  # older checkpoints have none
        self.updates, self.agent_steps = shared["updates"], checkpoint.agent_steps
        self.tasks.load_state_dict(shared["tasks"])
        obs = self.env.load_state_dict(checkpoint.mine["env"])
        resets = checkpoint.mine["resets"]
        if not self.env.continues:
            resets = torch.ones_like(resets)
        self.actor, self.cuda_rollout = Actor(obs, checkpoint.mine["state"], resets), None

    def close(self) -> None:
        """Close the environments; the trainer cannot be used afterwards."""
        self.env.close()

    def collect(self) -> Tensor:
        """The next rollout into `segments`; returns the value of the observation after it, `[N]`."""
        hyper, cast = self.config.trainer, self.cast()
        where = self.policy, self.env, self.actor, self.noise, self.segments
        if self.env.resetting is not None or self.ranks.device.type != "cuda":
            return collect(*where, hyper.gamma, cast, self.clock)
        self.cuda_rollout = self.cuda_rollout or CudaRollout(*where, hyper.graph)
        return self.cuda_rollout.collect(self.actor, hyper.gamma, cast, self.clock)

    def cast(self) -> AbstractContextManager[Any]:
        """The precision of acting and learning."""
        return autocast(self.config.trainer.precision, self.ranks.device)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast, or nothing for "float32"."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)
