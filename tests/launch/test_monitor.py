"""The dashboard of runs: what it reads while they are being written, and what it says of them."""

import fcntl
import json
import math
import os
import time

import numpy as np
import pytest
from helpers.synthetic_runs import rising, write_run
from hypothesis import given
from hypothesis import strategies as st

from memexp.launch.status.monitor.snapshot import SnapshotReader
from memexp.launch.status.status import status_of
from memexp.runs import Run
from memexp.runs.metrics import FAST_LINES, GAP, RETURN, STEPS, WALL, MetricsTail
from memexp.runs.status import RunStatus, State


def lines(count: int, first: int = 1, **more) -> bytes:
    records = [{STEPS: 10 * n, WALL: n / 2, RETURN: n / 7, GAP: 1e-6, **more} for n in range(first, first + count)]
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def seen(metrics: MetricsTail) -> list:
    metrics.update()
    return [metrics.column(name).tolist() for name in (STEPS, RETURN, GAP)]


def read_anew(file) -> list:
    return seen(MetricsTail(file))


# Reading what grows.


@given(st.lists(st.integers(0, 2000), max_size=6), st.booleans())
def test_wherever_the_looks_fall_between_the_bytes_the_same_lines_are_read(tmp_path_factory, cuts, torn):
    file = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    data = lines(12) + b'{"agent_steps": 13' * torn + b"\nno json\n[1]\n" + lines(9, first=20)
    metrics = MetricsTail(file)
    for cut in [*sorted(cuts), len(data)]:
        file.write_bytes(data[:cut])
        metrics.update()
    assert seen(metrics)[0] == [10.0 * n for n in (*range(1, 13), *range(20, 29))]


def test_only_what_was_appended_is_read(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(lines(100))
    metrics = MetricsTail(file)
    before = seen(metrics)
    changed = file.read_bytes().replace(b'"agent_steps": 10,', b'"agent_steps": 99,', 1) + lines(1, first=101)
    file.write_bytes(changed)  # a look at the whole file would show the 99
    after = seen(metrics)
    assert after[0] == [*before[0], 1010.0]


@pytest.mark.parametrize("again", [0, 3, 400])
def test_a_file_that_was_rewound_by_a_resume_is_read_anew(tmp_path, again):
    run = Run(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(lines(200))
    metrics = MetricsTail(tmp_path / "metrics.jsonl")
    metrics.update()
    run.rewind(agent_steps=500, part=0)
    with open(metrics.file, "ab") as file:
        file.write(lines(again, first=51, resumed=True))
    assert seen(metrics)[0] == [10.0 * n for n in range(1, 51 + again)]
    assert seen(metrics) == read_anew(metrics.file)


def test_a_file_that_vanished_is_forgotten(tmp_path):
    metrics = MetricsTail(tmp_path / "metrics.jsonl")
    metrics.file.write_bytes(lines(3))
    metrics.update()
    metrics.file.unlink()
    assert seen(metrics) == [[], [], []]


@pytest.mark.parametrize("odd", [b"", b'{"agent_steps": 7, "loss/policy": NaN}\n', b"torn{\n", b"\xff\n"])
def test_many_lines_are_read_as_few_are(tmp_path, odd):
    file = tmp_path / "metrics.jsonl"
    data = lines(2 * FAST_LINES) + odd + lines(5, first=500, **{"env/x": 3.0})
    file.write_bytes(data)
    whole, by_and_by = MetricsTail(file), MetricsTail(tmp_path / "slow.jsonl")
    whole.update()
    for line in data.splitlines(keepends=True):
        with open(by_and_by.file, "ab") as slow:
            slow.write(line)
        by_and_by.update()
    assert seen(whole)[0] == seen(by_and_by)[0]
    np.testing.assert_array_equal(seen(whole)[1], seen(by_and_by)[1])
    assert list(whole.recent) == list(by_and_by.recent) or b"NaN" in odd
    assert list(whole.scored) == list(by_and_by.scored)


# What a look says.


def look(run: Run, **planned):
    return SnapshotReader(run, RunStatus(run=run.name, state=State.NEW, **planned)).read()


@pytest.fixture
def hold():
    """Holds a run's lock, as the process that trains it does."""
    held = []

    def take(run: Run) -> Run:
        run.path.mkdir(parents=True, exist_ok=True)
        held.append(open(run.lock, "a"))  # noqa: SIM115 (released below)
        fcntl.flock(held[-1], fcntl.LOCK_EX)
        return run

    yield take
    for file in held:
        file.close()


def silent_for(run: Run, seconds: float) -> Run:
    then = time.time() - seconds
    os.utime(run.path / "metrics.jsonl", (then, then))
    return run


def started(home, **options) -> Run:
    """A run in its middle, whose updates take 2.5 s."""
    return write_run(home / "runs", "S", 0, rising(0.9), name="it", status=None, reached=0.5, **options)


def test_a_run_without_a_directory_waits_and_is_called_as_its_matrix_says(home):
    found = look(Run.named("it"), env="maze", arm="S~", seed=3, total_timesteps=500)
    assert (found.state, found.env, found.arm, found.seed, found.share) == ("new", "maze", "S~", 3, 0.0)


def test_a_run_that_a_process_holds_before_its_first_update_starts_and_shows_its_last_words(home, hold):
    run = hold(Run.named("it"))
    (run.path / "log.txt").write_text("$ memexp train\nmeasuring: 3 of 64\n\n")
    assert (look(run).state, look(run).reason) == ("starting", "measuring: 3 of 64")


def test_a_run_whose_lines_are_fresh_runs(home, hold):
    found = look(hold(started(home)))
    assert (found.state, found.agent_steps, found.alarms) == ("running", 50_000, [])
    assert found.sps == pytest.approx(1000)
    assert found.eta_s == pytest.approx(50)


@pytest.mark.parametrize(("silent", "state"), [(20, "running"), (29, "running"), (31, "stalled")])
def test_a_held_run_that_is_silent_for_much_longer_than_usual_stalls(home, hold, silent, state):
    run = silent_for(hold(started(home)), silent)
    assert look(run).state == state
    assert bool(look(run).alarms) == (state == "stalled")


def test_a_run_that_is_always_slow_does_not_stall(home, hold):
    run = hold(started(home, budget=4_000_000))  # its updates take 100 s
    assert look(silent_for(run, 250)).state == "running"
    assert look(silent_for(run, 1001)).state == "stalled"


def test_a_run_that_no_process_holds_any_more_was_interrupted(home):
    assert look(silent_for(started(home), 9)).state == "running"  # it may be written from another machine
    found = look(silent_for(started(home, seed_of_another=1), 11))
    assert found.state == "interrupted"
    assert found.alarms


@pytest.mark.parametrize("status", ["completed", "failed", "preempted", "cancelled"])
def test_a_run_that_ended_says_how_and_why(home, status):
    found = look(write_run(home / "runs", "S", 0, rising(0.9), name="it", status=status))
    assert found.state == status
    assert found.eta_s is None
    assert (status == "failed") == any("failed: because" in alarm for alarm in found.alarms)


@pytest.mark.parametrize(("precision", "consistent"), [("float32", False), ("bf16", True)])
def test_consistency_is_the_largest_gap_of_the_run_against_what_its_precision_allows(home, precision, consistent):
    run = write_run(home / "runs", "S", 0, rising(0.9, updates=200), name="it", precision=precision)
    first = (run.path / "metrics.jsonl").read_text().replace("1e-06", "0.02", 1)
    (run.path / "metrics.jsonl").write_text(first)
    found = look(run)
    assert (found.max_gap, found.consistent) == (0.02, consistent)
    assert any("inconsistent" in alarm for alarm in found.alarms) != consistent


def test_what_the_metrics_tell_is_told_in_the_units_that_people_read(home):
    columns = {"policy/entropy": math.log(17) / 4, "gpu/utilization": 87.0, "gpu/memory_gb": 3.2}
    columns |= {"time/rollout": 0.5, "time/engine": 0.2, "time/update": 0.4, "time/logging": 0.1}
    columns |= {"checkpoint/age_minutes": 2.0, "checkpoint/failed": 3.0, "eval/return": 0.7}
    found = look(write_run(home / "runs", "S", 0, rising(0.9), name="it", columns=columns, num_actions=17))
    assert found.entropy_share == pytest.approx(0.25)
    assert found.time_split == pytest.approx({"rollout": 0.3, "engine": 0.2, "update": 0.4, "logging": 0.1})
    assert (found.gpu_utilization, found.gpu_memory_gb, found.eval_return) == (87.0, 3.2, 0.7)
    assert found.checkpoint_age_minutes == 2.0
    assert found.alarms == ["3 attempts to write a checkpoint failed since the newest one"]


def test_the_return_and_the_funnel_are_means_over_recent_episodes_not_over_updates(home):
    run = write_run(home / "runs", "S", 0, [], name="it", status=None)
    run.append_metrics({STEPS: 10, WALL: 0.5, RETURN: 1.0, "env/x": 9.0})
    run.append_metrics({STEPS: 19, WALL: 1.0, RETURN: 1.0, "episode/count": 3, "env/funnel/made": 1.0, "env/x": 4.0})
    run.append_metrics({STEPS: 20, WALL: 2.0, RETURN: 5.0, "episode/count": 1, "env/funnel/made": 0.0, "env/x": 0.0})
    run.append_metrics({STEPS: 30, WALL: 3.0, "episode/count": 0})
    found = look(run)
    assert (found.episode_return, found.funnel, found.stats) == (2.0, {"made": 0.75}, {"x": 3.0})
    assert found.smoothed(3) == [1.0, 2.0, 2.0]
    assert found.smoothed(4, until=40) == [1.0, 2.0, 2.0, None]


@pytest.mark.parametrize("size", [10, 20_000])
@pytest.mark.parametrize("every", [1, 7, 400])
def test_status_and_monitor_show_the_same_return_however_long_lines_are_and_however_rare_episodes(home, size, every):
    run = write_run(home / "runs", "S", 0, [], name="it", status=None)
    more = {f"env/{'x' * 100}{n}": 1.0 for n in range(size // 100)}
    for n in range(60 if size > 1000 else 2000):
        scored = {} if n % every else {RETURN: float(n), "episode/count": 1 + n % 3}
        run.append_metrics({STEPS: 10 * (n + 1), WALL: float(n), **scored, **more})
    assert status_of(run).episode_return == look(run).episode_return is not None
