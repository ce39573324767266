"""Copies a run's metrics to Weights & Biases, as a logger does (`loggers`)."""

import os
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, cast, get_args

from memexp.config import UsageError, did_you_mean
from memexp.runs.directory import RESTART, Run
from memexp.runs.metrics import STEPS

INFO, PROVENANCE = "memexp", "memexp_provenance"
"""Keys of a W&B config: run.json and a part of provenance.json, so that a report can be made from W&B alone."""
Mode: TypeAlias = Literal["online", "offline", "disabled", "shared"]
_OLD_NAMES = {"run": "online", "dryrun": "offline"}
"""Values of WANDB_MODE that W&B still reads -> their names today."""


def resolve_mode(mode: str) -> Mode:
    """The W&B mode; 'auto' is $WANDB_MODE, else online if an API key is set, else offline (for `wandb sync`).

    Raises UsageError for an unknown mode.
    """
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        mode = _OLD_NAMES.get(mode, mode)
    if mode not in get_args(Mode):
        raise UsageError(f"unknown WANDB_MODE '{mode}'{did_you_mean(mode, get_args(Mode))}")
    return cast(Mode, mode)


class WandbSink:
    """Sends metrics to W&B under the run's own name, so that a resumed run continues there too.

    Offline, every start writes a folder of its own with the whole curve. Online, W&B keeps the rows that it has, and
    gets those that it lacks.
    """

    def __init__(self, run: Run, options: dict[str, Any]):
        self._run, self._options = run, options
        self._mode: Mode = resolve_mode(options["mode"])
        self._wandb: Any = None

    def begin(self, rows: Iterable[dict[str, Any]], start: float) -> None:
        self._wandb = self._init()
        if self._mode != "shared":  # there, W&B cannot know which rows it has
            for row in rows:
                if row[STEPS] >= self._wandb.starting_step:
                    self.log(row)

    def log(self, row: dict[str, Any]) -> None:
        step = None if self._mode == "shared" else row[STEPS]  # W&B counts the steps of a shared run
        self._wandb.log(row, step=step)

    def end(self, code: int) -> None:
        """W&B has no state for a run that goes on later: it would show any other code as a failure."""
        self._wandb.finish(exit_code=0 if code == RESTART else code)

    def _init(self) -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else W&B sends its own errors, offline too
        import wandb

        (self._run.path / "wandb").mkdir(mode=0o700, exist_ok=True)  # it holds the config, too
        return wandb.init(
            project=self._options["project"] or "memexp",
            entity=self._options["entity"],
            id=self._run.name,
            name=self._run.name,
            dir=str(self._run.path),
            config={**self._run.config, INFO: self._run.info.model_dump(), PROVENANCE: self._provenance()},
            mode=self._mode,
            resume="allow" if self._mode in ("online", "shared") else None,
            reinit="finish_previous",
            # W&B's own record of git and of the command line holds what is in them, credentials too.
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True
            ),
        )

    def _provenance(self) -> dict[str, Any]:
        record = self._run.provenance
        return {key: record.get(key) for key in ("commit", "dirty", "host", "platform", "python", "device")}
