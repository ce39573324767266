"""CUDA graphs: a step that always runs the same kernels on the same memory is captured once, then replayed."""

import warnings
from collections.abc import Callable, Sequence

import torch

WARM_UP = 3
"""Calls before the capture, which compile kernels, initialise libraries and allocate memory."""


class Replayed:
    """`function()` on a GPU: captured on the call after WARM_UP, and replayed from then on. On a CPU it is just called.

    While another graph is captured, and after a failed capture, it is just called too. A warning and `problem` tell why
    the capture failed.
    """

    def __init__(
        self, function: Callable[[], None], device: torch.device, generators: Sequence[torch.Generator] = ()
    ) -> None:
        """`generators`: the random generators that `function` uses; a replay advances them as a call does."""
        self.problem: str | None = None
        self._function, self._generators = function, generators
        self._on_device = device.type == "cuda"
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self) -> None:
        if not self._on_device or self.problem or torch.cuda.is_current_stream_capturing():
            self._function()
            return
        if self._graph is None and self._calls >= WARM_UP:
            self._capture()
        if self._graph is None:
            self._calls += 1
            self._function()
        else:
            self._graph.replay()

    @property
    def captured(self) -> bool:
        """Whether calls replay the graph."""
        return self._graph is not None

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            for generator in self._generators:
                graph.register_generator_state(generator)
            # thread_local: another thread prepares episodes meanwhile, and its device calls are not captured.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._function()
            self._graph = graph
        except Exception as error:  # a function that cannot be captured can still be called
            self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(f"no CUDA graph, steps are called one by one: {self.problem}", stacklevel=3)
