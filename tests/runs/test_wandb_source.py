"""A W&B project gives the answer that the run directories give: the client is the real one, the server is not."""

import json

import pytest
from helpers.commands import type_command
from helpers.synthetic_runs import rising, write_matrix, write_run
from helpers.wandb_server import Server

from memexp.runs import find_runs
from memexp.runs.wandb_source import wandb_runs


@pytest.fixture
def serve(monkeypatch):
    """Puts a server of the runs below a folder in the network's place."""

    def serve(folder, **options):
        server = Server(find_runs(folder), **options)
        monkeypatch.setattr("wandb.Api", server.api)
        return server

    return serve


def answer_to(capsys, target):
    typed = type_command(capsys, "report", str(target), "--json")
    assert typed.code == 0, typed.err
    return json.loads(typed.out)


def test_a_project_gives_the_answer_of_its_directories(tmp_path, capsys, serve):
    write_matrix(tmp_path, {"S": [0.9, 0.95, 0.92, 0.97, 0.9], "S~": [0.5, 0.52, 0.49, 0.5, 0.5]}, price_per_hour=2.0)
    write_run(tmp_path, "S", 5, rising(0.9), reached=0.4, status=None)
    serve(tmp_path)
    assert answer_to(capsys, "wandb:us/maze") == answer_to(capsys, tmp_path)


def test_billions_of_steps_are_read_in_few_pages(tmp_path, serve):
    write_run(tmp_path, "S", 0, rising(0.9, updates=2500), budget=2_000_000_000)
    server = serve(tmp_path)
    _, (run,), _ = wandb_runs("us/maze")
    assert len(run.columns(["episode/return"])["episode/return"]) == 2500
    assert server.pages == 3


def test_a_run_that_w_and_b_calls_finished_before_its_budget_was_preempted(tmp_path, serve):
    write_run(tmp_path, "S", 0, rising(0.9), reached=0.5, status="preempted")
    write_run(tmp_path, "S", 1, rising(0.9), status="failed")
    serve(tmp_path)
    _, runs, _ = wandb_runs("us/maze")
    assert [run.exit.status for run in runs] == ["preempted", "failed"]
    ended = {}
    for run in runs:
        for state in ("finished", "failed", "crashed", "killed", "running"):
            run._state = state
            ended.setdefault(state, []).append(run.exit and (run.exit.status, run.exit.agent_steps))
    assert ended == {
        "finished": [("preempted", 50_000), ("completed", 100_000)],
        "failed": [("failed", 50_000), ("failed", 100_000)],
        "crashed": [("failed", 50_000), ("failed", 100_000)],
        "killed": [("cancelled", 50_000), ("cancelled", 100_000)],
        "running": [None, None],
    }


def test_runs_of_before_are_told_from_their_config_and_others_are_named(tmp_path, serve, capsys):
    labels = {"matrix": "maze", "env": None, "arm": None}
    cortex = {"pattern": "S", "mem_len": 16, "memory": "off"}
    config = {"seed": 3, "env": {"name": "tmaze"}, "labels": labels, "cortex": cortex}
    run = write_run(tmp_path, "S~", 3, rising(0.9))
    run.write_config({**config, "trainer": {"total_timesteps": 100_000, "precision": "float32"}})
    write_run(tmp_path, "S", 4, rising(0.9), name="alien").write_config({"lr": 0.1})
    serve(tmp_path, with_info=False)
    found = answer_to(capsys, "wandb:us/maze")
    assert found["matrix"] == "maze"
    assert found["environments"]["tmaze"]["arms"]["S~"]["runs"] == [run.name]
    assert found["notes"] == ["alien: not a run of memexp (KeyError)"]


def test_a_matrix_of_several_is_named_behind_the_project(tmp_path, serve, capsys):
    for matrix in ("one", "two"):
        write_run(tmp_path, "S", 0, rising(0.9), name=matrix, matrix=matrix)
    serve(tmp_path)
    assert answer_to(capsys, "wandb:us/maze/two")["environments"]["world"]["arms"]["S"]["runs"] == ["two"]
    typed = type_command(capsys, "report", "wandb:us/maze")
    assert typed.code == 2
    assert "several matrices (one, two)" in typed.err


@pytest.mark.parametrize(
    ("target", "words"),
    [("wandb:maze", "is not wandb:ENTITY/PROJECT"), ("wandb:us/empty", "has no run of memexp")],
)
def test_what_names_no_project_or_no_run_is_one_line(target, words, tmp_path, serve, capsys):
    serve(tmp_path)
    typed = type_command(capsys, "report", target)
    assert typed.code == 2
    assert words in typed.err
    assert typed.err.count("\n") == 1


def test_a_server_that_refuses_is_one_line(monkeypatch, capsys):
    import wandb

    def refuse(**settings):
        raise wandb.errors.CommError("permission\ndenied")

    monkeypatch.setattr("wandb.Api", refuse)
    typed = type_command(capsys, "report", "wandb:us/maze")
    assert (typed.code, typed.err) == (1, "memexp: cannot read wandb:us/maze: permission denied\n")
