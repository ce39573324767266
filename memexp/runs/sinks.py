"""Where a logger puts metrics: a CSV file, TensorBoard or MLflow. W&B is in `wandb_sink`.

Each imports its library only when it begins. Rows are lines of metrics.jsonl.
"""

import csv
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from io import StringIO
from itertools import chain
from typing import Any

from memexp.runs import scribe
from memexp.runs.directory import RESTART, Run, home
from memexp.runs.identity import flat
from memexp.runs.metrics import STEPS, WALL

Row = dict[str, Any]
MOST_AT_ONCE = 1000
"""Numbers that MLflow takes in one call."""
MOST_PARAMS, LONGEST_PARAM = 100, 500
"""Parameters that MLflow takes in one call, and the characters of one."""


def _began(run: Run) -> float:
    """When the run began, in seconds since the epoch. With wall_s it gives a row the same time in every session."""
    return datetime.fromisoformat(run.provenance["time"]).timestamp()


class Csv:
    """metrics.csv in the run directory: a column for each metric, empty where a row lacks it."""

    def __init__(self, run: Run, options: dict[str, Any]):
        self._file = run.path / "metrics.csv"
        self._names: list[str] = []

    def begin(self, rows: Iterable[Row], start: float) -> None:
        rows = list(rows)
        self._names = list(dict.fromkeys(chain([STEPS, WALL], *rows)))
        scribe.replace(self._file, self._text([dict(zip(self._names, self._names, strict=True)), *rows]))

    def log(self, row: Row) -> None:
        if row.keys() <= set(self._names):
            scribe.append(self._file, self._text([row]))
        else:
            with open(self._file, encoding="utf-8", newline="") as file:
                self.begin([*csv.DictReader(file), row], 0)

    def end(self, code: int) -> None:
        """Everything is written."""

    def _text(self, rows: Iterable[Row]) -> bytes:
        text = StringIO()
        csv.DictWriter(text, self._names, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


class TensorBoard:
    """Event files in `tensorboard/` of the run directory. They hold numbers in float32."""

    def __init__(self, run: Run, options: dict[str, Any]):
        self._run, self._folder = run, run.path / "tensorboard"
        self._writer: Any = None

    def begin(self, rows: Iterable[Row], start: float) -> None:
        """Write one new event file with all rows, then remove the earlier ones."""
        self._events: Any = import_module("tensorboard.compat.proto.event_pb2")
        self._summaries: Any = import_module("tensorboard.compat.proto.summary_pb2")
        library: Any = import_module("tensorboard.summary.writer.event_file_writer")
        self._began, earlier = _began(self._run), list(self._folder.glob("events.out.tfevents.*"))
        self._writer = library.EventFileWriter(str(self._folder))
        anew: Any = self._events.SessionLog(status=self._events.SessionLog.START)
        self._writer.add_event(self._events.Event(wall_time=self._began, session_log=anew))  # a viewer forgets the rest
        for row in rows:
            self._add(row)
        self._writer.flush()
        for file in earlier:
            file.unlink()

    def log(self, row: Row) -> None:
        self._add(row)
        self._writer.flush()

    def _add(self, row: Row) -> None:
        values = [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
        summary, at = self._summaries.Summary(value=values), self._began + row.get(WALL, 0.0)
        self._writer.add_event(self._events.Event(wall_time=at, step=int(row[STEPS]), summary=summary))

    def end(self, code: int) -> None:
        self._writer.close()


class Mlflow:
    """A run of MLflow, at MLFLOW_TRACKING_URI or in mlflow.db of $MEMEXP_HOME. Its experiment is the matrix.

    The file mlflow_run in the run directory holds its id. MLflow cannot remove rows: if it has rows that are measured
    anew, the run there is deleted, and another one begins.
    """

    def __init__(self, run: Run, options: dict[str, Any]):
        self._run, self._file = run, run.path / "mlflow_run"

    def begin(self, rows: Iterable[Row], start: float) -> None:
        for name, value in {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        }.items():
            os.environ.setdefault(name, value)
        self._mlflow: Any = import_module("mlflow")
        self._entities: Any = import_module("mlflow.entities")
        given = os.environ.get("MLFLOW_TRACKING_URI")
        self._client: Any = self._mlflow.MlflowClient(given or self._local_store())
        self._began = _began(self._run)
        old = self._known()
        has = old.data.metrics.get(STEPS, -1) if old else -1
        if old and has <= start:
            self._id: str = old.info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id, has = self._create(old.data.tags if old else {}), -1
            if old:
                self._client.delete_run(old.info.run_id)
            scribe.replace(self._file, self._id.encode())
        self._send(row for row in rows if row[STEPS] > has)

    def log(self, row: Row) -> None:
        self._send([row])

    def end(self, code: int) -> None:
        self._client.set_terminated(self._id, {0: "FINISHED", RESTART: "KILLED"}.get(code, "FAILED"))

    def _local_store(self) -> str:
        """Address of mlflow.db. A killed process leaves no half of its tables: they are made in a file that is then
        given this name, unless another run was first."""
        import psutil

        file, part = home() / "mlflow.db", home() / f".mlflow.{os.getpid()}.tmp"
        os.chdir(home())  # MLflow makes a folder for artifacts here
        for left in home().glob(".mlflow.*.tmp*"):
            if not psutil.pid_exists(int(left.name.split(".")[2])):
                left.unlink(missing_ok=True)
        if not file.exists():
            open(part, "w", opener=scribe.private).close()  # it holds the config, too
            self._mlflow.MlflowClient(f"sqlite:///{part}").search_experiments()
            with suppress(FileExistsError):
                os.link(part, file)
            part.unlink()
        return f"sqlite:///{file}"

    def _known(self) -> Any:
        """MLflow's run of this name, if there is one and nobody has deleted it."""
        try:
            found = self._client.get_run(self._file.read_text())
        except FileNotFoundError:
            return None
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # it is of another store
                return None
            raise
        return found if found.info.lifecycle_stage == "active" else None

    def _create(self, tags: dict[str, str]) -> str:
        info, error = self._run.info, self._mlflow.exceptions.MlflowException
        experiment = info.matrix or "memexp"
        with suppress(error):  # it exists, or another run makes it at this moment
            self._client.create_experiment(experiment)
        place = self._client.get_experiment_by_name(experiment).experiment_id
        known = info.model_dump(include=set(TAGS), exclude_none=True)
        about = {f"memexp.{name}": str(value) for name, value in known.items()}
        made = self._client.create_run(place, int(1000 * self._began), {**tags, **about}, self._run.name)
        params = [
            self._entities.Param(name, str(value)[:LONGEST_PARAM]) for name, value in flat(self._run.config).items()
        ]
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(made.info.run_id, params=params[first : first + MOST_PARAMS])
        return made.info.run_id

    def _send(self, rows: Iterable[Row]) -> None:
        """Whole rows together, as many as fit: a row that was sent in part would be doubled later."""
        batch: list[Any] = []
        for metrics in map(self._metrics, rows):
            if batch and len(batch) + len(metrics) > MOST_AT_ONCE:
                self._client.log_batch(self._id, batch)
                batch = []
            batch += metrics
        if batch:
            self._client.log_batch(self._id, batch)

    def _metrics(self, row: Row) -> list[Any]:
        at, step = int(1000 * (self._began + row.get(WALL, 0.0))), int(row[STEPS])
        allowed = ((re.sub(r"[^\w\-. :/]", "_", name), float(value)) for name, value in row.items())
        return [self._entities.Metric(name, value, at, step) for name, value in allowed]


TAGS = ("matrix", "env", "arm", "pattern", "memory", "seed", "recipe")
"""Fields of run.json that MLflow gets as tags."""
