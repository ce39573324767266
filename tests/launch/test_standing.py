"""Where runs stand: SkyPilot's queue and the run directories as one table, with dollars; cancelling and logs."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from helpers.commands import type_command
from helpers.sky import FakeSky
from helpers.synthetic_runs import write_run
from helpers.training import start_process, tiny, wait_for

from memexp.launch.cloud import submissions
from memexp.launch.cloud.job_queue import Job
from memexp.launch.cloud.submissions import Submission
from memexp.launch.status import control
from memexp.launch.status.attempts import End, add_end, add_start, end_of_start, last_error, spent, starts_of
from memexp.launch.status.cloud_status import price_of
from memexp.launch.status.status import status_of, totals
from memexp.runs import RESTART, Exit, Run, scribe
from memexp.runs.status import RunStatus, State

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SkyPilot's imports
PRICES = {"L4": {"spot": 3.0, "on_demand": 10.0}}


@pytest.fixture
def sky(monkeypatch) -> FakeSky:
    sky = FakeSky()
    monkeypatch.setattr("memexp.launch.cloud.job_queue._import_sky", lambda instead: sky)
    return sky


def submitted(*names: str) -> None:
    """The ledger after a launch of these runs."""
    common = {"matrix": "m", "env": "maze", "arm": "S", "seed": 0, "total_timesteps": 1000}
    submissions.record(Submission(run=name, **common, hours=2.0, dollars=[6.0, 20.0], prices=PRICES) for name in names)


def rows(capsys, *targets: str) -> dict[str, dict]:
    typed = type_command(capsys, "status", *targets, "--json")
    assert typed.code == 0, typed.err
    return {row["run"]: row for row in json.loads(typed.out)}


@pytest.mark.parametrize(
    ("status", "recoveries", "state"),
    [
        ("PENDING", 0, "pending"),
        ("SUBMITTED", 0, "pending"),
        ("STARTING", 0, "pending"),
        ("STARTING", 1, "recovering"),
        ("RUNNING", 0, "running"),
        ("RECOVERING", 2, "recovering"),
        ("SUCCEEDED", 0, "completed"),
        ("CANCELLING", 0, "cancelled"),
        ("CANCELLED", 0, "cancelled"),
        ("FAILED_NO_RESOURCE", 0, "failed"),
    ],
)
def test_skypilots_word_is_one_of_ours(sky, capsys, status: str, recoveries: int, state: str):
    submitted("a")
    sky.add("a", status, recovery_count=recoveries)
    row = rows(capsys, "m")["a"]
    assert (row["state"], row["recoveries"], row["job"]) == (state, recoveries, 1)
    assert (row["env"], row["total_timesteps"]) == ("maze", 1000)


def test_directory_and_queue_are_one_row(sky, capsys, home):
    submitted("a")
    sky.add("a", "RUNNING")
    write_run(home / "runs", "S", 0, [0.1] * 10, name="a", budget=1000, reached=0.5, status=None)
    row = rows(capsys)["a"]
    assert (row["state"], row["agent_steps"], row["episode_return"]) == ("running", 500, 0.1)
    assert row["eta_s"] == pytest.approx(0.5)


def test_a_run_that_is_done_is_done_whatever_the_queue_says(sky, capsys, home):
    submitted("a")
    sky.add("a", "RECOVERING")
    write_run(home / "runs", "S", 0, [0.1], name="a", budget=1000)
    assert rows(capsys)["a"]["state"] == "completed"


def test_a_failed_run_says_why_below_its_name(sky, capsys, home):
    submitted("a", "b")
    sky.add("a", "FAILED", failure_reason="see the logs")
    sky.add("b", "FAILED_NO_RESOURCE", failure_reason="no L4 anywhere")
    write_run(home / "runs", "S", 0, [0.1], name="a", budget=1000, reached=0.5, status=None)
    (home / "runs" / "a" / "log.txt").write_text("fine\nCUDAOutOfMemoryError: 80 GiB\nbye\n")
    Run.named("a").finish(Exit(status="failed"))
    found = rows(capsys)
    assert (found["a"]["reason"], found["b"]["reason"]) == ("CUDAOutOfMemoryError: 80 GiB", "no L4 anywhere")
    assert "no L4 anywhere" in type_command(capsys, "status").out


def test_a_run_that_failed_before_it_said_what_it_is_says_why(sky, capsys):
    submitted("a")
    Run.named("a").path.mkdir(parents=True)
    Run.named("a").finish(Exit(status="failed", reason="the wheel came off"))
    row = rows(capsys)["a"]
    assert (row["state"], row["reason"], row["arm"]) == ("failed", "the wheel came off", "S")


def test_dollars_are_summed_over_starts_and_projected_at_the_measured_rate(sky, capsys, home):
    submitted("a")
    sky.add("a", "RUNNING", recovery_count=1)
    write_run(home / "runs", "S", 0, [0.1] * 10, name="a", budget=7_200_000, reached=0.5, status=None,
              price_per_hour=3.0, columns={"sps": 1000.0})  # fmt: skip
    for number, (seconds, price) in enumerate([(3600, 10.0), (1800, 3.0)]):
        add_start(Run.named("a"), 0, price_per_hour=price)
        (home / "runs" / "a" / "starts" / f"{number:03d}.seconds").write_text(str(seconds))
    row = rows(capsys)["a"]
    assert (row["hours"], row["spent"]) == (1.5, 11.5)
    assert row["projected"] == pytest.approx(11.5 + 3.0)  # 3.6 million steps at 1,000/s are an hour
    shown = type_command(capsys, "status").out
    assert "1 running; 1.5 h, $11.50 spent, $14.50 projected" in " ".join(shown.split())


def a_start(run: Run, seconds: float | None, price: float | None) -> None:
    start = add_start(run, 0, price_per_hour=price)
    if seconds is not None:
        (run.path / "starts" / f"{start.number:03d}.seconds").write_text(str(seconds))


def test_hours_and_dollars_are_those_of_all_starts_and_unknown_with_one_unknown_price():
    run = Run.named("a")
    assert spent(run) == (0, 0)
    a_start(run, 1800, 4.0)
    a_start(run, None, 4.0)
    a_start(run, 3600, 2.0)
    assert spent(run) == (1.5, 4.0)
    a_start(run, 7200, None)
    assert spent(run) == (3.5, None)


def test_starts_are_numbered_behind_damaged_ones_and_keep_how_they_ended():
    run = Run.named("a")
    a_start(run, 1, 1.0)
    (run.path / "starts" / "007.json").write_text("{")
    a_start(run, 1, 1.0)
    add_end(run, 8, End(code=75, word="hung", agent_steps=9, reason="silent"))
    assert [start.number for start in starts_of(run)] == [0, 8]
    assert end_of_start(run, 8) == End(code=75, word="hung", agent_steps=9, reason="silent")
    assert end_of_start(run, 0) is None


@pytest.mark.parametrize(
    ("log", "error"),
    [
        ("ValueError: one\n  torch.OutOfMemoryError: two\nbye\n", "torch.OutOfMemoryError: two"),
        ("memexp: no such key\n", "memexp: no such key"),
        ("preflight: no GPU\npreflight: warning: slow\n", "preflight: no GPU"),
        ("all is well\nno Error here\n", ""),
    ],
)
def test_the_last_line_that_names_an_error_is_the_reason(log, error):
    run = Run.named("a")
    run.path.mkdir(parents=True)
    (run.path / "log.txt").write_text(log)
    assert last_error(run) == error


@pytest.mark.parametrize(
    ("price", "status", "projected"),
    [(2.0, None, 1.0 + 2.0), (None, None, None), (2.0, "completed", 1.0)],
)
def test_projected_dollars_are_those_spent_and_those_of_the_steps_left(home, price, status, projected):
    """Half of 7.2 million steps are left: an hour at 1,000 a second."""
    run = write_run(home / "runs", "S", 0, [0.1] * 4, name="a", budget=7_200_000, reached=0.5, status=status,
                    price_per_hour=price)  # fmt: skip
    assert status_of(run).projected is None
    a_start(run, 900, 4.0)
    found = status_of(run)
    assert (found.hours, found.spent, found.projected) == (0.25, 1.0, projected)
    assert found.eta_s is None  # no process works on it


def test_the_hours_of_a_run_without_a_job_are_those_of_its_training(home):
    run = write_run(home / "runs", "S", 0, [], name="a", status=None)
    assert status_of(run).hours is None
    run.append_metrics({"agent_steps": 500, "wall_s": 1800.0})
    assert (status_of(run).hours, status_of(run).spent) == (0.5, None)
    a_start(run, 900, 4.0)
    assert status_of(run).hours == 0.25


def test_a_launch_projects_the_share_of_its_dollars_that_is_left(sky, capsys, home):
    submitted("a")
    write_run(home / "runs", "S", 0, [0.1], name="a", budget=1000, reached=0.25, status=None)
    assert rows(capsys)["a"]["projected"] == 6.0 * 0.75
    sky.add("a", "RUNNING", job_duration=7200.0, cluster_resources="1x(gpus=L4:8)")
    (home / "runs" / "a" / "metrics.jsonl").write_text('{"agent_steps": 500, "sps": 50.0, "wall_s": 9.0}\n')
    row = rows(capsys)["a"]
    assert (row["hours"], row["spent"], row["projected"], row["eta_s"]) == (2.0, 20.0, 20.0 + 6.0 / 2, 10.0)


def test_the_newest_submission_counts_and_damaged_lines_do_not():
    submitted("a", "b")
    with open(submissions.path(), "a") as file:
        file.write("{torn\n" + submissions.read()["a"].model_copy(update={"seed": 7}).model_dump_json() + "\n")
    assert {name: one.seed for name, one in submissions.read().items()} == {"a": 7, "b": 0}


def test_totals_count_states_and_add_what_is_known():
    def one(state: State, **known: float) -> RunStatus:
        return RunStatus(run="a", state=state, **known)  # type: ignore[arg-type]

    some = [one(State.COMPLETED, hours=2.0, spent=6.0), one(State.COMPLETED), one(State.RUNNING, projected=150.0)]
    assert totals(some) == "2 completed, 1 running; 2.0 h, $6.00 spent, $156 projected"


def test_without_a_run_directory_the_queue_tells_the_hours_and_the_launch_the_price(sky, capsys):
    submitted("a", "b")
    sky.add("a", "RUNNING", job_duration=1800.0, cluster_resources="1x(gpus=L4:8)[spot]")
    sky.add("b", "PENDING")
    found = rows(capsys)
    assert (found["a"]["hours"], found["a"]["spent"], found["a"]["projected"]) == (0.5, 1.5, 7.5)
    assert (found["b"]["spent"], found["b"]["projected"]) == (0.0, 6.0)


def test_the_dearest_price_counts_where_the_machine_is_not_known():
    prices = {**PRICES, "A10G": {"spot": 5.0, "on_demand": 16.0}}
    assert price_of(Job(1, "a", "RUNNING", machine="1x(gpus=A10G:8)[Spot]"), prices) == 5.0
    assert price_of(Job(1, "a", "RUNNING", machine="1x(gpus=L4:8)"), prices) == 10.0
    assert price_of(None, prices) == 16.0
    assert price_of(None, {}) is None


def test_runs_of_this_machine_alone_do_not_ask_skypilot(capsys, home, monkeypatch):
    monkeypatch.setattr("memexp.launch.status.cloud_status.connect", lambda: pytest.fail("SkyPilot was asked"))
    write_run(home / "runs", "S", 0, [0.1], name="a")
    assert rows(capsys)["a"]["state"] == "completed"


def test_a_server_that_does_not_answer_leaves_the_directories_and_a_line(sky, capsys):
    def unreachable():
        raise ConnectionError

    sky.api_info = unreachable  # type: ignore[method-assign]
    submitted("a")
    typed = type_command(capsys, "status", "--json")
    assert typed.code == 0
    assert typed.err.startswith("memexp: SkyPilot's queue is not known: no SkyPilot API server answers")
    assert json.loads(typed.out)[0]["state"] == "new"


def test_watching_keeps_the_table_until_ctrl_c_and_does_not_ask_skypilot_every_time(sky, capsys, monkeypatch):
    looks = []

    def look_again(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    asked = []
    queue = sky.jobs.queue_v2
    sky.jobs.queue_v2 = lambda **words: asked.append(words) or queue(**words)
    monkeypatch.setattr("memexp.launch.status.cloud_status.time.sleep", look_again)
    submitted("a")
    sky.add("a", "PENDING")
    typed = type_command(capsys, "status", "--watch")
    assert typed.code == 0
    assert "pending" in typed.out
    assert (len(looks), len(asked)) == (3, 1)


# Cancelling.


def test_a_matrix_is_cancelled_by_the_names_of_its_runs(sky, capsys):
    submitted("a", "b", "c")
    for name, status in {"x": "RUNNING", "a": "RUNNING", "b": "SUCCEEDED", "c": "PENDING"}.items():
        sky.add(name, status)
    typed = type_command(capsys, "cancel", "m")
    assert (typed.code, sky.cancelled) == (0, [2, 4])
    assert typed.out.splitlines()[-1] == "2 runs cancelled"


def test_a_job_is_asked_to_end_until_it_does(sky, capsys, monkeypatch):
    """A request that arrives while SkyPilot recovers the job gets lost."""
    monkeypatch.setattr(control, "QUEUE_POLL_S", 0.0)
    monkeypatch.setattr(control, "AGAIN_S", 0.0)
    submitted("a", "b")
    sky.add("a", "RECOVERING")
    sky.add("b", "RUNNING")
    sky.lost_cancels = 2
    typed = type_command(capsys, "cancel", "m")
    assert (typed.code, sky.cancelled) == (0, [1, 2] * 3)
    assert typed.out.splitlines() == ["a: cancelled (job 1)", "b: cancelled (job 2)", "2 runs cancelled"]


def test_a_job_that_does_not_end_is_a_failure(sky, capsys, monkeypatch):
    for name in ("QUEUE_POLL_S", "AGAIN_S", "GIVE_UP_S"):
        monkeypatch.setattr(control, name, 0.0)
    submitted("a")
    sky.add("a", "RUNNING")
    sky.lost_cancels = 9
    typed = type_command(capsys, "cancel", "a")
    assert typed.code == 1
    assert typed.err == "memexp: SkyPilot was asked to cancel these jobs and goes on with them: a (job 1, RUNNING)\n"


def test_cancelling_what_does_not_exist_is_wrong_usage(sky, capsys):
    submitted("a")
    assert type_command(capsys, "cancel", "b").code == 2
    assert sky.cancelled == []


HOLDER = """
import fcntl, json, pathlib, signal, sys
run = pathlib.Path(sys.argv[1])
lock = open(run / "lock", "a")
fcntl.flock(lock, fcntl.LOCK_EX)
def stop(number, frame):
    (run / "exit.json").write_text(json.dumps({"status": "preempted", "agent_steps": 7}))
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
signal.pause()
"""


def test_a_run_of_this_machine_is_told_to_stop_and_counts_as_cancelled(capsys, home):
    run = write_run(home / "runs", "S", 0, [0.1], name="a", status=None)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        typed = type_command(capsys, "cancel", "a")
        assert (typed.code, process.wait(10)) == (0, 75)
    outcome = run.exit
    assert outcome is not None
    assert (outcome.status, outcome.agent_steps) == ("cancelled", 7)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_real_trainer_whose_writer_holds_the_lock_is_told_to_stop(capsys):
    run = Run.named("real")
    with start_process(tiny(run="real", trainer__total_timesteps=10**9)) as process:
        wait_for(lambda: (run.path / "metrics.jsonl").exists(), process)
        typed = type_command(capsys, "cancel", "real")
        assert (typed.code, process.wait(30)) == (0, RESTART)
    assert run.exit is not None
    assert run.exit.status == "cancelled"


def test_a_lock_of_another_file_with_the_same_number_is_nobodys(home, monkeypatch):
    run = write_run(home / "runs", "S", 0, [0.1], name="a", status=None)
    run.lock.touch()
    locks = home / "locks"
    locks.write_text(f"1: FLOCK  ADVISORY  WRITE {os.getpid()} fe:00:{run.lock.stat().st_ino} 0 EOF\n")
    monkeypatch.setattr("memexp.launch.status.control.LOCKS", locks)
    assert control.trainer_of(run) is None
    with open(run.lock):
        assert control.trainer_of(run) == os.getpid()


def test_a_run_may_be_named_by_its_directory(capsys, home, tmp_path):
    run = write_run(tmp_path / "elsewhere", "S", 0, [0.1], name="a")
    write_run(tmp_path / "elsewhere", "S", 1, [0.1], name="b")
    assert list(rows(capsys, str(run.path))) == ["a"]
    assert type_command(capsys, "monitor", str(run.path), "--once").code == 0


def test_a_trainer_that_holds_a_lease_is_found(home, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(scribe.fcntl, "flock", no_locks)
    monkeypatch.setattr(scribe, "SETTLE_S", 0.0)
    run = write_run(home / "runs", "S", 0, [0.1], name="a", status=None)
    assert control.trainer_of(run) is None
    lock = scribe.take(run.lock)
    assert lock
    assert lock.is_lease
    assert control.trainer_of(run) == os.getpid()
    lock.release()
    assert control.trainer_of(run) is None


def test_a_managed_job_is_cancelled_by_skypilot_even_where_its_trainer_runs_on_this_machine(sky, capsys, home):
    """Its end by a signal would be taken for a preemption, and the job recovered."""
    submitted("a")
    sky.add("a", "RUNNING")
    run = write_run(home / "runs", "S", 0, [0.1], name="a", status=None)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert type_command(capsys, "cancel", "a").out.splitlines()[-1] == "1 run cancelled"
        assert (process.poll(), sky.cancelled) == (None, [1])
        process.terminate()


# Logs.


def test_logs_come_from_the_directory_where_it_has_them_and_else_from_skypilot(sky, capsys, home):
    submitted("a", "b")
    sky.add("a", "RUNNING")
    sky.add("b", "SUCCEEDED")
    assert type_command(capsys, "logs", "a", "--follow").out == "what job 1 said ␛[2J\n"
    assert sky.tails == [(1, True)]
    (home / "runs" / "b").mkdir(parents=True)
    (home / "runs" / "b" / "log.txt").write_text("what it said\n")
    assert type_command(capsys, "logs", "b", "--follow").out == "what it said\n"
    assert len(sky.tails) == 1
