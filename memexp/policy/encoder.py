"""Observation encoders: what a world shows becomes one vector `[..., d_out]` a step."""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from memexp.spaces import ObservationSpace, TokenSpace, VectorSpace

UNUSED = 255
"""Feature id of an unused token."""


def build_encoder(observation: ObservationSpace, d_hidden: int, d_out: int) -> nn.Module:
    """The encoder for this kind of observation."""
    if isinstance(observation, VectorSpace):
        return VectorEncoder(observation.size, d_hidden, d_out)
    return TokenEncoder(observation, d_hidden, d_out)


class VectorEncoder(nn.Sequential):
    """Two linear layers on float observations `[..., size]`."""

    def __init__(self, size: int, d_hidden: int, d_out: int):
        super().__init__(nn.Linear(size, d_hidden), nn.SiLU(), nn.Linear(d_hidden, d_out))


class TokenEncoder(nn.Module):
    """Sum over tokens of a learnt vector for (feature, place) and one scaled by the token's normalised value.

        z = sum_k  A[f_k, p_k] + v_k / norm[f_k] * B[f_k, p_k]        y = W silu(LN(z)) + b

    One gather-sum for each of A and B: the cost is that of the tokens in use, whatever the observation could hold.
    """

    scale: Tensor

    def __init__(self, space: TokenSpace, d_hidden: int, d_out: int):
        super().__init__()
        self.window = space.window
        rows = space.num_features * space.window**2
        # Small, so that what is learnt soon outweighs the noise of some ninety tokens, most of them walls.
        self.present = nn.Parameter(0.02 * torch.randn(rows, d_hidden))
        self.scaled = nn.Parameter(0.02 * torch.randn(rows, d_hidden))
        self.register_buffer("scale", 1 / torch.tensor(space.normalization), persistent=False)
        self.norm = nn.LayerNorm(d_hidden)
        self.out = nn.Linear(d_hidden, d_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens uint8 `[..., K, 3]` -> `[..., d_out]`."""
        batch = tokens.shape[:-2]
        tokens = tokens.reshape(-1, *tokens.shape[-2:])
        used = tokens[..., 1] != UNUSED  # [N, K]
        counts = used.sum(1)
        location, feature, value = tokens[used].long().unbind(1)  # [number of tokens in use]
        row = (feature * self.window + location // 16) * self.window + location % 16
        first = counts.cumsum(0) - counts
        z = embedding_bag(row, self.present, first, mode="sum")
        z = z + embedding_bag(row, self.scaled, first, mode="sum", per_sample_weights=value * self.scale[feature])
        return self.out(nn.functional.silu(self.norm(z))).view(*batch, -1)
