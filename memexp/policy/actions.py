"""Distributions over actions. The actor head's `outputs` `[..., num_outputs]` choose one of a family:

sample(outputs, uniform)    actions `[N, *shape]` for uniform random numbers in [0, 1) `[N, *shape]`: a sample does
                            not depend on which rank or device draws it
mode(outputs)               the most probable actions `[..., *shape]`
log_prob(outputs, actions)  log-probability `[...]`; the log-density if actions are continuous
entropy(outputs)            entropy `[...]`, nats; `max_entropy` is that of the widest initial distribution
"""

import math

import torch
from torch import Tensor, nn

from memexp.spaces import ActionSpace, ContinuousActions, MultiDiscreteActions

STANDARD_NORMAL_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
FORBIDDEN = -1e30
"""Logit of an action that is not allowed. Its probability is 0, whatever the others are."""
INITIAL_LOG_STD = -0.5
"""Actions range from -1 to 1: a standard deviation of 0.6 reaches the whole range but rarely leaves it."""


def build_actions(space: ActionSpace, masked: bool = False) -> "Actions":
    """The family of distributions over the actions of `space`; `masked`: some may be forbidden."""
    if isinstance(space, ContinuousActions):
        return Gaussian(space.size)
    if isinstance(space, MultiDiscreteActions):
        return MaskedMultiCategorical(space.counts) if masked else MultiCategorical(space.counts)
    return MaskedCategorical(space.count) if masked else Categorical(space.count)


def sample(outputs: Tensor, uniform: Tensor) -> Tensor:
    """Actions `[N]` from softmax(outputs `[N, A]`): the inverse of its distribution function at `uniform` `[N]`."""
    cumulative = outputs.softmax(-1).cumsum(-1)
    return (uniform[..., None] >= cumulative).sum(-1).clamp(max=outputs.shape[-1] - 1)


def log_prob(outputs: Tensor, actions: Tensor) -> Tensor:
    """Log-probability of `actions` `[...]` under softmax(outputs `[..., A]`)."""
    return outputs.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def entropy(outputs: Tensor) -> Tensor:
    """Entropy `[...]` of softmax(outputs `[..., A]`), nats."""
    log_p = outputs.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def only_allowed(outputs: Tensor, allowed: Tensor) -> Tensor:
    """Gives actions that are not `allowed` (bool `[..., A]`) probability 0 (Huang & Ontañón 2022, arXiv:2006.14171).

    Where no action is allowed, all are equally probable: the environment does not look at them.
    """
    return outputs.masked_fill(~allowed, FORBIDDEN)


def sample_allowed(outputs: Tensor, uniform: Tensor) -> Tensor:
    """`sample`, which never draws an action of probability 0, however the sums of probabilities are rounded."""
    p = outputs.softmax(-1)
    place = torch.arange(1, outputs.shape[-1] + 1, device=outputs.device)
    ahead = uniform[..., None] < p.cumsum(-1)
    # The first possible action whose sum is larger than the number; if none is, the last possible one.
    return torch.where(p > 0, torch.where(ahead, 2 * len(place) - place, place), 0).argmax(-1)


def entropy_allowed(outputs: Tensor) -> Tensor:
    """`entropy`; 0 where no action is allowed, because nobody chooses there."""
    return torch.where(outputs.amax(-1) > FORBIDDEN, entropy(outputs), 0)


class Categorical:
    """One choice among `count`."""

    sample, log_prob, entropy = staticmethod(sample), staticmethod(log_prob), staticmethod(entropy)

    def __init__(self, count: int):
        self.num_outputs, self.max_entropy = count, math.log(count)

    def mode(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(-1)


class MultiCategorical:
    """Several choices at once, independent of one another given the outputs."""

    one, one_entropy = staticmethod(sample), staticmethod(entropy)  # of one choice

    def __init__(self, counts: tuple[int, ...]):
        self.counts = counts
        self.num_outputs, self.max_entropy = sum(counts), math.log(math.prod(counts))

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        pairs = zip(outputs.split(self.counts, -1), uniform.unbind(-1), strict=True)
        return torch.stack([self.one(logits, numbers) for logits, numbers in pairs], -1)

    def mode(self, outputs: Tensor) -> Tensor:
        return torch.stack([logits.argmax(-1) for logits in outputs.split(self.counts, -1)], -1)

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        pairs = zip(outputs.split(self.counts, -1), actions.unbind(-1), strict=True)
        return torch.stack([log_prob(logits, chosen) for logits, chosen in pairs]).sum(0)

    def entropy(self, outputs: Tensor) -> Tensor:
        return torch.stack([self.one_entropy(logits) for logits in outputs.split(self.counts, -1)]).sum(0)


class MaskedCategorical(Categorical):
    """One choice among `count`, some of which may be forbidden."""

    sample, entropy = staticmethod(sample_allowed), staticmethod(entropy_allowed)


class MaskedMultiCategorical(MultiCategorical):
    """Several choices at once, in each of which some may be forbidden."""

    one, one_entropy = staticmethod(sample_allowed), staticmethod(entropy_allowed)


class Gaussian:
    """Independent normal distributions; outputs are the means, then the logarithms of the standard deviations."""

    def __init__(self, size: int):
        self.num_outputs = 2 * size
        self.max_entropy = size * (STANDARD_NORMAL_ENTROPY + INITIAL_LOG_STD)

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        mean, log_std = outputs.chunk(2, -1)
        inside = uniform.clamp(2**-24, 1 - 2**-24)  # 0 and 1 would give infinity
        return mean + log_std.exp() * torch.special.ndtri(inside)

    def mode(self, outputs: Tensor) -> Tensor:
        return outputs.chunk(2, -1)[0]

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        mean, log_std = outputs.chunk(2, -1)
        z = (actions - mean) * (-log_std).exp()
        return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        return (outputs.chunk(2, -1)[1] + STANDARD_NORMAL_ENTROPY).sum(-1)


Actions = Categorical | MultiCategorical | Gaussian


class AppendLogStd(nn.Module):
    """Appends learned log standard deviations, the same for every observation, to the means `[..., size]`."""

    def __init__(self, size: int):
        super().__init__()
        self.log_std = nn.Parameter(torch.full((size,), INITIAL_LOG_STD))

    def forward(self, mean: Tensor) -> Tensor:
        return torch.cat([mean, self.log_std.clamp(-5, 1).expand_as(mean)], -1)
