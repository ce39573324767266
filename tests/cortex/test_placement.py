"""What a kernel computes does not depend on where its arrays lie: compiled loops choose their way by the distance
between them, and a resumed run has another memory than the run that was stopped."""

import pytest
import torch

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
