"""The PPO update: minibatches of whole segments, clipped objective, one optimiser step each.

Every sum is divided by the count over all ranks before gradients are added up, so n ranks with N/n agents each make the
update that one rank with N agents makes.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from memexp.graphs import Replayed
from memexp.policy.actions import entropy
from memexp.policy.model import Policy
from memexp.ppo.config import TrainerConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.gradients import Gradients, GuardedStep
from memexp.ppo.rollout import Segments


def minibatches(num_agents: int, count: int, generator: torch.Generator, ranks: Ranks) -> Tensor:
    """This rank's agents in `count` random minibatches `[count, num_agents / count]`.

    Each group of `count` neighbouring agents gives one agent to each minibatch, so that every rank holds an equal share
    of each and the minibatches of all ranks together do not depend on the number of ranks.
    """
    groups = num_agents // count
    order = torch.rand(groups * ranks.world_size, count, generator=generator).argsort(1)  # [all groups, count]
    mine = order[ranks.rank * groups : (ranks.rank + 1) * groups]
    return (mine + torch.arange(groups)[:, None] * count).T.to(ranks.device)


def normalise(advantages: Tensor, ranks: Ranks, clip: float | None = None) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over all ranks, then clipped to +-`clip`."""
    a = advantages.double()
    total = ranks.sum(torch.stack([a.sum(), a.square().sum(), a.new_tensor(a.numel())]))
    mean = total[0] / total[2]
    std = (total[1] / total[2] - mean.square()).clamp(min=0).sqrt()
    normal = ((a - mean) / (std + 1e-8)).float()
    return normal if clip is None else normal.clamp(-clip, clip)


Cast = Callable[[], AbstractContextManager]
METRICS = ("loss/policy", "loss/value", "policy/entropy", "loss/approx_kl", "loss/clipfrac", "loss/grad_norm")


class Learner:
    """Makes the updates of one policy, and holds what they need again: room for a minibatch and for its gradients.

    `cast` gives the precision of the forward pass; the backward pass and the losses are outside of it. With
    `config.graph` both passes are one CUDA graph, and a minibatch that `target_kl` stops has been back as well.
    """

    def __init__(
        self, policy: Policy, optimizer: torch.optim.Optimizer, config: TrainerConfig, ranks: Ranks, cast: Cast
    ):
        self.policy, self.config, self.ranks, self.cast = policy, config, ranks, cast
        self.gradients = Gradients(policy.parameters(), ranks)
        self.guard = GuardedStep(optimizer, ranks.device, config.grad_norm_growth)
        self._batch: dict[str, Tensor] = {}
        self._parts = self._log_ratio = torch.empty(0)
        self._replayed = Replayed(self._both, ranks.device) if config.graph else None

    def update(
        self, segments: Segments, advantages: Tensor, returns: Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        """All epochs and minibatches over the segments; returns METRICS and consistency/max_logprob_gap, and with
        `grad_norm_growth` the usual size of a gradient's norm, loss/usual_grad_norm.

        advantages, returns `[N, T]`. The gap is the largest |log-probability now - log-probability when acting| in the
        first minibatch, before any gradient step: what acting and learning disagree by with the same weights (ideally
        0). The host waits for the device once, at the end; with `target_kl` once a minibatch. Raises FloatingPointError
        where a gradient stopped being finite: the weights are those from before that minibatch.
        """
        config = self.config
        count = segments.rewards.numel() * self.ranks.world_size // config.num_minibatches
        advantages = normalise(advantages, self.ranks, config.advantage_clip)
        lines: list[Tensor] = []
        gap = torch.zeros((), device=advantages.device)
        for number, rows in enumerate(self._plan(len(advantages), generator)):
            self._gather(rows, segments, advantages, returns)
            self._forward() if self._replayed is None else self._replayed()
            parts = self._parts.detach()
            if number == 0:
                gap = self.ranks.max(self._log_ratio.abs().max())
            if config.target_kl and self.ranks.sum(parts[3].clone()).item() > config.target_kl * count:
                self._parts = parts  # what was kept for the backward pass goes
                break
            if self._replayed is None:
                self._backward()
            self.gradients.sum()
            norm = self.gradients.norm()
            self.guard.step(norm, config.max_grad_norm)
            lines.append(torch.cat([parts / count, norm[None] / self.ranks.world_size]))
        sums = self.ranks.sum(torch.stack(lines)) if lines else torch.zeros(0, len(METRICS), device=gap.device)
        two = torch.stack([gap, self.guard.usual])[:, None].expand(2, len(METRICS))
        *table, (gap_, *_), (usual, *_) = torch.cat([sums, two]).tolist()
        usual_norm = {"loss/usual_grad_norm": usual} if config.grad_norm_growth else {}
        return _means(table) | usual_norm | {"consistency/max_logprob_gap": gap_}

    def _plan(self, num_agents: int, generator: torch.Generator) -> Tensor:
        """Agents of every minibatch of every epoch. All are drawn, whether or not the update ends early: the stream of
        random numbers stays the same."""
        count, epochs = self.config.num_minibatches, range(self.config.update_epochs)
        return torch.cat([minibatches(num_agents, count, generator, self.ranks) for _ in epochs])

    def _gather(self, rows: Tensor, segments: Segments, advantages: Tensor, returns: Tensor) -> None:
        """These agents' rows of everything, in memory that every minibatch uses again; memory's leaves are `start.*`"""
        fields = ("obs", "resets", "actions", "log_probs", "values")
        sources = {name: getattr(segments, name) for name in fields} | {"advantages": advantages, "returns": returns}
        sources |= {f"start.{name}": leaf for name, leaf in segments.start.items()}
        for name, source in sources.items():
            if name not in self._batch:
                self._batch[name] = source.new_empty(len(rows), *source.shape[1:])
            torch.index_select(source, 0, rows, out=self._batch[name])

    def _forward(self) -> None:
        """Of the gathered minibatch: sums of `losses` `[5]` and log(new probability / old) of the actions `[B, T]`."""
        batch = self._batch
        start = {name.removeprefix("start."): leaf for name, leaf in batch.items() if name.startswith("start.")}
        with self.cast():
            logits, values, _ = self.policy(batch["obs"], start, batch["resets"])
        actions = self.policy.actions
        log_ratio = actions.log_prob(logits, batch["actions"]) - batch["log_probs"]
        targets = (batch["values"], batch["advantages"], batch["returns"])
        self._parts = losses(logits, log_ratio, values, *targets, self.config, actions.entropy)
        self._log_ratio = log_ratio.detach()

    def _backward(self) -> None:
        """This rank's share of the gradients of the mean loss over the minibatch of all ranks."""
        policy, value, entropy = self._parts[:3]
        loss = policy + self.config.value_coefficient * value - self.config.entropy_coefficient * entropy
        self.gradients.of(loss / (self._batch["returns"].numel() * self.ranks.world_size))
        self._parts = self._parts.detach()  # or the next pass, even one in a capture, would find what is left of this

    def _both(self) -> None:
        self._forward()
        self._backward()


def _means(table: list[list[float]]) -> dict[str, float]:
    """Means over minibatches; raises FloatingPointError naming the first whose gradient norm is not finite."""
    for number, line in enumerate(table):
        if not math.isfinite(line[-1]):
            loss = ", ".join(f"{name} {value}" for name, value in zip(METRICS[:3], line[:3], strict=True))
            raise FloatingPointError(f"the gradient norm is {line[-1]} in minibatch {number + 1} ({loss})")
    columns = zip(*table, strict=True) if table else ([0.0] for _ in METRICS)
    return {name: math.fsum(column) / len(column) for name, column in zip(METRICS, columns, strict=True)}


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
    """Sums over samples of: policy loss, value loss, entropy, approximate KL, clipped share; `[5]`.

    Clipped objective: Schulman et al. 2017 (arXiv:1707.06347), equation 7. KL: the k3 estimator
    (Schulman 2020, http://joschu.net/blog/kl-approx.html). logits `[B, T, A]`, everything else `[B, T]`.
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
