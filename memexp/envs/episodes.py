"""`EpisodeLog`: running returns, and the columns of finished episodes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memexp.envs.base import Episodes


class EpisodeLog:
    """Sums the returns `[N]` of environments with one agent and keeps whole finished episodes until they are popped."""

    def __init__(self, num: int, device: torch.device, first_env: int):
        self._world = torch.arange(first_env, first_env + num, device=device)
        self._return = torch.zeros(num, device=device)
        self._length = torch.zeros(num, dtype=torch.int64, device=device)
        self._whole = torch.ones(num, dtype=torch.bool, device=device)
        self._finished: list[dict[str, Tensor]] = []
        self._steps: list[tuple[Tensor, dict[str, Tensor]]] = []  # on a GPU: (which rows finished, columns of all rows)

    def clear(self, running_are_whole: bool = True) -> None:
        """Forget everything. With `running_are_whole=False` the running episodes are never counted."""
        self._return.zero_()
        self._length.zero_()
        self._whole.fill_(running_are_whole)
        self._finished.clear()
        self._steps.clear()

    def add(self, reward: Tensor, done: Tensor, stats: dict[str, Tensor], played: Tensor | int = 1) -> None:
        """Add one step: reward, done `[N]`. `stats`: columns `[N]` of statistics, valid in the rows that are done.

        played `[N]`: 0 where no step was made.
        """
        self._return += reward
        self._length += played
        columns = {"return": self._return, "length": self._length, "world": self._world, **stats}
        over = done & self._whole
        if over.is_cuda:  # `pop` looks for the rows: that waits for the GPU
            self._steps.append((over, {name: column.clone() for name, column in columns.items()}))
        else:
            self._finish(over, columns)
        self._return.masked_fill_(done, 0)
        self._length.masked_fill_(done, 0)
        self._whole |= done

    def pop(self) -> Episodes:
        """Columns of the episodes finished since the last pop; an empty dict if there are none."""
        self._finish_steps()
        finished, self._finished = self._finished, []
        if not finished:
            return {}
        names = dict.fromkeys(name for part in finished for name in part)
        unknown = [torch.full_like(part["return"], torch.nan) for part in finished]
        columns = {
            name: torch.cat([part.get(name, nan) for part, nan in zip(finished, unknown, strict=True)]).cpu().numpy()
            for name in names
        }
        return columns | {"task": np.full(len(columns["return"]), -1)}

    def _finish_steps(self) -> None:
        """Find the finished episodes in the steps kept by a GPU."""
        for over, columns in self._steps:
            self._finish(over, columns)
        self._steps.clear()

    def _finish(self, over: Tensor, columns: dict[str, Tensor]) -> None:
        """Keep the rows where `over` `[N]` is True."""
        rows = over.nonzero().squeeze(1)
        if len(rows):
            self._finished.append({name: column[rows] for name, column in columns.items()})

    def state_dict(self) -> dict[str, Any]:
        self._finish_steps()
        return {
            "return": self._return.clone(),
            "length": self._length.clone(),
            "whole": self._whole.clone(),
            "finished": [dict(part) for part in self._finished],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._return.copy_(state["return"])
        self._length.copy_(state["length"])
        self._whole.copy_(state["whole"])
        self._steps.clear()
        self._finished = [dict(part) for part in state["finished"]]
