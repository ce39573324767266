"""What a run shows while it trains: a live bar on a terminal, a line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from memexp.config import count_name
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks

EVERY_S = 10.0
"""Seconds between two lines where there is no terminal."""
FIRST_S = 2.0
"""Seconds until the first line about what is counted."""


def counting(say: Callable[[str], None], what: str, total: int, unit: str) -> Callable[[float], None]:
    """A function to call with how many of `total` are done: now and then it says so, with rate and time left."""
    began = said = time.monotonic()

    def tell(done: float) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= (FIRST_S if said == began else EVERY_S):
            said, rate = now, done / (now - began)
            left = f", {(total - done) / rate:,.0f} s left" if rate else ""
            say(f"{what}: {done:,.0f} of {total} {unit}, {rate:.3g} a second{left}")

    return tell


class Progress:
    """Shows agent steps, rate, return and time left. Enter it around the training loop.

    Of several ranks the first shows; the others only say what has gone wrong.
    """

    def __init__(self, config: TrainConfig, ranks: Ranks):
        self._run, self._total = config.run, config.trainer.total_timesteps
        self._console = Console(file=sys.stdout, soft_wrap=True)
        self._prefix = "" if ranks.is_first else f"rank {ranks.rank}: "
        self._last = 0.0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (self._console.is_terminal and ranks.is_first),
        )
        self._task = self._bar.add_task(str(self._run), total=self._total, numbers="")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(self._prefix + text, highlight=False, markup=False)

    def show(self, metrics: dict[str, Any]) -> None:
        """Bring the display up to date with an update's metrics."""
        steps, rate = metrics["agent_steps"], metrics["sps"]
        score = f"return {metrics['episode/return']:.3f}" if "episode/return" in metrics else "no episode ended"
        numbers = f"{steps:,}/{count_name(self._total)} steps, {rate:,.0f} steps/s, {score}"
        if self._console.is_terminal:
            self._bar.update(self._task, completed=steps, numbers=numbers)
        elif time.monotonic() - self._last >= EVERY_S or steps >= self._total:
            self._last = time.monotonic()
            left = max(0, self._total - steps) / max(rate, 1e-9)
            self.say(f"{self._run}: {numbers}, {left:,.0f} s left")
