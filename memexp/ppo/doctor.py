"""The doctor: is the policy that acts the policy that learns, and does the world keep its promises?

The parity gate replays rollouts through the learning pass with the same weights. A fresh policy would hide a
difference: its logits are nearly uniform and parts of the cells start at zero. So every weight is shaken, logits are
sharpened until the entropy is at most half of ln(actions), and episodes end inside segments (the worlds' own ends and,
because episodes may be longer than a segment, memory forgotten at random steps, told to both passes alike).
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from memexp.envs.base import VecEnv, random_actions
from memexp.policy.actions import AppendLogStd
from memexp.policy.model import Policy
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks, join
from memexp.ppo.trainer import Trainer
from memexp.runs import MAX_GAP

ROLLOUTS = 3
"""Rollouts that are replayed; the later ones start with a carried memory."""
FORGET = 1 / 16
"""Share of steps at which memory is forgotten besides the worlds' own episode ends."""


@dataclass
class DoctorReport:
    """What the doctor found; the gap is the largest |log-probability acting - learning| of an action taken."""

    max_logprob_gap: float
    threshold: float
    clip_share: float
    """Share of samples that start outside PPO's clip range."""
    entropy_share: float
    """Entropy of the sharpened policy over the largest, ln(actions)."""
    resets_inside: int
    """Episode starts inside the replayed segments, not at their first step."""
    samples: int
    device: str
    precision: str
    problems: list[str] = field(default_factory=list)
    """Promises that the world broke, one sentence each."""

    @property
    def ok(self) -> bool:
        return self.max_logprob_gap <= self.threshold and not self.problems

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}

    def print(self) -> None:
        """The findings, one line each, the verdict last."""
        out = Console(soft_wrap=True, highlight=False)
        out.print(f"device                 {self.device}, {self.precision}")
        out.print(f"replayed               {self.samples:,} agent steps")
        out.print(f"episode starts inside  {self.resets_inside:,}")
        out.print(f"entropy                {self.entropy_share:.2f} of ln(actions)")
        out.print(f"max |log p difference| {self.max_logprob_gap:.2e} (at most {self.threshold:.0e})")
        out.print(f"outside the clip range {self.clip_share:.2%}")
        for problem in self.problems:
            out.print(f"problem                {problem}")
        if not self.max_logprob_gap <= self.threshold:
            out.print("FAILED: the policy that acts is not the policy that learns")
        out.print("ok" if self.ok else "not ok")


def doctor(config: TrainConfig) -> DoctorReport:
    """Examine the policy and the world that `config` describes; nothing is written."""
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    ranks = join(config.trainer.device)
    called = config.trainer.model_copy(update={"graph": False})  # a graph would not hear of ends that are made up
    with closing(Trainer(config.model_copy(update={"trainer": called}), ranks)) as trainer:
        return _examine(trainer)


def _examine(trainer: Trainer) -> DoctorReport:
    config, ranks = trainer.config, trainer.ranks
    shake(trainer.policy)
    sharpen(trainer)
    gaps, outside, entropy, resets, samples = [], 0.0, 0.0, 0, 0
    for gap, clipped, spread, inside in replay(trainer, ROLLOUTS):
        gaps.append(gap)
        count = trainer.segments.rewards.numel()
        outside, entropy = outside + clipped * count, entropy + spread * count
        resets, samples = resets + inside, samples + count
    return DoctorReport(
        max_logprob_gap=torch.tensor(gaps).max().item(),  # unlike Python's max it keeps a NaN
        threshold=MAX_GAP[config.trainer.precision],
        clip_share=outside / samples,
        entropy_share=entropy / samples / trainer.policy.actions.max_entropy,
        resets_inside=resets,
        samples=samples,
        device=str(ranks.device),
        precision=config.trainer.precision,
        problems=list(broken_promises(trainer.env, ranks)),
    )


def shake(policy: Policy, scale: float = 0.1) -> None:
    """Add noise to every weight, so that nothing hides at its initial zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in policy.parameters():
            p += scale * torch.randn(p.shape, generator=generator).to(p.device)


def sharpen(trainer: Trainer, share: float = 0.5) -> None:
    """Scale the logits (the deviations of continuous actions) until the policy's entropy on the current observations is
    at most `share` of the largest."""
    policy, actor = trainer.policy, trainer.actor
    last = policy.actor[-1]
    with torch.no_grad():
        for _ in range(60):
            logits, _, _ = policy(actor.obs, actor.state, actor.resets)
            if policy.actions.entropy(logits).mean().item() <= share * policy.actions.max_entropy:
                return
            if isinstance(last, AppendLogStd):
                last.log_std.sub_(math.log(1.3))
            else:
                assert isinstance(last, nn.Linear)
                last.weight.mul_(1.3)
                last.bias.mul_(1.3)


def replay(trainer: Trainer, rollouts: int) -> Iterator[tuple[float, float, float, int]]:
    """Act, then learn from it without a step: (largest gap, clipped share, entropy, resets inside) of each rollout."""
    hyper = trainer.config.trainer
    generator = torch.Generator().manual_seed(1)
    with _forgetting(trainer.env, generator):
        for _ in range(rollouts):
            trainer.collect()
            s = trainer.segments
            with torch.no_grad(), trainer.cast():
                logits, _, _ = trainer.policy(s.obs, s.start, s.resets)
            difference = trainer.policy.actions.log_prob(logits, s.actions) - s.log_probs
            clipped = ((difference.exp() - 1).abs() > hyper.clip).float().mean().item()
            yield (
                difference.abs().max().item(),
                clipped,
                trainer.policy.actions.entropy(logits).mean().item(),
                int(s.resets[:, 1:].sum()),
            )


@contextmanager
def _forgetting(env: VecEnv, generator: torch.Generator) -> Iterator[None]:
    """Inside, the worlds report episode ends at random steps besides their own."""
    step = env.step

    def forgetful(actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        obs, reward, terminated, truncated = step(actions)
        forget = torch.rand(len(terminated), generator=generator).to(terminated.device) < FORGET
        return obs, reward, terminated | (forget & ~truncated), truncated

    env.step = forgetful  # type: ignore[method-assign]
    try:
        yield
    finally:
        del env.step


def broken_promises(env: VecEnv, ranks: Ranks) -> Iterator[str]:
    """What the world does that its interface forbids, one sentence each."""
    generator = torch.Generator().manual_seed(2)
    obs = env.reset()
    for _ in range(64):
        actions = random_actions(env.actions, env.num_agents, generator).to(ranks.device)
        obs, reward, terminated, truncated = env.step(actions)
        if obs.device.type != ranks.device.type:
            yield f"observations are on {obs.device}, training is on {ranks.device}"
            return
        if obs.is_floating_point() and not torch.isfinite(obs).all():
            yield "an observation is not finite"
            return
        if not torch.isfinite(reward).all():
            yield "a reward is not finite"
            return
        if (terminated & truncated).any():
            yield "an episode is both terminated and truncated"
            return
