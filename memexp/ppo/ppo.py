"""Recurrent PPO: advantages, losses and their signed sum, minibatches, gradients and the update, from top to bottom.

Schulman et al. 2017 (arXiv:1707.06347) on whole segments, so that backpropagation through time covers `horizon` steps.
Shapes: N agents of this rank, T steps of a segment, B agents of a minibatch, A actions.

Losses are sums over samples. They are divided by the number of samples of all ranks before gradients are added up, so
n ranks with N/n agents each make the same update as one rank with N agents.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from memexp.graphs import Replayed
from memexp.policy.actions import entropy
from memexp.policy.model import Policy
from memexp.ppo.config import TrainerConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.rollout import Segments

METRICS = ("loss/policy", "loss/value", "policy/entropy", "loss/approx_kl", "loss/clipfrac", "loss/grad_norm")
USUAL_NORM_STEPS = 50
"""Optimiser steps over which the usual gradient norm is averaged."""
LEAST_USUAL_NORM = 1e-3
"""The usual gradient norm counts as at least this share of `max_grad_norm`."""


def gae(
    rewards: Tensor, values: Tensor, dones: Tensor, last_values: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns, both `[N, T]` (generalised advantage estimation, Schulman et al. 2016, arXiv:1506.02438).

    Equation 11: delta_t = r_t + gamma V(s_t+1) - V(s_t). Equation 16: A_t = sum over l of (gamma lambda)^l delta_t+l.

    rewards `[N, T]`: if step t was truncated, the reward already contains gamma V(true last observation).
    values `[N, T]`: of the observations that were acted on. dones `[N, T]` bool: the episode ended with step t,
    terminated or truncated, so neither sum continues over it. last_values `[N]`: of the observation after the segment.
    Returns are advantages + values, the targets of the value function.
    """
    going_on = (~dones).to(values.dtype)
    next_values = torch.cat([values[:, 1:], last_values[:, None]], dim=1)
    deltas = rewards + gamma * next_values * going_on - values
    decay = gamma * gae_lambda * going_on
    advantages = torch.empty_like(values)
    running = torch.zeros_like(last_values)
    for t in reversed(range(values.shape[1])):
        running = deltas[:, t] + decay[:, t] * running
        advantages[:, t] = running
    return advantages, advantages + values


def normalise(advantages: Tensor, ranks: Ranks, clip: float | None = None) -> Tensor:
    """Advantages `[N, T]` with mean 0 and standard deviation 1 over all ranks, then clipped to +-`clip`."""
    a = advantages.double()
    total = ranks.sum(torch.stack([a.sum(), a.square().sum(), a.new_tensor(a.numel())]))
    mean = total[0] / total[2]
    std = (total[1] / total[2] - mean.square()).clamp(min=0).sqrt()
    normal = ((a - mean) / (std + 1e-8)).float()
    return normal if clip is None else normal.clamp(-clip, clip)


def losses(
    logits: Tensor,
    log_ratio: Tensor,
    values: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    config: TrainerConfig,
    entropy_of: Callable[[Tensor], Tensor] = entropy,
) -> Tensor:
    """Sums over samples `[5]`: policy loss, value loss, entropy, approximate KL divergence, number of clipped ratios.

    logits `[B, T, A]`; everything else `[B, T]`. log_ratio is log(new probability / old probability) of the action.

    Policy loss: minus the clipped objective, -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A); Schulman et al. 2017,
    equation 7. Value loss: (V - return)^2 / 2; with `value_clip` the larger one of this and of the same with V at most
    `value_clip` away from the old value (OpenAI baselines, ppo2). KL: ratio - 1 - log ratio, the k3 estimator of
    Schulman 2020, http://joschu.net/blog/kl-approx.html.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).sum()
    error = (values - returns).square()
    if config.value_clip is not None:
        near = old_values + (values - old_values).clamp(-config.value_clip, config.value_clip)
        error = torch.max(error, (near - returns).square())
    with torch.no_grad():
        kl = (ratio - 1 - log_ratio).sum()
        clip_share = ((ratio - 1).abs() > config.clip).float().sum()
    return torch.stack([policy_loss, 0.5 * error.sum(), entropy_of(logits).sum(), kl, clip_share])


def total_loss(sums: Tensor, config: TrainerConfig) -> Tensor:
    """The scalar to minimise, of the sums that `losses` returns: policy loss + c1 value loss - c2 entropy.

    Schulman et al. 2017, equation 9, is its negative, which they maximise: the entropy is a bonus.
    """
    policy_loss, value_loss, entropy_bonus = sums[:3]
    return policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy_bonus


def minibatches(num_agents: int, count: int, generator: torch.Generator, ranks: Ranks) -> Tensor:
    """This rank's agents, divided at random among `count` minibatches: their row numbers `[count, num_agents / count]`.

    Each group of `count` neighbouring agents gives one agent to each minibatch. So every rank holds an equal share of
    each minibatch, and the minibatches of all ranks together do not depend on the number of ranks.
    """
    groups = num_agents // count
    order = torch.rand(groups * ranks.world_size, count, generator=generator).argsort(1)  # [all groups, count]
    mine = order[ranks.rank * groups : (ranks.rank + 1) * groups]
    return (mine + torch.arange(groups)[:, None] * count).T.to(ranks.device)


class Learner:
    """Makes the updates of one policy. It keeps the memory of a minibatch and of its gradients for the next one.

    `cast` gives the precision of the forward pass; losses and backward pass are outside of it. With `config.graph`
    forward and backward pass are one CUDA graph; then the minibatch that `target_kl` stops makes its backward pass too.
    """

    def __init__(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        config: TrainerConfig,
        ranks: Ranks,
        cast: Callable[[], AbstractContextManager],
    ):
        self.policy, self.config, self.ranks, self.cast = policy, config, ranks, cast
        self.gradients = Gradients(policy.parameters(), ranks)
        self.guard = GuardedStep(optimizer, ranks.device, config.grad_norm_growth)
        self._batch: dict[str, Tensor] = {}
        self._sums = self._log_ratio = torch.empty(0)
        self._replayed = Replayed(self._forward_and_backward, ranks.device) if config.graph else None

    def update(
        self, segments: Segments, advantages: Tensor, returns: Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        """All epochs and minibatches over the segments; returns means over minibatches.

        advantages, returns `[N, T]`. Returns METRICS and consistency/max_logprob_gap; with `grad_norm_growth` also
        loss/usual_grad_norm. The gap is the largest |log-probability now - log-probability when acting| in the first
        minibatch, before any gradient step: the difference between acting and learning with the same weights, ideally
        0. The CPU waits for the GPU once, at the end; with `target_kl` once a minibatch. Raises FloatingPointError if a
        gradient is not finite; the weights are then those from before that minibatch.
        """
        config = self.config
        count = segments.rewards.numel() * self.ranks.world_size // config.num_minibatches  # samples of a minibatch
        advantages = normalise(advantages, self.ranks, config.advantage_clip)
        # All epochs are drawn, even if the update ends early: the stream of random numbers stays the same.
        epochs = [
            minibatches(len(advantages), config.num_minibatches, generator, self.ranks)
            for _ in range(config.update_epochs)
        ]
        lines: list[Tensor] = []
        gap = torch.zeros((), device=advantages.device)
        for number, rows in enumerate(torch.cat(epochs)):
            self._gather(rows, segments, advantages, returns)
            self._forward() if self._replayed is None else self._replayed()
            sums = self._sums.detach()
            if number == 0:
                gap = self.ranks.max(self._log_ratio.abs().max())
            if config.target_kl and self.ranks.sum(sums[3].clone()).item() > config.target_kl * count:
                self._sums = sums  # frees what the forward pass kept for the backward pass
                break
            if self._replayed is None:
                self._backward()
            self.gradients.all_reduce()
            norm = self.gradients.norm()
            self.guard.step(norm, config.max_grad_norm)
            lines.append(torch.cat([sums / count, norm[None] / self.ranks.world_size]))
        means = self.ranks.sum(torch.stack(lines)) if lines else torch.zeros(0, len(METRICS), device=gap.device)
        gap_and_usual = torch.stack([gap, self.guard.usual])[:, None].expand(2, len(METRICS))
        *table, (gap_, *_), (usual, *_) = torch.cat([means, gap_and_usual]).tolist()  # one transfer from the GPU
        usual_norm = {"loss/usual_grad_norm": usual} if config.grad_norm_growth else {}
        return _means(table) | usual_norm | {"consistency/max_logprob_gap": gap_}

    def _gather(self, rows: Tensor, segments: Segments, advantages: Tensor, returns: Tensor) -> None:
        """Copy a minibatch into `_batch`, whose memory every minibatch uses again; the state's leaves are `start.*`."""
        fields = ("obs", "resets", "actions", "log_probs", "values")
        sources = {name: getattr(segments, name) for name in fields} | {"advantages": advantages, "returns": returns}
        sources |= {f"start.{name}": leaf for name, leaf in segments.start.items()}
        for name, source in sources.items():
            if name not in self._batch:
                self._batch[name] = source.new_empty(len(rows), *source.shape[1:])
            torch.index_select(source, 0, rows, out=self._batch[name])

    def _forward(self) -> None:
        """Set `_sums` `[5]`, the `losses` of the minibatch, and `_log_ratio` `[B, T]`."""
        batch = self._batch
        start = {name.removeprefix("start."): leaf for name, leaf in batch.items() if name.startswith("start.")}
        with self.cast():
            logits, values, _ = self.policy(batch["obs"], start, batch["resets"])
        actions = self.policy.actions
        log_ratio = actions.log_prob(logits, batch["actions"]) - batch["log_probs"]
        targets = (batch["values"], batch["advantages"], batch["returns"])
        self._sums = losses(logits, log_ratio, values, *targets, self.config, actions.entropy)
        self._log_ratio = log_ratio.detach()

    def _backward(self) -> None:
        """Set this rank's share of the gradients of the mean total loss over the minibatches of all ranks."""
        self.gradients.backward(
            total_loss(self._sums, self.config) / (self._batch["returns"].numel() * self.ranks.world_size)
        )
        self._sums = self._sums.detach()  # frees the autograd graph, which a capture of the next pass must not meet

    def _forward_and_backward(self) -> None:
        self._forward()
        self._backward()


def _means(table: list[list[float]]) -> dict[str, float]:
    """Means of METRICS over minibatches, one line each. Raises FloatingPointError for a gradient norm not finite."""
    for number, line in enumerate(table):
        if not math.isfinite(line[-1]):
            loss = ", ".join(f"{name} {value}" for name, value in zip(METRICS[:3], line[:3], strict=True))
            raise FloatingPointError(f"the gradient norm is {line[-1]} in minibatch {number + 1} ({loss})")
    columns = zip(*table, strict=True) if table else ([0.0] for _ in METRICS)
    return {name: math.fsum(column) / len(column) for name, column in zip(METRICS, columns, strict=True)}


class Gradients:
    """Gradients of `parameters`. With several ranks they lie in one flat buffer, which one reduction adds up."""

    def __init__(self, parameters: Iterable[nn.Parameter], ranks: Ranks):
        self.parameters, self.ranks = list(parameters), ranks
        self._flat, self._views = None, []
        self._mine: list[Tensor] = []
        if ranks.world_size > 1:
            sizes = [p.numel() for p in self.parameters]
            self._flat = torch.zeros(sum(sizes), device=ranks.device)
            pairs = zip(self._flat.split(sizes), self.parameters, strict=True)
            self._views = [part.view_as(p) for part, p in pairs]

    def backward(self, loss: Tensor) -> None:
        """Set this rank's gradients to those of `loss`; a parameter that the loss does not use gets zeros."""
        for p in self.parameters:
            p.grad = None
        loss.backward()
        self._mine = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]

    def all_reduce(self) -> None:
        """Add the gradients up over ranks. (A CUDA graph that replays `backward` writes to the tensors of `_mine`.)"""
        if self._flat is None:
            return
        torch._foreach_copy_(self._views, self._mine)  # type: ignore[attr-defined]
        self.ranks.sum(self._flat)
        for p, view in zip(self.parameters, self._views, strict=True):
            p.grad = view

    def norm(self) -> Tensor:
        """Euclidean norm of all gradients, a scalar."""
        return nn.utils.get_total_norm(self._mine) if self._flat is None else self._flat.norm()


class GuardedStep:
    """Steps of a fused optimiser with clipped gradients; no step from the first norm that is not finite on.

    The gradient norm is clipped at `largest`, and with `growth` also at `growth` times its usual size: the root mean
    square of the (clipped) norms before it. The reason: Adam's second moments average over a thousand steps. After many
    small gradients one large gradient moves each weight by (1 - b1) / sqrt(1 - b2) = 3 times the step size at once, and
    by 30 while the first moments fade. The usual size can still grow by sqrt(1 + (growth^2 - 1) / USUAL_NORM_STEPS) a
    step, a hundredfold within 500 steps with growth 1.5. It counts as at least LEAST_USUAL_NORM of `largest`, so that
    steps without any gradient do not hold back later ones for long.

    Both happen on the device, in the optimiser's own kernel: it divides gradients by `grad_scale` and changes nothing
    if `found_inf` is 1 (torch made this for loss scaling, see torch.amp.GradScaler). The CPU does not wait.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, growth: float | None = None):
        self.optimizer, self.growth = optimizer, growth
        self.stopped = torch.zeros((), device=device)
        """1 after the first norm that was not finite."""
        self.usual = torch.zeros((), device=device)
        """Usual size of the norm; 0 before the first step."""

    def step(self, norm: Tensor, largest: float) -> None:
        """One step with gradients of this `norm` (a scalar), scaled down so that their norm is at most `largest`."""
        torch.maximum(self.stopped, (~norm.isfinite()).float(), out=self.stopped)
        scale = ((norm + 1e-6) / largest).clamp(min=1)
        if self.growth is not None:
            usual = torch.where(self.usual > 0, self.usual, norm).clamp(min=LEAST_USUAL_NORM * largest)
            scale = torch.maximum(scale, norm / (self.growth * usual))
            self.usual = (usual.square() + ((norm / scale).square() - usual.square()) / USUAL_NORM_STEPS).sqrt()
        self.optimizer.grad_scale = scale  # type: ignore[attr-defined]
        self.optimizer.found_inf = self.stopped  # type: ignore[attr-defined]
        self.optimizer.step()
