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
    """Sum over tokens of a learnt vector for (feature, category, place) and one scaled by the token's amount.

        z = sum_k  A[f_k, c_k, p_k] + v_k / norm[f_k] * B[f_k, p_k]        y = W silu(LN(z)) + b

    where c_k is the value of a categorical feature (else 0) and v_k that of any other (else 0). One gather-sum for each
    of A and B: the cost is that of the tokens in use, whatever the observation could hold.
    """

    scale: Tensor
    is_amount: Tensor
    last_category: Tensor
    first_row: Tensor
    places: Tensor

    def __init__(self, space: TokenSpace, d_hidden: int, d_out: int):
        super().__init__()
        self.window = space.window
        area, categories = space.window**2, torch.tensor(space.categories).clamp(min=1)
        places = torch.full_like(categories, area)
        places[list(space.unplaced)] = 1
        rows = categories * places
        # Small, so that what is learnt soon outweighs the noise of some ninety tokens, most of them walls.
        self.present = nn.Parameter(0.02 * torch.randn(int(rows.sum()), d_hidden))
        self.scaled = nn.Parameter(0.02 * torch.randn(space.num_features * area, d_hidden))
        self.register_buffer("scale", 1 / torch.tensor(space.normalization), persistent=False)
        self.register_buffer("is_amount", torch.tensor(space.categories) == 0, persistent=False)
        self.register_buffer("last_category", categories - 1, persistent=False)
        self.register_buffer("first_row", rows.cumsum(0) - rows, persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.norm = nn.LayerNorm(d_hidden)
        self.out = nn.Linear(d_hidden, d_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens uint8 `[..., K, 3]` -> `[..., d_out]`."""
        batch = tokens.shape[:-2]
        tokens = tokens.reshape(-1, *tokens.shape[-2:])
        used = tokens[..., 1] != UNUSED  # [N, K]
        location, feature, value = tokens[used].long().unbind(1)  # [number of tokens in use]
        place = location // 16 * self.window + location % 16
        places, category = self.places[feature], value.minimum(self.last_category[feature])
        row = self.first_row[feature] + category * places + place * (places > 1)
        z = _bags(row, self.present, used.sum(1))

        amounts = self.is_amount[feature]  # most tokens are none: walls and other tags
        owner = used.nonzero()[:, 0][amounts]
        feature, place, value = feature[amounts], place[amounts], value[amounts] * self.scale[feature[amounts]]
        z = z + _bags(feature * self.window**2 + place, self.scaled, owner.bincount(minlength=len(used)), value)
        return self.out(nn.functional.silu(self.norm(z))).view(*batch, -1)


def _bags(rows: Tensor, table: Tensor, counts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums `[N, d]` of rows of `table`: the first counts[0] make the first sum, the next counts[1] the second, ..."""
    return embedding_bag(rows, table, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights)
