"""How a run stands, from its directory."""

import fcntl

import pytest
from helpers.synthetic_runs import write_run

from memexp.runs import Exit, Run
from memexp.runs.status import RunStatus, State, end_of, info_of, log_lines, matrix_of, reached, state_of


def test_the_state_follows_the_lock_then_exit_json_then_run_json(home):
    assert state_of(Run.named("a")) is State.NEW
    run = write_run(home / "runs", "S", 0, [0.1], name="a", status=None)
    run.lock.touch()
    assert state_of(run) is State.INTERRUPTED
    for status in ("completed", "failed", "preempted", "cancelled"):
        run.finish(Exit(status=status))
        assert state_of(run) == status
    with open(run.lock) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert state_of(run) is State.RUNNING


def test_damaged_files_are_not_known_and_stop_nothing(home):
    run = write_run(home / "runs", "S", 0, [0.1, 0.2], name="a", budget=1000, matrix="m")
    assert (matrix_of(run), reached(run)) == ("m", 1000)
    for name in ("run.json", "exit.json"):
        (run.path / name).write_bytes(b"\xff{")
    (run.path / "metrics.jsonl").write_bytes(b"torn")
    assert (info_of(run), end_of(run), matrix_of(run), reached(run)) == (None, None, None, 0)
    assert state_of(run) is State.INTERRUPTED


def test_the_log_is_read_from_its_end_without_blank_lines(home):
    run = Run.named("a")
    assert log_lines(run) == []
    run.path.mkdir(parents=True)
    (run.path / "log.txt").write_text("x" * 5000 + "\n\n  \nlast\n")
    assert log_lines(run) == ["x" * (4096 - 10), "last"]
    assert log_lines(run, size=9) == ["last"]


@pytest.mark.parametrize(("steps", "total", "share"), [(5, 20, 0.25), (30, 20, 1.0), (5, None, 0.0)])
def test_the_share_done_is_at_most_one(steps, total, share):
    assert RunStatus(run="a", state=State.RUNNING, agent_steps=steps, total_timesteps=total).share == share
