"""What a kernel computes does not depend on where its arrays lie: compiled loops choose their way by the distance
between them, and a resumed run has another memory than the run that was stopped."""

import importlib
import pkgutil

import numpy as np
import pytest
import torch

from memexp.cortex import build_stack, kernels
from memexp.cortex.kernels.cpu import constants, over_rows
from memexp.cortex.kernels.norm.cpu import _norm


@pytest.mark.parametrize("width", [16, 64, 128])
@pytest.mark.parametrize("centred", [True, False])
def test_a_norm_is_the_same_wherever_its_weight_lies(width, centred):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(24, 1, width, generator=generator), torch.randn(1, width, generator=generator)
    found = set()
    for distance in range(0, 1024, 16):
        room = torch.zeros(width + distance + x.numel())
        beside, y = room[:width].view(1, width), room[width + distance :].view(x.shape)
        beside.copy_(weight)
        over_rows(_norm, len(x), x, beside, constants(torch.float32, 1e-5, centred), y)
        found.add(y.numpy().tobytes())
    assert len(found) == 1


def elsewhere(arrays, rng):
    """The same arrays one after the other in one piece of memory, in any order, with any gaps of up to 2 kB."""
    memories = {a.untyped_storage().data_ptr(): a.untyped_storage() for a in arrays}
    sizes = {start: -(-memory.nbytes() // 16) * 16 for start, memory in memories.items()}
    gaps = rng.integers(0, rng.choice([2, 16, 128]), len(sizes)) * 16
    room = torch.zeros(sum(sizes.values()) + int(gaps.sum()) + 64, dtype=torch.uint8)
    at, places = -room.data_ptr() % 64, {}
    for number in rng.permutation(len(sizes)):
        start = list(sizes)[number]
        places[start] = at
        room[at : at + memories[start].nbytes()] = torch.empty(0, dtype=torch.uint8).set_(memories[start])
        at += sizes[start] + int(gaps[number])
    moved = []
    for a in arrays:
        offset = places[a.untyped_storage().data_ptr()] // a.element_size() + a.storage_offset()
        moved.append(torch.empty(0, dtype=a.dtype).set_(room.untyped_storage(), offset, a.shape, a.stride()))
    return moved


@pytest.fixture
def wherever(monkeypatch):
    """Has every kernel compute the same in forty places besides; a list of those that did not always agree, and a set
    of all."""
    rng, differing, seen = np.random.default_rng(0), [], set()

    def in_many_places(run, rows, *arrays):
        arrays, found = [a.detach() for a in arrays], set()
        for _ in range(40):
            moved = elsewhere(arrays, rng)
            over_rows(run, rows, *moved)
            found.add(b"".join(a.numpy().tobytes() for a in moved))
        seen.add(run.__name__)
        differing.extend([run.__name__] * (len(found) > 1))
        over_rows(run, rows, *arrays)

    for found in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."):
        if found.name.rpartition(".")[2] in ("cpu", "product"):
            module = importlib.import_module(found.name)
            if module.__name__ != over_rows.__module__:
                monkeypatch.setattr(module, "over_rows", in_many_places)
    return differing, seen


@pytest.mark.parametrize("width", [16, 24, 64])
@pytest.mark.parametrize("pattern", ["X", "S", "L", "C", "A", "Ag", "M", "AgSA"])
def test_every_kernel_of_a_stack_is_the_same_wherever_its_arrays_lie(wherever, pattern, width):
    torch.manual_seed(0)
    stack = build_stack(pattern, width, 1, mem_len=4, n_heads=2)
    x, resets = torch.randn(3, 6, width, requires_grad=True), torch.zeros(3, 6, dtype=torch.bool)
    resets[:, 2] = True
    y, state = stack(x, stack.init_state(3), resets)
    y.square().sum().backward()
    with torch.no_grad():
        stack(x[:, 0].detach(), state, resets[:, 0])
    differing, seen = wherever
    assert len(seen) >= 1
    assert not differing
