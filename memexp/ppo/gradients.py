"""The gradients of all parameters as one: added up over ranks, measured, handed to the optimiser."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from memexp.ppo.distributed import Ranks


class Gradients:
    """Gradients of `parameters`; with several ranks they lie in one flat buffer, which one reduction adds up."""

    def __init__(self, parameters: Iterable[nn.Parameter], ranks: Ranks):
        self.parameters, self.ranks = list(parameters), ranks
        self._flat, self._views = None, []
        self._mine: list[Tensor] = []
        if ranks.world_size > 1:
            sizes = [p.numel() for p in self.parameters]
            self._flat = torch.zeros(sum(sizes), device=ranks.device)
            pairs = zip(self._flat.split(sizes), self.parameters, strict=True)
            self._views = [part.view_as(p) for part, p in pairs]

    def of(self, loss: Tensor) -> None:
        """Those of `loss`, in place of any before. A missing one counts as zero."""
        for p in self.parameters:
            p.grad = None
        loss.backward()
        self._mine = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]

    def sum(self) -> None:
        """Add them up over ranks. A graph that replays `of` writes them to where they were when it was captured."""
        if self._flat is None:
            return
        torch._foreach_copy_(self._views, self._mine)  # type: ignore[attr-defined]
        self.ranks.sum(self._flat)
        for p, view in zip(self.parameters, self._views, strict=True):
            p.grad = view

    def norm(self) -> Tensor:
        """The Euclidean norm of all."""
        return nn.utils.get_total_norm(self._mine) if self._flat is None else self._flat.norm()


MEMORY = 50
"""Steps over which the usual size of a norm is measured."""
LEAST = 1e-3
"""Of the largest norm allowed: the usual size counts as no less."""


class GuardedStep:
    """Steps of a fused optimiser with the gradients' norm clipped, none from the first norm that is not finite on.

    The norm is clipped at `growth` times its usual size as well, the root mean square of those (clipped) before it.
    Adam's second moments follow a thousand steps: after many of small gradients, one that is not moves each weight by
    (1 - b1) / sqrt(1 - b2) = 3 times the step size at once, and by 30 while the first moments fade. The usual size may
    still grow a hundredfold within 500 steps (by sqrt(1 + (growth^2 - 1) / MEMORY) a step, growth 1.5), and counts as
    no less than LEAST of the largest norm allowed, so that steps without any gradient are no lasting brake.

    Both happen on the device, within the optimiser's own pass over the weights: it divides gradients by `grad_scale`
    and leaves everything as it is where `found_inf` is 1 (made for loss scaling, and used by torch's GradScaler). The
    host need not look in between.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, growth: float | None = None):
        self.optimizer, self.growth = optimizer, growth
        self.stopped = torch.zeros((), device=device)
        """1 once a norm was not finite."""
        self.usual = torch.zeros((), device=device)
        """Usual size of a norm; 0 before the first one."""

    def step(self, norm: Tensor, largest: float) -> None:
        """One step with gradients of this norm, scaled down to `largest` where they exceed it."""
        torch.maximum(self.stopped, (~norm.isfinite()).float(), out=self.stopped)
        scale = ((norm + 1e-6) / largest).clamp(min=1)
        if self.growth is not None:
            usual = torch.where(self.usual > 0, self.usual, norm).clamp(min=LEAST * largest)
            scale = torch.maximum(scale, norm / (self.growth * usual))
            self.usual = (usual.square() + ((norm / scale).square() - usual.square()) / MEMORY).sqrt()
        self.optimizer.grad_scale = scale  # type: ignore[attr-defined]
        self.optimizer.found_inf = self.stopped  # type: ignore[attr-defined]
        self.optimizer.step()
