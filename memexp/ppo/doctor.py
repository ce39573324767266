"""The doctor: does the policy act with the probabilities that it learns with, and does the environment follow its API?

The parity check replays rollouts through the learning pass with the same weights. A fresh policy could hide a
difference: its logits are nearly uniform, and some parts of the cells start at zero. So noise is added to every weight,
logits are sharpened until the entropy is at most half of ln(actions), and episodes end inside segments: the
environment's own, and, as these may be longer than a segment, ends at random steps that both passes get to know.
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from memexp.console import Console
from memexp.envs.base import VecEnv, random_actions
from memexp.policy.actions import AppendLogStd
from memexp.policy.model import Policy
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks, join
from memexp.ppo.trainer import Trainer
from memexp.runs import MAX_GAP
from memexp.spaces import described

ROLLOUTS = 3
"""Rollouts that are replayed; the later ones start from a recurrent state."""
MADE_UP_DONES = 1 / 16
"""Share of steps that end an episode in addition to the environment's own."""


@dataclass
class DoctorReport:
    """What the doctor found."""

    max_logprob_gap: float
    """The largest |log-probability when acting - log-probability when learning| of an action taken."""
    threshold: float
    clip_share: float
    """Share of samples outside PPO's clip range before any update."""
    entropy_share: float
    """Entropy of the sharpened policy, as a share of ln(actions)."""
    resets_inside: int
    """Episodes that began inside a replayed segment, after its first step."""
    samples: int
    device: str
    precision: str
    observation: list[str] = field(default_factory=list)
    """How the policy reads each part of the observation, and why."""
    problems: list[str] = field(default_factory=list)
    """One sentence for each rule of the API that the environment broke."""

    @property
    def ok(self) -> bool:
        return self.max_logprob_gap <= self.threshold and not self.problems

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}

    def print(self) -> None:
        """Print a line for each finding, the verdict last."""
        out = Console(soft_wrap=True)
        out.print(f"device                 {self.device}, {self.precision}")
        out.print(f"replayed               {self.samples:,} agent steps")
        out.print(f"episode starts inside  {self.resets_inside:,}")
        out.print(f"entropy                {self.entropy_share:.2f} of ln(actions)")
        out.print(f"max |log p difference| {self.max_logprob_gap:.2e} (at most {self.threshold:.0e})")
        out.print(f"outside the clip range {self.clip_share:.2%}")
        for line in self.observation:
            out.print(line)
        for problem in self.problems:
            out.print(f"problem                {problem}")
        if not self.max_logprob_gap <= self.threshold:
            out.print("FAILED: the policy that acts is not the policy that learns")
        out.print("ok" if self.ok else "not ok")


def doctor(config: TrainConfig) -> DoctorReport:
    """Check the policy and the environment of `config`; writes nothing."""
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    ranks = join(config.trainer.device)
    hyper = config.trainer.model_copy(update={"graph": False})  # a graph would bypass the made-up dones
    with closing(Trainer(config.model_copy(update={"trainer": hyper}), ranks)) as trainer:
        shake(trainer.policy)
        sharpen(trainer)
        gaps, clipped, entropies, resets = zip(*replay(trainer, ROLLOUTS), strict=True)
        return DoctorReport(
            max_logprob_gap=torch.tensor(gaps).max().item(),  # unlike Python's max it keeps a NaN
            threshold=MAX_GAP[config.trainer.precision],
            clip_share=sum(clipped) / ROLLOUTS,
            entropy_share=sum(entropies) / ROLLOUTS / trainer.policy.actions.max_entropy,
            resets_inside=sum(resets),
            samples=ROLLOUTS * trainer.segments.rewards.numel(),
            device=str(ranks.device),
            precision=config.trainer.precision,
            observation=described(trainer.env.observation, trainer.env.because),
            problems=api_errors(trainer.env, ranks),
        )


def shake(policy: Policy, scale: float = 0.1) -> None:
    """Add noise to every weight, so that no part of the policy is hidden by an initial zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in policy.parameters():
            p += scale * torch.randn(p.shape, generator=generator).to(p.device)


def sharpen(trainer: Trainer, share: float = 0.5) -> None:
    """Lower the entropy of the policy on the present observations to at most `share` of the largest.

    Scales the logits up; for continuous actions, the standard deviations down.
    """
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
    """Act, then make the learning pass: (largest gap, clipped share, entropy, resets inside) of each rollout."""
    actions = trainer.policy.actions
    with _made_up_dones(trainer.env, torch.Generator().manual_seed(1)):
        for _ in range(rollouts):
            trainer.collect()
            s = trainer.segments
            with torch.no_grad(), trainer.cast():
                logits, _, _ = trainer.policy(s.obs, s.start, s.resets)
            difference = actions.log_prob(logits, s.actions) - s.log_probs
            clipped = ((difference.exp() - 1).abs() > trainer.config.trainer.clip).float().mean().item()
            entropy = actions.entropy(logits).mean().item()
            yield difference.abs().max().item(), clipped, entropy, int(s.resets[:, 1:].sum())


@contextmanager
def _made_up_dones(env: VecEnv, generator: torch.Generator) -> Iterator[None]:
    """Inside, `env` reports that episodes end at random steps too."""
    step = env.step

    def step_with_more_dones(actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        obs, reward, terminated, truncated = step(actions)
        more = torch.rand(len(terminated), generator=generator).to(terminated.device) < MADE_UP_DONES
        return obs, reward, terminated | (more & ~truncated), truncated

    env.step = step_with_more_dones  # type: ignore[method-assign]
    try:
        yield
    finally:
        del env.step


def api_errors(env: VecEnv, ranks: Ranks) -> list[str]:
    """The rules of its API that `env` breaks in the first of 64 random steps that breaks any, one sentence each."""
    generator = torch.Generator().manual_seed(2)
    obs = env.reset()
    for _ in range(64):
        actions = random_actions(env.actions, env.num_agents, generator).to(ranks.device)
        obs, reward, terminated, truncated = env.step(actions)
        broken = {
            f"observations are on {obs.device}, training is on {ranks.device}": obs.device.type != ranks.device.type,
            "an observation is not finite": obs.is_floating_point() and not bool(torch.isfinite(obs).all()),
            "a reward is not finite": not bool(torch.isfinite(reward).all()),
            "an episode is both terminated and truncated": bool((terminated & truncated).any()),
        }
        if any(broken.values()):
            return [sentence for sentence, is_broken in broken.items() if is_broken]
    return []
