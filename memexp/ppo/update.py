"""The PPO update: minibatches of whole segments, clipped objective, one optimiser step each.

Every sum is divided by the count over all ranks before gradients are added up, so n ranks with N/n agents each make the
update that one rank with N agents makes.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from memexp.policy.model import Policy
from memexp.ppo.config import TrainerConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.rollout import Segments, log_prob


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


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    segments: Segments,
    advantages: Tensor,
    returns: Tensor,
    config: TrainerConfig,
    generator: torch.Generator,
    ranks: Ranks,
    cast: AbstractContextManager,
) -> dict[str, float]:
    """All epochs and minibatches over the segments; returns loss/*, policy/entropy and consistency/max_logprob_gap.

    advantages, returns `[N, T]`. The gap is the largest |log-probability now - log-probability when acting| in the
    first minibatch, before any gradient step: what acting and learning disagree by with the same weights (ideally 0).
    Raises FloatingPointError when the loss or a gradient stops being finite, before the weights are touched.
    """
    parameters = list(policy.parameters())
    num_agents, horizon = segments.actions.shape
    count = num_agents * horizon * ranks.world_size // config.num_minibatches
    advantages = normalise(advantages, ranks, config.advantage_clip)
    sums: list[Tensor] = []
    gap: Tensor | None = None
    # All minibatches are drawn, whether or not the update ends early: the stream of random numbers stays the same.
    plan = [minibatches(num_agents, config.num_minibatches, generator, ranks) for _ in range(config.update_epochs)]
    for rows in torch.cat(plan):
        start = {name: leaf[rows] for name, leaf in segments.start.items()}
        with cast:
            logits, values, _ = policy(segments.obs[rows], start, segments.resets[rows])
        new, old = log_prob(logits, segments.actions[rows]), segments.log_probs[rows]
        if gap is None:
            gap = ranks.max((new - old).detach().abs().max())
        parts = losses(logits, new - old, values, segments.values[rows], advantages[rows], returns[rows], config)
        if config.target_kl and ranks.sum(parts[3].detach().clone()).item() > config.target_kl * count:
            break
        loss = (parts[0] + config.value_coefficient * parts[1] - config.entropy_coefficient * parts[2]) / count
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        ranks.sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm.item()} (loss {loss.item()})")
        optimizer.step()
        sums.append(torch.cat([parts.detach(), norm[None] * count / ranks.world_size]))
    totals = ranks.sum(torch.stack(sums).sum(0)) / (count * len(sums))
    names = ("loss/policy", "loss/value", "policy/entropy", "loss/approx_kl", "loss/clipfrac", "loss/grad_norm")
    assert gap is not None
    return dict(zip(names, totals.tolist(), strict=True)) | {"consistency/max_logprob_gap": gap.item()}


def losses(
    logits: Tensor,
    log_ratio: Tensor,
    values: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    config: TrainerConfig,
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
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum()
    with torch.no_grad():
        kl = (ratio - 1 - log_ratio).sum()
        clip_share = ((ratio - 1).abs() > config.clip).float().sum()
    return torch.stack([policy_loss, 0.5 * error.sum(), entropy, kl, clip_share])
