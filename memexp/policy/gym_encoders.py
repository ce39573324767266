"""Encoders for what other people's environments show: numbers of unknown scale, names, maps, images, and all of them.

Each is a module `[..., *shape] -> [..., d_out]` with a method `note(obs, total)`, which takes observations into running
statistics; `total` adds a tensor up over ranks. Statistics change only there, so that between two calls the acting and
the learning pass see the same numbers.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from memexp.spaces import CategoriesSpace, CellsSpace, ImageSpace, Part, StructSpace, VectorSpace

NOTED_AT_ONCE = 1 << 22
"""Numbers of which statistics are taken at a time: in float64, pixels take eight times their room."""

Total = Callable[[Tensor], Tensor]
GeneralSpace = VectorSpace | CategoriesSpace | ImageSpace | CellsSpace | StructSpace


def build_general(space: GeneralSpace, d_hidden: int, d_out: int) -> nn.Module:
    """The encoder for this space."""
    if isinstance(space, VectorSpace):
        return NormalVectorEncoder(space.size, d_hidden, d_out)
    if isinstance(space, CategoriesSpace):
        return CategoriesEncoder(space.counts, d_hidden, d_out)
    if isinstance(space, CellsSpace):
        return CellsEncoder(space, d_out)
    if isinstance(space, ImageSpace):
        return ImageEncoder(space, d_out)
    return StructEncoder(space, d_hidden, d_out)


class RunningNorm(nn.Module):
    """(x - mean) / deviation by all that was noted so far, within +-10; each column by its own."""

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
        scale = (variance + 1e-8).rsqrt().float().clamp(max=1e3)  # what has never changed is 0 until it does
        return ((x.float() - self.mean.float()) * scale).clamp(-10, 10)

    def note(self, x: Tensor, total: Total) -> None:
        """Take in x `[..., size]` of all ranks (Chan et al. 1983, equation 2.1)."""
        x = x.reshape(-1, x.shape[-1])
        portions = x.split(max(1, NOTED_AT_ONCE // x.shape[-1]))
        count = total(self.count.new_tensor(float(len(x))))
        mean = total(sum(part.double().sum(0) for part in portions)) / count  # type: ignore[arg-type]
        squares = total(sum((part.double() - mean).square().sum(0) for part in portions))  # type: ignore[arg-type]
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

    def note(self, obs: Tensor, total: Total) -> None:
        self.norm.note(obs, total)


class CategoriesEncoder(nn.Module):
    """The sum of a learnt vector for each name, then a linear layer."""

    first: Tensor

    def __init__(self, counts: tuple[int, ...], d_hidden: int, d_out: int):
        super().__init__()
        self.vectors = nn.Embedding(sum(counts), d_hidden)
        self.out = nn.Linear(d_hidden, d_out)
        self.register_buffer("first", torch.tensor(counts).cumsum(0) - torch.tensor(counts), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        return self.out(nn.functional.silu(self.vectors(obs.long() + self.first).sum(-2)))

    def note(self, obs: Tensor, total: Total) -> None:
        """Names have no scale."""


class CellsEncoder(nn.Module):
    """The sum of learnt vectors for the names in a cell, then two convolutions over cells and a linear layer.

    The bag of words of BabyAI 1.1 (Hui et al. 2020, arXiv:2007.12770).
    """

    first: Tensor

    def __init__(self, space: CellsSpace, d_out: int, width: int = 32):
        super().__init__()
        height, breadth, channels = space.shape
        self.names = nn.Embedding(256 * channels, width)
        self.register_buffer("first", 256 * torch.arange(channels), persistent=False)
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(width * height * breadth, d_out),
        )  # fmt: skip

    def forward(self, obs: Tensor) -> Tensor:
        cells = self.names(obs.reshape(-1, *obs.shape[-3:]).long() + self.first).sum(-2)  # [N, H, W, width]
        return self.layers(cells.permute(0, 3, 1, 2)).view(*obs.shape[:-3], -1)

    def note(self, obs: Tensor, total: Total) -> None:
        """Names have no scale."""


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

    def _last(self, obs: Tensor) -> Tensor:
        return obs.movedim(-3, -1) if self.channels_first else obs

    def forward(self, obs: Tensor) -> Tensor:
        pixels = self.norm(self._last(obs)).reshape(-1, *self._last(obs).shape[-3:])
        return self.layers(pixels.permute(0, 3, 1, 2)).view(*obs.shape[:-3], -1)

    def note(self, obs: Tensor, total: Total) -> None:
        self.norm.note(self._last(obs), total)


class StructEncoder(nn.Module):
    """Every part by its own encoder, side by side, then a linear layer."""

    def __init__(self, space: StructSpace, d_hidden: int, d_out: int):
        super().__init__()
        self.parts = space.parts
        self.encoders = nn.ModuleList(build_general(part.space, d_hidden, d_hidden) for part in space.parts)
        self.out = nn.Linear(d_hidden * len(space.parts), d_out)

    def forward(self, obs: Tensor) -> Tensor:
        pieces = [encoder(_piece(obs, part)) for encoder, part in zip(self.encoders, self.parts, strict=True)]
        return self.out(nn.functional.silu(torch.cat(pieces, -1)))

    def note(self, obs: Tensor, total: Total) -> None:
        for encoder, part in zip(self.encoders, self.parts, strict=True):
            encoder.note(_piece(obs, part), total)  # type: ignore[operator]


def _piece(obs: Tensor, part: Part) -> Tensor:
    """A part's numbers `[..., *shape]` out of the bytes `[..., num_bytes]`."""
    dtype = getattr(torch, part.dtype)
    size = torch.Size(part.shape).numel() * dtype.itemsize
    own = obs[..., part.offset : part.offset + size].clone(memory_format=torch.contiguous_format)
    return own.view(dtype).view(*obs.shape[:-1], *part.shape)
