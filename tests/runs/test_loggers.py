"""Loggers: each has the curve of metrics.jsonl, whatever happened to the run, and none decides how a run goes."""

import csv
import json
import os
import signal
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.synthetic_runs import write_run
from helpers.training import NEVER_URGENT, output_of, start_process, tiny, wait_for

from memexp.config import UsageError
from memexp.ppo.config import Logger, TrainConfig
from memexp.ppo.train import train
from memexp.ppo.trainer import Trainer
from memexp.recipes import controls
from memexp.runs import Run, loggers, wandb_sink
from memexp.runs.loggers import LOGGERS, Follower, follow
from memexp.runs.metrics import STEPS

NAMES = tuple(LOGGERS)
INSTALLED = [name for name in NAMES if not LOGGERS[name].library or loggers.is_installed(LOGGERS[name].library)]
UPDATES, SAVED, HELD = 40, 20, 24
HOLD = f"""
import os, time
from memexp.ppo.session import Session
from memexp.ppo.trainer import Trainer
step, save = Trainer.train_step, Session.save
def held(self):
    while self.updates == {HELD} and not os.path.exists("go"):
        time.sleep(0.1)
    return step(self)
Trainer.train_step = held
Session.save = lambda self: save(self) if self.trainer.updates in ({SAVED}, {HELD + 1}) else None
"""
"""The first checkpoint follows update SAVED. The run waits after update HELD for the file "go"."""
PATIENT = "from memexp.runs import loggers; loggers.FINISH_S = loggers.LONGEST_FINISH_S = float('inf')"


def tell_missing() -> None:
    if missing := set(NAMES) - set(INSTALLED):
        pytest.skip(f"NOT TESTED: {', '.join(sorted(missing))}, because the libraries are not installed here")


def rows_of_csv(run: Run):
    with open(run.path / "metrics.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def rows_of_tensorboard(run: Run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (_,) = (run.path / "tensorboard").iterdir()  # one file
    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return by_step((tag, one.step, one.value) for tag in events.Tags()["scalars"] for one in events.Scalars(tag))


def rows_of_mlflow(run: Run):
    from mlflow import MlflowClient

    file = Path(os.environ["MEMEXP_HOME"]) / "mlflow.db"
    file.stat()  # else MLflow would make it
    client = MlflowClient(f"sqlite:///{file}")
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert found.info.run_name == run.name
    assert found.info.status == ("FINISHED" if run.exit else "RUNNING")
    assert found.data.params["trainer.gamma"] == str(run.config["trainer"]["gamma"])
    history = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    return by_step((name, one.step, one.value) for name, points in history.items() for one in points)


def rows_of_wandb(run: Run):
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    newest = sorted(run.path.glob("wandb/offline-run-*/run-*.wandb"))[-1]
    store, rows = DataStore(), []
    store.open_for_scan(str(newest))
    while (data := store.scan_data()) is not None:
        record = Record.FromString(data)
        if record.HasField("history"):
            items = {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
            assert items["_step"] == items[STEPS]
            rows.append({name: value for name, value in items.items() if not name.startswith("_")})
    return rows


def by_step(points):
    """Rows of (name, step, value); fails if there are two values for one name and step."""
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for name, step, value in points:
        assert name not in rows[step], f"{name} stands twice at step {step}"
        rows[step][name] = value
    return [rows[step] for step in sorted(rows)]


READ = {"wandb": rows_of_wandb, "tensorboard": rows_of_tensorboard, "csv": rows_of_csv, "mlflow": rows_of_mlflow}


def check_same(run: Run, name: str) -> None:
    """The logger has the numbers of metrics.jsonl, all of them and no others."""
    expected, found = run.metrics(), READ[name](run)
    if name == "tensorboard":
        expected = [{key: float(np.float32(value)) for key, value in row.items()} for row in expected]
    assert [row[STEPS] for row in found] == [row[STEPS] for row in expected]
    assert found == expected


def test_every_logger_of_a_config_is_known():
    assert set(Logger.__args__) == set(NAMES) == set(READ)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_an_interrupted_run_has_one_unbroken_curve(number, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    sizes = {"trainer__total_timesteps": 128 * UPDATES, "trainer__checkpoint_minutes": 0, **NEVER_URGENT}
    config = tiny(run="curve", loggers=INSTALLED, wandb__mode="auto", **sizes)
    run = Run.named("curve")

    def are_ahead() -> bool:
        """There is a checkpoint, and every logger has all rows after it."""
        with suppress(OSError, ValueError, LookupError):  # not begun yet, or a row is half written
            saved = any(run.checkpoints.glob("*/manifest.json"))
            return saved and all(READ[name](run)[-1][STEPS] == 128 * HELD for name in INSTALLED if name != "wandb")
        return False

    first = start_process(config, before=HOLD + PATIENT)
    wait_for(are_ahead, first)
    first.send_signal(number)
    Path("go").touch()
    output_of(first)
    assert len(run.metrics()) == HELD + (number == signal.SIGTERM)
    output = output_of(start_process(config, before=PATIENT))
    assert run.exit
    assert run.exit.status == "completed", output
    assert "going on without" not in output
    assert len(run.metrics()) == UPDATES
    for name in INSTALLED:
        check_same(run, name)
    tell_missing()


def said_by(output: str) -> dict[str, int]:
    """How often a run says of each logger that it goes on without."""
    return {name: output.count(f"going on without {LOGGERS[name].title}: ") for name in NAMES}


@pytest.mark.slow
def test_a_run_goes_on_without_loggers_that_fail(monkeypatch):
    """Something else stands where each wants to write."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = Run.named("alone")
    run.path.mkdir(parents=True)
    for place in ("wandb", "tensorboard", "../../mlflow.db"):
        (run.path / place).write_text("mine")
    (run.path / "metrics.csv").mkdir()
    config = tiny(run="alone", loggers=INSTALLED, wandb__mode="auto")
    output = output_of(start_process(config, before=PATIENT))
    assert run.exit
    assert run.exit.status == "completed", output
    assert len(run.metrics()) == 6
    assert said_by(output) == {name: int(name in INSTALLED) for name in NAMES}
    tell_missing()


def failing(then: str) -> tuple[str, ...]:
    """The command of a logger that fails, and at the end of the run does something worse."""
    program = f"""
import os, time
from memexp.runs import loggers
from memexp.runs.sinks import Csv
Csv.begin = lambda *given: 1 / 0
loggers.Follower.end = lambda *given: {then}
loggers.main()
"""
    return sys.executable, "-c", program


@pytest.mark.parametrize("then", ["time.sleep(1000)", "os._exit(3)"])
def test_a_logger_that_fails_and_then_hangs_or_ends_is_reported_once(then, recorded, monkeypatch, capfd):
    monkeypatch.setattr(loggers, "COMMAND", failing(then))
    said = ""

    def has_said() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "\n" in said

    with loggers.Loggers(recorded, ["csv"], {}, 0) as begun:
        wait_for(has_said, begun._feeds[0].process)
        if "sleep" in then:
            monkeypatch.setattr(loggers, "FINISH_S", 0.1)
    said += capfd.readouterr().err
    assert said == "going on without CSV: ZeroDivisionError: division by zero\n"


@pytest.mark.parametrize(("status", "said"), [("completed", 0), ("preempted", 1)])
def test_a_logger_of_a_completed_run_has_time_while_it_works(status, said, recorded, monkeypatch, capfd):
    """A stopped run begins again, and then its loggers get what they lack."""
    go, looks = recorded.path / "go", iter("123")
    program = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
    monkeypatch.setattr(loggers, "COMMAND", (sys.executable, "-c", program))
    monkeypatch.setattr(loggers, "FINISH_S", 0.1)
    monkeypatch.setattr(loggers.Activity, "idle_s", lambda self: 0.0 if next(looks, None) else go.touch() or 0.0)
    with loggers.Loggers(recorded, ["csv"], {}, 0) as begun:
        begun.status = status
    assert capfd.readouterr().err.count("going on without CSV: it does not end") == said


def test_a_credential_in_the_error_of_a_logger_is_masked(monkeypatch, capsys):
    follower = Follower(Run.named("x"), "csv", {}, 0)
    follower._fail(OSError("no answer from https://me:pa55word@server/"))
    assert "pa55word" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in NAMES if LOGGERS[name].library])
def test_a_logger_without_its_library_is_refused_before_the_run_begins(name, monkeypatch, home, tmp_path):
    real = loggers.find_spec
    monkeypatch.setattr(loggers, "find_spec", lambda module: real("no_such_module_anywhere"))
    with pytest.raises(UsageError, match=rf"loggers: {name} needs \w+: pip install '"):
        train(tiny(run="early", loggers=["csv", name], wandb__mode="offline"))
    monkeypatch.setattr(loggers, "find_spec", real)  # a folder with event files is no library
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "no_library_but_a_folder").mkdir()
    assert not loggers.is_installed("no_library_but_a_folder")
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tensorbord"], "'tensorbord' is no logger; did you mean 'tensorboard'?"),
        (["csv", "csv"], "'csv' stands there twice"),
        (["csv", 3], "'3' is no logger"),
    ],
)
def test_a_wrong_logger_is_named(words, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        TrainConfig.parse({**controls.tmaze().model_dump(), "loggers": words})


class Flaky:
    """A sink that fails when told to."""

    broken: str | None = None
    rows: list[dict[str, float]]

    def __init__(self, run, options):
        pass

    def begin(self, rows, start):
        self._check("begin")
        Flaky.rows = list(rows)

    def log(self, row):
        self._check("log")
        Flaky.rows.append(row)

    def end(self, code):
        self._check("end")

    def _check(self, what):
        if what == self.broken:
            raise OSError(28, "No space left\non device")


@pytest.fixture
def recorded(home):
    """A run whose metrics the test writes."""
    run = Run.named("recorded")
    run.path.mkdir(parents=True)
    return run


def line(run: Run, steps: int) -> bytes:
    run.append_metrics({STEPS: steps, "x": steps / 7, "unknown": None})
    return (run.path / "metrics.jsonl").read_bytes().splitlines()[-1]


@pytest.mark.parametrize("broken", ["begin", "log", "end"])
@pytest.mark.parametrize("wait", [0.0, 60.0], ids=["soon", "at the end"])
def test_a_logger_that_works_again_gets_what_it_missed(broken, wait, recorded, monkeypatch, capsys):
    monkeypatch.setitem(LOGGERS, "csv", LOGGERS["csv"]._replace(sink=Flaky))
    monkeypatch.setattr(loggers, "FIRST_WAIT_S", wait)
    monkeypatch.setattr(loggers, "LONGEST_WAIT_S", wait)

    def lines():
        yield line(recorded, 1)
        Flaky.broken = broken
        yield line(recorded, 2)
        yield line(recorded, 3)
        Flaky.broken = None if broken != "end" else broken
        yield line(recorded, 4)
        yield b'{"end": 0}'

    Flaky.broken = broken if broken == "begin" else None
    follow(lines(), Follower(recorded, "csv", {}, 0))
    assert Flaky.rows == recorded.metrics()
    assert capsys.readouterr().err == "going on without CSV: OSError: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("status", "in_mlflow", "in_wandb"),
    [("completed", "FINISHED", 0), ("preempted", "KILLED", 0), ("failed", "FAILED", 1)],
)
@pytest.mark.parametrize("matrix", [None, "m"])
def test_a_logger_is_told_how_the_run_ended(status, in_mlflow, in_wandb, matrix, home, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    run = write_run(home / "runs", "S", 0, [0.5], matrix=matrix, status=None)
    (run.path / "provenance.json").write_text('{"time": "2026-01-01T00:00:00Z"}')
    (run.path / "config.yaml").write_text("seed: 0\n")
    code = loggers.CODES.get(status, 1)
    for left in (".mlflow.999999999.tmp", ".mlflow.999999999.tmp-journal"):
        (home / left).touch()
    follow(iter([json.dumps({"end": code}).encode()]), Follower(run, "mlflow", {}, 0))
    assert not list(home.glob(".mlflow.*"))
    assert (home / "mlflow.db").stat().st_mode & 0o777 == 0o600
    found = mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db").get_run((run.path / "mlflow_run").read_text())
    assert found.info.status == in_mlflow
    assert found.data.tags.get("memexp.matrix") == matrix
    assert "None" not in found.data.tags.values()
    given: list[int] = []
    sink = wandb_sink.WandbSink(run, {"mode": "offline"})
    sink._wandb = SimpleNamespace(finish=lambda exit_code: given.append(exit_code))
    sink.end(code)
    assert given == [in_wandb]


def test_a_line_that_is_in_the_file_already_is_not_doubled(recorded, monkeypatch):
    monkeypatch.setitem(LOGGERS, "csv", LOGGERS["csv"]._replace(sink=Flaky))
    Flaky.broken = None
    lines = [line(recorded, steps) for steps in (1, 2, 3)]
    follow(iter([*lines, b'{"end": 0}']), Follower(recorded, "csv", {}, 0))
    assert [row[STEPS] for row in Flaky.rows] == [1, 2, 3]


def test_a_column_that_comes_late_is_in_the_whole_table(recorded):
    def lines():
        for row in ({STEPS: 1, "a": 0.1}, {STEPS: 2, 'b,"': 1e-17, "a": 3}, {STEPS: 3, "c": float("nan")}):
            recorded.append_metrics(row)
            yield json.dumps(row).encode()
        yield b'{"end": 0}'

    follow(lines(), Follower(recorded, "csv", {}, 0))
    text = (recorded.path / "metrics.csv").read_text()
    assert text == 'agent_steps,wall_s,a,"b,"""",c\n1,,0.1,,\n2,,3,1e-17,\n3,,,,nan\n'.replace('""""', '"""')


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time; time.sleep(1000)", "it does not end"),
        ("raise SystemExit(3)", "its process ended with exit code 3"),
        ("import time; time.sleep(1000)", "0 lines wait for it"),
    ],
    ids=["hangs", "ends", "takes nothing"],
)
def test_a_run_ends_whatever_a_logger_does(program, said, monkeypatch, capfd):
    monkeypatch.setattr(loggers, "COMMAND", [sys.executable, "-c", program])
    monkeypatch.setattr(loggers, "FINISH_S", 0.1 if "sleep" in program else float("inf"))
    if "lines" in said:
        monkeypatch.setattr(loggers, "MOST_WAITING", 0)
    assert train(tiny(run="silent", loggers=["csv"])).status == "completed"
    assert capfd.readouterr().err.count(f"going on without CSV: {said}") == 1


@pytest.mark.parametrize("failed", [False, True])
def test_a_failed_run_is_shown_as_failed(failed, monkeypatch, tmp_path):
    note = tmp_path / "end"
    program = f"import sys; open({str(note)!r}, 'w').write(sys.stdin.read().splitlines()[-1])"
    monkeypatch.setattr(loggers, "COMMAND", [sys.executable, "-c", program])
    if failed:
        monkeypatch.setattr(Trainer, "learning_rate", lambda self: 1 / 0)
    train(tiny(run="shown", loggers=["csv"]))
    assert json.loads(note.read_text()) == {"end": int(failed)}


class _Wandb:
    """W&B's run as the sink uses it."""

    def __init__(self, starting_step: int):
        self.starting_step, self.logged = starting_step, []

    def log(self, row, step):
        self.logged.append((step, row[STEPS]))


@pytest.mark.parametrize(
    ("mode", "starts", "logged"),
    [
        ("online", 0, [(1, 1), (2, 2), (3, 3)]),
        ("online", 3, [(3, 3)]),  # W&B has the first two
        ("offline", 0, [(1, 1), (2, 2), (3, 3)]),
        ("shared", 0, [(None, 3)]),
    ],
)
def test_w_and_b_gets_the_rows_that_it_lacks(mode, starts, logged, monkeypatch, recorded):
    monkeypatch.setenv("WANDB_MODE", mode)
    there = _Wandb(starts)
    monkeypatch.setattr(wandb_sink.WandbSink, "_init", lambda self: there)
    sink = wandb_sink.WandbSink(recorded, {"mode": "auto"})
    sink.begin(iter([{STEPS: 1}, {STEPS: 2}]), 0)
    sink.log({STEPS: 3})
    assert there.logged == logged
