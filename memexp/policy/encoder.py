"""Observation encoders: each step's observation becomes one vector `[..., d_out]`."""

import torch
from torch import Tensor, nn

from memexp.cortex.kernels.linear import Linear
from memexp.policy.gym_encoders import build_gym_encoder
from memexp.policy.token_embedding_bag import TokenTable, token_embedding_bag
from memexp.spaces import ObservationSpace, TokenSpace, VectorSpace


def build_encoder(observation: ObservationSpace, d_hidden: int, d_out: int) -> nn.Module:
    """The encoder for the observations of this space."""
    if isinstance(observation, TokenSpace):
        return TokenEncoder(observation, d_hidden, d_out)
    if isinstance(observation, VectorSpace) and not observation.normalise:
        return VectorEncoder(observation.size, d_hidden, d_out)
    return build_gym_encoder(observation, d_hidden, d_out)


class VectorEncoder(nn.Sequential):
    """Two linear layers on float observations `[..., size]`."""

    def __init__(self, size: int, d_hidden: int, d_out: int):
        super().__init__(nn.Linear(size, d_hidden), nn.SiLU(), nn.Linear(d_hidden, d_out))


class TokenEncoder(nn.Module):
    """Sums two learned vectors per token: one for (feature, category, place), one scaled by the token's amount.

        z = sum_k  A[f_k, c_k, p_k] + v_k / norm[f_k] * B[f_k, p_k]        y = W silu(LN(z)) + b

    c_k is the value of a categorical feature (else 0), v_k the value of any other feature (else 0). The cost grows with
    the number of tokens in use, not with the size of the tables A and B.
    """

    features: Tensor
    scale: Tensor

    def __init__(self, space: TokenSpace, d_hidden: int, d_out: int):
        super().__init__()
        area, categories = space.window**2, torch.tensor(space.categories)
        placed = torch.ones_like(categories)
        placed[list(space.unplaced)] = 0
        values = categories.clamp(min=1)
        rows = values * torch.where(placed > 0, area, 1)
        # Small, so that learned vectors soon outweigh the noise of some ninety tokens, most of them walls.
        self.present = nn.Parameter(0.02 * torch.randn(int(rows.sum()), d_hidden))
        self.scaled = nn.Parameter(0.02 * torch.randn(space.num_features * area, d_hidden))
        columns = (rows.cumsum(0) - rows, values - 1, placed, (categories == 0).long())
        window = torch.tensor([[space.window, 0, 0, 0]])
        self.register_buffer("features", torch.cat([torch.stack(columns, dim=1), window]), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(space.normalization), persistent=False)
        self.norm = nn.LayerNorm(d_hidden)
        self.out = Linear(d_hidden, d_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens uint8 `[..., K, 3]` -> `[..., d_out]`."""
        rows = tokens.reshape(-1, *tokens.shape[-2:])
        z = token_embedding_bag(rows, self.present, self.scaled, TokenTable(self.features, self.scale))
        return self.out(nn.functional.silu(self.norm(z))).view(*tokens.shape[:-2], -1)
