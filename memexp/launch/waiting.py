"""The runs of local launches that go on: those that wait, and those that were started, so that others can cancel them.

    $MEMEXP_HOME/waiting/*/lock          held by the launch
    $MEMEXP_HOME/waiting/*/waiting/RUN   a run that it will start, with the name of its matrix
    $MEMEXP_HOME/waiting/*/started/RUN   one that it has started

Who removes a file from waiting/ has the run: the launch, to start it, or `memexp cancel`.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from memexp.launch.plan.run_spec import RunSpec
from memexp.runs import home, scribe


def _root() -> Path:
    return home() / "waiting"


class Waiting:
    """The runs of a launch that wait, until it leaves this context."""

    def __init__(self, specs: Sequence[RunSpec]):
        self._specs = specs

    def __enter__(self) -> "Waiting":
        _root().mkdir(parents=True, exist_ok=True)
        for lock in _root().glob("*/lock"):  # of launches that were killed
            if not scribe.is_held(lock):
                shutil.rmtree(lock.parent, ignore_errors=True)
        self._folder = Path(mkdtemp(dir=_root()))
        self._lock = scribe.take(self._folder / "lock")
        for name in ("waiting", "started"):
            (self._folder / name).mkdir()
        for spec in self._specs:
            (self._folder / "waiting" / spec.run).write_text(spec.config.labels.matrix or "", encoding="utf-8")
        return self

    def begin(self, run: str) -> bool:
        """Take a run out of those that wait, to start it; False if it was cancelled."""
        try:
            (self._folder / "waiting" / run).rename(self._folder / "started" / run)
        except FileNotFoundError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        if self._lock:
            self._lock.release()
        shutil.rmtree(self._folder, ignore_errors=True)


def _files(folder: str) -> Iterator[Path]:
    for file in _root().glob(f"*/{folder}/*"):
        if scribe.is_held(file.parents[1] / "lock"):
            yield file


def matrices() -> dict[str, str | None]:
    """Run -> its matrix, for all runs of local launches that go on."""
    found: dict[str, str | None] = {}
    for file in _files("*"):
        with suppress(OSError):  # it has just ended, or moved to started/
            found[file.name] = file.read_text(encoding="utf-8") or None
    return found


def drop(runs: Iterable[str]) -> set[str]:
    """Keep these runs from being started; returns those that waited."""
    names, dropped = set(runs), set[str]()
    for file in _files("waiting"):
        with suppress(FileNotFoundError):  # it starts at this moment
            if file.name in names:
                file.unlink()
                dropped.add(file.name)
    return dropped
