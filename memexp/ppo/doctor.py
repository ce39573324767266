"""The doctor: does the policy act with the probabilities that it learns with, and does the environment follow its API?

Both are checked with the memory on and off, as an experiment with twins needs both. The reset check starts an episode
inside a segment: nothing before this step may change the policy after it.

The parity check replays rollouts through the learning pass with the same weights. A fresh policy could hide a
difference: its logits are nearly uniform, and some parts of the cells start at zero. So noise is added to every weight,
logits are sharpened until the entropy is at most half of ln(actions), and episodes end inside segments: the
environment's own, and, as these may be longer than a segment, ends at random steps that both passes get to know.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memexp import envs
from memexp.config import UsageError
from memexp.console import Console
from memexp.cortex.check import shake
from memexp.envs.base import VecEnv, random_actions
from memexp.envs.config import ThirdParty
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
    gaps: dict[str, float]
    """The same for memory "on" and "off"."""
    reset_leak: float
    """The largest change of a log-probability after a reset if the observations and the state before it change."""
    entropy_share: float | None
    """Entropy of the sharpened policy, as a share of `max_entropy` of the observations; None for continuous actions."""
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
        agrees = self.max_logprob_gap <= self.threshold
        return agrees and self.reset_leak <= self.threshold and not self.problems

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}

    def print(self) -> None:
        """Print a line for each finding, the verdict last."""
        out = Console(soft_wrap=True)
        out.print(f"device                 {self.device}, {self.precision}")
        out.print(f"replayed               {self.samples:,} agent steps")
        out.print(f"episode starts inside  {self.resets_inside:,}")
        if self.entropy_share is not None:
            out.print(f"entropy                {self.entropy_share:.2f} of ln(allowed actions)")
        for memory, gap in self.gaps.items():
            out.print(f"max |log p difference| {gap:.2e} with memory {memory} (at most {self.threshold:.0e})")
        out.print(f"leak over a reset      {self.reset_leak:.2e} (at most {self.threshold:.0e})")
        out.print(f"outside the clip range {self.clip_share:.2%}")
        for line in self.observation:
            out.print(line)
        for problem in self.problems:
            out.print(f"problem                {problem}")
        wrong = [memory for memory, gap in self.gaps.items() if not gap <= self.threshold]
        if any(math.isnan(self.gaps[memory]) for memory in wrong):
            out.print("FAILED: the policy's log-probabilities are NaN: a cell returns numbers that are not finite")
        elif wrong:
            with_memory = " and ".join(f"with memory {memory}" for memory in wrong)
            out.print(f"FAILED: the policy that acts is not the policy that learns ({with_memory})")
        if self.reset_leak > self.threshold or (math.isnan(self.reset_leak) and not wrong):
            out.print("FAILED: what was before the start of an episode changes the policy in it: a cell ignores resets")
        out.print("ok" if self.ok else "not ok")


def doctor(config: TrainConfig) -> DoctorReport:
    """Check the policy and the environment of `config`; writes nothing."""
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    ranks = join(config.trainer.device)
    hyper = config.trainer.model_copy(update={"graph": False})  # a graph would bypass the made-up dones
    gaps: dict[str, float] = {}
    found: list[_Findings] = []
    for memory in (config.cortex.memory, "off" if config.cortex.memory == "on" else "on"):
        cortex = config.cortex.model_copy(update={"memory": memory})
        with closing(Trainer(config.model_copy(update={"trainer": hyper, "cortex": cortex}), ranks)) as trainer:
            found.append(_examine(trainer, problems_too=not found))
        gaps[memory] = found[-1].gap
    own = found[0]
    return DoctorReport(
        max_logprob_gap=_largest(gaps.values()),
        threshold=MAX_GAP[config.trainer.precision],
        clip_share=own.clip_share,
        gaps=gaps,
        reset_leak=_largest(one.leak for one in found),
        entropy_share=own.entropy_share,
        resets_inside=own.resets_inside,
        samples=own.samples,
        device=str(ranks.device),
        precision=config.trainer.precision,
        observation=own.observation,
        problems=own.problems,
    )


class _Findings(NamedTuple):
    """What the doctor found with one memory."""

    gap: float
    leak: float
    clip_share: float
    entropy_share: float | None
    resets_inside: int
    samples: int
    observation: list[str]
    problems: list[str]


def _examine(trainer: Trainer, problems_too: bool) -> _Findings:
    shake(trainer.policy)
    sharpen(trainer)
    gaps, clipped, entropies, resets = zip(*replay(trainer, ROLLOUTS), strict=True)
    counted = trainer.env.actions.count is not None
    return _Findings(
        gap=_largest(gaps),
        leak=reset_leak(trainer),
        clip_share=sum(clipped) / ROLLOUTS,
        entropy_share=sum(entropies) / ROLLOUTS if counted else None,
        resets_inside=sum(resets),
        samples=ROLLOUTS * trainer.segments.rewards.numel(),
        observation=described(trainer.env.observation, trainer.env.because, trainer.env.actions),
        problems=[*api_errors(trainer.env, trainer.ranks), *endless(trainer)] if problems_too else [],
    )


def _largest(numbers: Iterable[float]) -> float:
    return torch.tensor([*numbers]).max().item()  # unlike Python's max it keeps a NaN


def sharpen(trainer: Trainer, share: float = 0.5) -> None:
    """Lower the entropy of the policy on the present observations to at most `share` of the largest.

    Scales the logits up; for continuous actions, the standard deviations down.
    """
    policy, actor = trainer.policy, trainer.actor
    last = policy.actor[-1]
    with torch.no_grad():
        for _ in range(60):
            logits, _, _ = policy(actor.obs, actor.state, actor.resets)
            if policy.actions.entropy(logits).mean().item() <= share * policy.max_entropy(actor.obs):
                return
            if isinstance(last, AppendLogStd):
                last.log_std.sub_(math.log(1.3))
            else:
                assert isinstance(last, nn.Linear)
                last.weight.mul_(1.3)
                last.bias.mul_(1.3)


def replay(trainer: Trainer, rollouts: int) -> Iterator[tuple[float, float, float, int]]:
    """Act, then make the learning pass: (largest gap, clipped share, share of the largest entropy, resets inside)."""
    actions = trainer.policy.actions
    with _made_up_dones(trainer.env, torch.Generator().manual_seed(1)):
        for _ in range(rollouts):
            trainer.collect()
            s = trainer.segments
            with torch.no_grad(), trainer.cast():
                logits, _, _ = trainer.policy(s.obs, s.start, s.resets)
            difference = actions.log_prob(logits, s.actions) - s.log_probs
            clipped = ((difference.exp() - 1).abs() > trainer.config.trainer.clip).float().mean().item()
            entropy = actions.entropy(logits).mean().item() / (trainer.policy.max_entropy(s.obs) or 1)
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


@torch.no_grad()
def reset_leak(trainer: Trainer) -> float:
    """The largest change of a log-probability from a reset on, if all before it changes: observations and state.

    The reset is at the first step and in the middle of the latest segments, in both passes.
    """
    s, policy = trainer.segments, trainer.policy
    leak = 0.0
    for at in {0, s.obs.shape[1] // 2}:
        resets = torch.zeros_like(s.resets)
        resets[:, at] = True
        other = s.obs.clone()
        other[:, :at] = s.obs.roll((1, 1), (0, 1))[:, :at]
        fresh = policy.init_state(len(resets), trainer.ranks.device)
        with trainer.cast():
            pairs = [(policy(s.obs, s.start, resets)[0], policy(other, fresh, resets)[0])]
            pairs.append((_step_by_step(policy, s.obs, s.start, resets), _step_by_step(policy, other, fresh, resets)))
        for one, two in pairs:
            chances = (policy.actions.log_prob(logits[:, at:], s.actions[:, at:]) for logits in (one, two))
            leak = _largest([leak, torch.sub(*chances).abs().max().item()])
    return leak


def _step_by_step(policy: Policy, obs: Tensor, state: dict[str, Tensor], resets: Tensor) -> Tensor:
    """Logits `[N, T, ...]` of the acting pass."""
    steps: list[Tensor] = []
    for t in range(obs.shape[1]):
        logits, _, state = policy(obs[:, t], state, resets[:, t])
        steps.append(logits)
    return torch.stack(steps, 1)


def endless(trainer: Trainer) -> list[str]:
    """What is wrong if no episode of a third-party environment ends by itself, and no limit is given."""
    config, env = trainer.config.env, trainer.env
    if not isinstance(config, ThirdParty) or config.max_steps or getattr(env, "ends_by_itself", False):
        return []
    generator = torch.Generator().manual_seed(3)
    with closing(envs.build(config, 1)) as one:
        obs = one.reset()
        try:
            while not one.ends_by_itself:  # type: ignore[attr-defined]
                obs, *_ = one.step(random_actions(one, obs, generator))
        except UsageError as error:
            return [str(error)]
    return []


def api_errors(env: VecEnv, ranks: Ranks) -> list[str]:
    """The rules of its API that `env` breaks in the first of 64 random steps that breaks any, one sentence each."""
    generator = torch.Generator().manual_seed(2)
    obs = env.reset()
    for _ in range(64):
        obs, reward, terminated, truncated = env.step(random_actions(env, obs, generator).to(ranks.device))
        broken = {
            f"observations are on {obs.device}, training is on {ranks.device}": obs.device.type != ranks.device.type,
            "an observation is not finite": obs.is_floating_point() and not bool(torch.isfinite(obs).all()),
            "a reward is not finite": not bool(torch.isfinite(reward).all()),
            "an episode is both terminated and truncated": bool((terminated & truncated).any()),
        }
        if any(broken.values()):
            return [sentence for sentence, is_broken in broken.items() if is_broken]
    return []
