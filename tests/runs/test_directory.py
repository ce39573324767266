"""The run directory: what is written is read back, whatever a crash tore."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexp.config import UsageError, check_run_name
from memexp.runs import MAX_GAP, Exit, Run, RunInfo, find_runs, runs_dir


def info(name, **changes):
    fields = {
        "env": "tmaze",
        "arm": "S",
        "pattern": "S",
        "mem_len": 0,
        "memory": "on",
        "seed": 0,
        "total_timesteps": 10,
    }
    return RunInfo(run=name, **(fields | changes))


def test_a_run_is_found_by_its_name_and_status():
    run = Run.named("a.b-1")
    assert not run.exists()
    run.write_info(info("a.b-1"))
    assert (run.exists(), run.exit) == (True, None)
    run.finish(Exit(status="completed", agent_steps=10))
    assert run.exit == Exit(status="completed", agent_steps=10)
    assert [found.name for found in find_runs()] == ["a.b-1"]


def test_runs_are_found_by_name_in_a_home_or_a_folder_and_a_home_is_here_by_default(tmp_path, monkeypatch):
    for name in ("b", "a"):
        Run(tmp_path / "runs" / name).write_info(info(name))
    (tmp_path / "runs" / "empty").mkdir()
    for where in (tmp_path, tmp_path / "runs"):
        assert [run.path for run in find_runs(where)] == [tmp_path / "runs" / name for name in ("a", "b")]
    monkeypatch.delenv("MEMEXP_HOME")
    monkeypatch.chdir(tmp_path)
    assert runs_dir() == tmp_path / "memexp_home" / "runs"
    monkeypatch.chdir("runs")  # as an environment may
    assert runs_dir() == tmp_path / "memexp_home" / "runs"


def test_acting_and_learning_may_differ_by_as_much_as_the_precision_explains():
    assert MAX_GAP == {"float32": 1e-3, "bf16": 5e-2}


def test_a_torn_last_line_of_metrics_is_left_out():
    run = Run.named("torn")
    run.write_info(info("torn"))
    for step in (1, 2):
        run.append_metrics({"agent_steps": step})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"agent_steps": 3, "episo')
    assert [line["agent_steps"] for line in run.metrics()] == [1, 2]


def test_rewinding_forgets_what_came_after_the_checkpoint():
    run = Run.named("rewound")
    run.write_info(info("rewound"))
    for step in (10, 20, 30):
        run.append_metrics({"agent_steps": step})
        run.append_episodes(step // 10, {"return": [float(step)]})
    run.finish(Exit(status="failed"))
    run.rewind(20, part=3)
    assert [line["agent_steps"] for line in run.metrics()] == [10, 20]
    assert run.episodes()["return"].to_list() == [10, 20]
    assert run.exit is None


def test_the_first_start_stays_the_provenance_and_resumes_are_added():
    run = Run.named("again")
    for commit in ("one", "two", "three"):
        run.write_provenance({"commit": commit})
    record = json.loads((run.path / "provenance.json").read_text())
    assert record["commit"] == "one"
    assert [resume["commit"] for resume in record["resumes"]] == ["two", "three"]


@given(st.text(string.printable, min_size=1, max_size=12))
def test_an_accepted_name_is_one_that_sky_pilot_and_file_systems_accept(name):
    try:
        check_run_name(name)
    except UsageError:
        return
    assert name[0] in string.ascii_letters
    assert name[-1] in string.ascii_letters + string.digits
    assert set(name) <= set(string.ascii_letters + string.digits + "-_.")


def test_a_wrong_name_is_refused_with_the_nearest_right_one():
    with pytest.raises(UsageError, match="contains '/'; did you mean 'a-b'"):
        check_run_name("a/b")
    with pytest.raises(UsageError, match="must begin with a letter"):
        check_run_name("1a")
