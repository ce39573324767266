"""Encoders for observations of Gymnasium-like environments: numbers, categories, cell maps, images, texts, dicts.

Each is a module `[..., *shape] -> [..., d_out]`. Those with running statistics have a method
`update_statistics(obs, sum_over_ranks)`. Only this method changes the statistics, so that the acting and the learning
pass see the same numbers.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from memexp.spaces import CategoriesSpace, CellsSpace, ImageSpace, StructSpace, TextSpace, VectorSpace, read_part

MAX_CHUNK = 1 << 22
"""Numbers that the statistics convert to float64 at a time, to save memory: a uint8 pixel grows eightfold."""
MAX_SIDE = 16
"""Most cells a side of a map of names that is not halved first."""

SumOverRanks = Callable[[Tensor], Tensor]
"""Adds up a tensor over all ranks."""
GymSpace = VectorSpace | CategoriesSpace | ImageSpace | CellsSpace | TextSpace | StructSpace


def build_gym_encoder(space: GymSpace, d_hidden: int, d_out: int) -> nn.Module:
    """The encoder for the observations of this space."""
    if isinstance(space, VectorSpace):
        return NormalVectorEncoder(space.size, d_hidden, d_out)
    if isinstance(space, CategoriesSpace):
        return CategoriesEncoder(space.counts, d_hidden, d_out)
    if isinstance(space, CellsSpace):
        return CellsEncoder(space, d_out)
    if isinstance(space, ImageSpace):
        return ImageEncoder(space, d_out)
    if isinstance(space, TextSpace):
        return TextEncoder(space, d_hidden, d_out)
    return StructEncoder(space, d_hidden, d_out)


def update_statistics(encoder: nn.Module, obs: Tensor, sum_over_ranks: SumOverRanks) -> None:
    """Add observations of all ranks to the encoder's running statistics, if it has any."""
    if hasattr(encoder, "update_statistics"):
        encoder.update_statistics(obs, sum_over_ranks)  # type: ignore[operator]


class RunningNorm(nn.Module):
    """(x - mean) / standard deviation of each column over all observations so far, clipped to +-10."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))  # sum of squared deviations

    def forward(self, x: Tensor) -> Tensor:
        variance = torch.where(self.count > 1, self.squares / self.count.clamp(min=1), 1.0)
        scale = (variance + 1e-8).rsqrt().float().clamp(max=1e3)  # a column that never changed gives 0 until it does
        return ((x.float() - self.mean.float()) * scale).clamp(-10, 10)

    def update_statistics(self, x: Tensor, sum_over_ranks: SumOverRanks) -> None:
        """Add x `[..., size]` of all ranks (Chan et al. 1983, equation 2.1)."""
        x = x.reshape(-1, x.shape[-1])
        chunks = x.split(max(1, MAX_CHUNK // x.shape[-1]))
        count = sum_over_ranks(self.count.new_tensor(float(len(x))))
        mean = sum_over_ranks(sum(chunk.double().sum(0) for chunk in chunks)) / count  # type: ignore[arg-type]
        squares = sum_over_ranks(sum((chunk.double() - mean).square().sum(0) for chunk in chunks))  # type: ignore[arg-type]
        both = self.count + count
        self.squares += squares + (mean - self.mean).square() * (self.count * count / both)
        self.mean += (mean - self.mean) * (count / both)
        self.count += count


class NormalVectorEncoder(nn.Module):
    """Running normalisation, then two linear layers."""

    def __init__(self, size: int, d_hidden: int, d_out: int):
        super().__init__()
        self.norm = RunningNorm(size)
        self.layers = nn.Sequential(nn.Linear(size, d_hidden), nn.SiLU(), nn.Linear(d_hidden, d_out))

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(self.norm(obs))

    def update_statistics(self, obs: Tensor, sum_over_ranks: SumOverRanks) -> None:
        self.norm.update_statistics(obs, sum_over_ranks)


class CategoriesEncoder(nn.Module):
    """The sum of a learned vector for each category, then a linear layer."""

    offset: Tensor

    def __init__(self, counts: tuple[int, ...], d_hidden: int, d_out: int):
        super().__init__()
        self.vectors = nn.Embedding(sum(counts), d_hidden)
        self.out = nn.Linear(d_hidden, d_out)
        self.register_buffer("offset", torch.tensor(counts).cumsum(0) - torch.tensor(counts), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        return self.out(nn.functional.silu(self.vectors(obs.long() + self.offset).sum(-2)))


class CellsEncoder(nn.Module):
    """The sum of learned vectors for the categories in a cell, then two convolutions over cells and a linear layer.

    Convolutions before them halve a map until it has at most MAX_SIDE cells a side. A number above 255 counts as 255.
    The bag-of-words encoder of BabyAI 1.1 (Hui et al. 2020, arXiv:2007.12770).
    """

    offset: Tensor

    def __init__(self, space: CellsSpace, d_out: int, width: int = 32):
        super().__init__()
        height, breadth, channels = space.shape
        self.names = nn.Embedding(256 * channels, width)
        self.register_buffer("offset", 256 * torch.arange(channels), persistent=False)
        layers: list[nn.Module] = []
        while max(height, breadth) > MAX_SIDE:
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.SiLU()]
            height, breadth = (height + 1) // 2, (breadth + 1) // 2
        self.layers = nn.Sequential(
            *layers,
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(width * height * breadth, d_out),
        )  # fmt: skip

    def forward(self, obs: Tensor) -> Tensor:
        names = obs.reshape(-1, *obs.shape[-3:]).long()
        if obs.dtype != torch.uint8:
            names = names.clamp(0, 255)
        cells = self.names(names + self.offset).sum(-2)  # [N, H, W, width]
        return self.layers(cells.permute(0, 3, 1, 2)).view(*obs.shape[:-3], -1)


class TextEncoder(nn.Module):
    """Two bags of words, side by side, then a linear layer. In the second bag later words weigh more: it tells order.

    A word's learned vector is the sum of those of its two numbers (Svenstrup et al. 2017, arXiv:1709.03933).
    """

    def __init__(self, space: TextSpace, d_hidden: int, d_out: int):
        super().__init__()
        self.vectors = nn.Embedding(space.numbers + 1, d_hidden, padding_idx=0)
        self.out = nn.Linear(2 * d_hidden, d_out)

    def forward(self, obs: Tensor) -> Tensor:
        """obs int16 `[..., words, 2]` -> `[..., d_out]`."""
        numbers = obs.reshape(-1, *obs.shape[-2:]).long()
        used = (numbers > 0).to(self.vectors.weight.dtype)  # [N, words, 2]
        share = used / used.sum(1, keepdim=True).clamp(min=1)
        place = share.cumsum(1)
        bags = [
            nn.functional.embedding_bag(
                numbers.flatten(1),
                self.vectors.weight,
                mode="sum",
                per_sample_weights=weights.flatten(1),
                padding_idx=0,
            )
            for weights in (share, share * place)
        ]
        return self.out(nn.functional.silu(torch.cat(bags, -1))).view(*obs.shape[:-2], -1)


class ImageEncoder(nn.Module):
    """Running normalisation of channels, convolutions that halve the image until it is small, a linear layer."""

    def __init__(self, space: ImageSpace, d_out: int):
        super().__init__()
        self.channels_first = space.channels_first
        *sides, channels = (*space.shape[1:], space.shape[0]) if space.channels_first else space.shape
        self.norm = RunningNorm(channels)
        layers: list[nn.Module] = []
        width = 16
        while not layers or max(sides) > 8:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.SiLU()]
            sides, channels, width = [(side + 1) // 2 for side in sides], width, min(2 * width, 64)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], d_out))

    def _channels_last(self, obs: Tensor) -> Tensor:
        return obs.movedim(-3, -1) if self.channels_first else obs

    def forward(self, obs: Tensor) -> Tensor:
        pixels = self.norm(self._channels_last(obs))
        pixels = pixels.reshape(-1, *pixels.shape[-3:]).permute(0, 3, 1, 2)
        return self.layers(pixels).view(*obs.shape[:-3], -1)

    def update_statistics(self, obs: Tensor, sum_over_ranks: SumOverRanks) -> None:
        self.norm.update_statistics(self._channels_last(obs), sum_over_ranks)


class StructEncoder(nn.Module):
    """Each part by its own encoder, the results side by side, then a linear layer."""

    def __init__(self, space: StructSpace, d_hidden: int, d_out: int):
        super().__init__()
        self.parts = space.parts
        self.encoders = nn.ModuleList(build_gym_encoder(part.space, d_hidden, d_hidden) for part in space.parts)
        self.out = nn.Linear(d_hidden * len(space.parts), d_out)

    def forward(self, obs: Tensor) -> Tensor:
        encoded = [encoder(read_part(obs, part)) for encoder, part in zip(self.encoders, self.parts, strict=True)]
        return self.out(nn.functional.silu(torch.cat(encoded, -1)))

    def update_statistics(self, obs: Tensor, sum_over_ranks: SumOverRanks) -> None:
        for encoder, part in zip(self.encoders, self.parts, strict=True):
            update_statistics(encoder, read_part(obs, part), sum_over_ranks)
