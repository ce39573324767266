"""Copies a run's metrics to Weights & Biases. The run directory remains the record that counts."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeAlias, cast, get_args

from memexp.config import UsageError, did_you_mean
from memexp.console import say
from memexp.credentials import mask_data
from memexp.runs.directory import Run

INFO, PROVENANCE = "memexp", "memexp_provenance"
"""Keys of a W&B config: run.json and a part of provenance.json, so that a report can be made from W&B alone."""
Mode: TypeAlias = Literal["online", "offline", "disabled", "shared"]
_OLD_NAMES = {"run": "online", "dryrun": "offline"}
"""Values of WANDB_MODE that W&B still reads -> their names today."""
FINISH_S = 30.0
"""Seconds that W&B may take at the end of a run. Then its process is killed; what it wrote can still be synced."""


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


def _kill_service() -> None:
    """Kill W&B's own process: whatever waits for it, also at the end of this process, goes on."""
    import psutil

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "wandb" in child.name():
                child.kill()


class WandbSink:
    """Sends metrics to W&B under the run's own name, so that a resumed run continues there too.

    If W&B fails (no network, a wrong key), the run continues without it.
    """

    def __init__(self, run: Run, config: dict[str, Any], options: dict[str, Any]):
        self._run, self._config, self._options = run, config, options
        self._mode: Mode = resolve_mode(options["mode"])
        self._wandb: Any = None
        self.exit_code = 0
        """W&B shows the run as failed unless this is 0."""

    def __enter__(self) -> "WandbSink":
        if self._mode != "disabled":
            self._wandb = self._try(self._init)
        return self

    def log(self, metrics: dict[str, Any]) -> None:
        if self._wandb is not None:
            step = None if self._mode == "shared" else metrics["agent_steps"]  # W&B counts the steps of a shared run
            self._try(lambda: self._wandb.log(metrics, step=step))

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if self._wandb is not None:
            ending = threading.Thread(target=self._end, args=(self.exit_code if kind is None else 1,), daemon=True)
            ending.start()
            ending.join(FINISH_S)
            if ending.is_alive():
                say(f"going on without W&B: it has not ended within {FINISH_S:.0f} s", error=True)
                _kill_service()
                ending.join(FINISH_S)

    def _end(self, code: int) -> None:
        """End the run at W&B, and W&B's own process: else this process would wait for it at its end."""
        import wandb

        run = self._wandb
        self._try(lambda: run.finish(exit_code=code))
        with suppress(Exception):
            wandb.teardown(code)

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
            config={**mask_data(self._config), INFO: self._run.info.model_dump(), PROVENANCE: self._provenance()},
            mode=self._mode,
            resume="allow" if self._mode in ("online", "shared") else None,
            # W&B's own record of git and of the command line holds what is in them, credentials too.
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True
            ),
        )

    def _provenance(self) -> dict[str, Any]:
        record = self._run.provenance
        return {key: record.get(key) for key in ("commit", "dirty", "host", "platform", "python", "device")}

    def _try(self, call: Callable[[], Any]) -> Any:
        """What `call` returns. If it fails, print why, and do not use W&B any more."""
        try:
            return call()
        except Exception as error:
            say(f"going on without W&B: {type(error).__name__}: {' '.join(str(error).split())}", error=True)
            self._wandb = None
