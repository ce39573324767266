"""The answer while its runs are under way."""

import fcntl
import json
from dataclasses import replace

import pytest
from helpers.synthetic_runs import rising, write_matrix, write_run
from rich.console import Console

from memexp.analysis.answer import answer
from memexp.analysis.sequential_plan import Action, Plan, PlanCause
from memexp.cli import main
from memexp.cli import report_watch as module
from memexp.cli.report_watch import plan_text, stop_line, watch
from memexp.runs import runs_dir

CERTAIN = {"S": [0.95, 0.94, 0.96, 0.93, 0.97], "S~": [0.5, 0.52, 0.49, 0.5, 0.51]}


@pytest.fixture
def runs():
    """A matrix whose answer is certain, and one more seed that still runs."""
    found = write_matrix(runs_dir(), CERTAIN)
    running = write_run(runs_dir(), "S", 5, rising(0.9), reached=0.4, status=None)
    with open(running.lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield [*found, running]


def test_every_look_shows_verdicts_plan_and_what_to_cancel_until_ctrl_c(runs, monkeypatch):
    looks = []

    def sleep(_):
        looks.append(1)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", sleep)
    console = Console(record=True, width=200)
    watch("test", lambda found: found.environments["world"].memory.verdict.kind, console)
    text = console.export_text()
    assert "required" in text
    assert "the environment's verdict is certain" in text
    assert "stop paying: memexp cancel world_S.s5" in text


def test_only_runs_that_run_are_to_be_cancelled(runs):
    found = answer(runs, "test")
    assert stop_line(found, runs).plain == "stop paying: memexp cancel world_S.s5"
    assert stop_line(found, runs[:-1]).plain == ""


def test_seeds_to_run_are_named_shortly():
    new = Plan(PlanCause.DEFAULT_FIRST, action=Action.RUN, seeds=[5, 6, 7])
    assert plan_text(new) == "run seeds 5-7"
    assert plan_text(replace(new, seeds=[2, 5])) == "run seeds 2, 5"
    assert plan_text(Plan(PlanCause.PAIR_DECIDED)) == "stop"


def test_status_says_next_to_each_run_what_to_do_about_its_arm(runs, capsys):
    write_matrix(runs_dir(), {"L": [0.9, 0.8, 0.9], "L~": [0.7, 0.8, 0.75]}, env="other")
    assert main(["status", "--next", "--json"]) == 0
    rows = {row["run"]: row["next"] for row in json.loads(capsys.readouterr().out)}
    assert rows["world_S.s0"] == "stop"
    assert rows["other_L_off.s1"] == "run seeds 3, 4"
    assert main(["status", "test", "--next"]) == 0
    assert "next" in capsys.readouterr().out


def test_watching_writes_nothing_and_refuses_what_would(runs, capsys, tmp_path):
    assert main(["report", "test", "--watch", "--out", str(tmp_path / "page.html")]) == 2
    assert "--watch writes nothing" in capsys.readouterr().err
    assert main(["status", "--next", "--watch"]) == 2
