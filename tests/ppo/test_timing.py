"""Where an update's time goes, and how busy the GPU is."""

import torch

from memexp.ppo.timing import gpu_use


class DriverError(Exception):
    """As the driver's library has them: of no class that others know."""


def test_a_driver_that_cannot_tell_how_busy_the_gpu_is_stops_no_run(monkeypatch):
    def refuse(device):
        raise DriverError("Not Supported")

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2e9)
    assert gpu_use(torch.device("cuda")) == {"gpu/memory_gb": 2.0}
    assert gpu_use(torch.device("cpu")) == {}
