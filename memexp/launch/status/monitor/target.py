"""The runs that `memexp monitor TARGET` shows: one run, a matrix by its name or its file, or a folder of runs."""

from collections.abc import Iterable
from pathlib import Path

from memexp.config import UsageError, did_you_mean
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import load_matrix
from memexp.launch.status.monitor.look import Look, Place, Watch
from memexp.launch.status.status import matrix_of
from memexp.runs import Run, find_runs, runs_dir


class Target:
    """What was asked for. `looks` shows it as it is now, with the runs that began since the last look."""

    def __init__(self, word: str):
        """Raises UsageError for a word that stands for nothing, with the nearest that does."""
        self.word, self.matrix = word, word
        self._cells: list[Place] = []
        self._watches: dict[str, Watch] = {}
        self._matrices: dict[str, str | None] = {}
        self._folder = Path(word) if Path(word).is_dir() and not _begun(word) else None
        if word.endswith((".yaml", ".yml")):
            matrix = load_matrix(word)
            self.matrix = matrix.name
            self._cells = [
                Place(Run.named(cell.run), cell.env, cell.config.arm, cell.config.seed, cell.agent_steps)
                for cell in expand(matrix, word)
            ]
        self.single = not self._cells and self._folder is None and _begun(word)
        """Whether it is one run rather than a number of them."""
        if not self.places():
            self._refuse()

    def places(self) -> list[Place]:
        """The runs that there are now, in the order of the matrix file, else by name."""
        if self.single:
            return [Place(Run.named(self.word))]
        found = find_runs(self._folder)
        if self._folder is None:
            found = [run for run in found if self._matrix_of(run) == self.matrix]
        planned = {place.run.name for place in self._cells}
        return self._cells + [Place(run) for run in found if run.name not in planned]

    def looks(self) -> Iterable[Look]:
        """A look at each of them."""
        for place in self.places():
            name = place.run.name
            if name not in self._watches:
                self._watches[name] = Watch(place)
            yield self._watches[name].look()

    def _matrix_of(self, run: Run) -> str | None:
        if run.name not in self._matrices:
            self._matrices[run.name] = matrix_of(run)
        return self._matrices[run.name]

    def _refuse(self) -> None:
        if self._folder is not None:
            raise UsageError(f"there are no runs in {self.word}")
        names = [name for run, matrix in self._matrices.items() for name in (run, matrix) if name]
        where = "" if names else f": there are no runs in {runs_dir()}"
        raise UsageError(f"no run and no matrix is called '{self.word}'{where}{did_you_mean(self.word, names)}")


def _begun(name: str) -> bool:
    """Whether a run of this name has a directory: it may still be measuring the levels that run.json tells."""
    folder = runs_dir() / name
    return name == Path(name).name and any((folder / file).exists() for file in ("run.json", "config.yaml", "lock"))
