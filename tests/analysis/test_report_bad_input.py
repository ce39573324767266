"""`memexp report` on what goes wrong in practice: a sensible answer, or one clear line."""

import json

import numpy as np
import pytest
from helpers.commands import type_command
from helpers.synthetic_runs import BUDGET, rising, write_arm, write_matrix, write_run

GOOD, HALF = [0.9, 0.95, 0.92, 0.97, 0.93], [0.5, 0.52, 0.49, 0.5, 0.51]


@pytest.fixture
def ask(tmp_path, capsys):
    """Types `memexp report` about a folder; gives the answer about its environment once the page is written too."""

    def ask(folder=tmp_path):
        page = tmp_path / "report.html"
        typed = type_command(capsys, "report", str(folder), "--json", "--out", str(page))
        assert (typed.code, typed.err) == (0, "")
        assert "<h1>" in page.read_text()
        (environment,) = json.loads(typed.out)["environments"].values()
        return environment

    return ask


def refused(capsys, *words):
    """The one line on stderr of a report that cannot be given."""
    typed = type_command(capsys, "report", *words)
    assert (typed.code, typed.out) == (2, "")
    assert typed.err.count("\n") == 1
    return typed.err


def test_an_empty_directory_is_one_line(tmp_path, capsys):
    assert refused(capsys, str(tmp_path)) == f"memexp: there are no runs in {tmp_path}\n"


def test_an_unknown_matrix_is_one_line_with_the_nearest_name(home, capsys):
    write_run(home / "runs", "S", 0, rising(0.9), matrix="memory-needed")
    line = refused(capsys, "memory-neded")
    assert line == "memexp: no run and no matrix is called 'memory-neded'; did you mean 'memory-needed'?\n"


def test_an_unknown_matrix_among_no_runs_names_the_place(home, capsys):
    assert "there are no runs in" in refused(capsys, "anything")


def test_one_seed_decides_nothing_and_asks_for_more(tmp_path, ask):
    write_matrix(tmp_path, {"S": [0.9], "S~": [0.5]})
    found = ask()
    assert found["memory"]["verdict"] == "undecided"
    assert [arm["learning"]["verdict"] for arm in found["arms"].values()] == ["undecided"] * 2
    assert found["next"][0].startswith("run 4 more seeds of arms S, S~ (--seeds 5)")


def test_failed_runs_alone_are_undecided_and_named_with_their_reason(tmp_path, ask):
    for seed in range(5):
        write_run(tmp_path, "S", seed, rising(0.9), reached=0.3, status="failed")
    found = ask()
    assert found["memory"]["verdict"] == "undecided"
    assert found["arms"]["S"]["seeds"] == 0
    assert found["next"][0].startswith("launch the matrix again: 5 runs did not get to the end")
    assert any("5 failed" in note and "because" in note for note in found["notes"])


def test_metrics_that_are_no_numbers_cost_the_run_and_not_the_answer(tmp_path, ask):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    write_run(tmp_path, "S", 5, np.r_[rising(0.9)[:-10], [np.nan] * 10], columns={"policy/entropy": float("inf")})
    found = ask()
    assert found["memory"]["verdict"] == "required"
    assert found["arms"]["S"]["seeds"] == 5
    assert any("world_S.s5" in note for note in found["notes"])


def test_a_truncated_last_line_is_left_out(tmp_path, ask):
    for run in write_matrix(tmp_path, {"S": GOOD, "S~": HALF}):
        with open(run.path / "metrics.jsonl", "a") as file:
            file.write('{"agent_steps": 110000, "episode/return": -9')
    found = ask()
    assert found["memory"]["verdict"] == "required"
    assert found["arms"]["S"]["final"]["iqm"] == pytest.approx(0.933, abs=0.01)


def test_mixed_budgets_are_compared_where_most_seeds_got_to_and_it_is_said(tmp_path, ask):
    write_matrix(tmp_path, {"S": GOOD[:4], "S~": HALF[:4]})
    for arm, final in (("S", 0.9), ("S~", 0.5)):
        write_run(tmp_path, arm, 4, np.r_[rising(final), np.full(40, 7.0)], budget=2 * BUDGET)
    found = ask()
    assert found["budget"] == BUDGET
    assert found["memory"]["verdict"] == "required"
    assert any(f"budgets differ ({BUDGET}, {2 * BUDGET})" in note for note in found["notes"])


def test_a_seed_that_stands_twice_counts_once_and_is_named(tmp_path, ask):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    write_run(tmp_path, "S", 2, rising(0.1), name="again")
    found = ask()
    assert found["arms"]["S"]["seeds"] == 5
    assert any("S seed 2 stands twice" in note for note in found["notes"])


def test_columns_that_nobody_knows_change_nothing(tmp_path, ask):
    surprises = {"env/funnel/": 0.5, "env/funnel/odd\tname": 0.1, "aliens": [1, {"a": "b"}], "": None, "π": "text"}
    write_arm(tmp_path / "plain", "S", GOOD)
    write_arm(tmp_path / "odd", "S", GOOD, columns=surprises)
    assert ask(tmp_path / "plain")["arms"] == ask(tmp_path / "odd")["arms"]


def test_a_damaged_run_json_is_named_beside_the_answer_about_the_others(tmp_path, capsys):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    typed = type_command(capsys, "report", str(tmp_path), "--json")
    (note,) = json.loads(typed.out)["notes"]
    assert note.startswith("broken: run.json cannot be read: it is not valid JSON (")


def test_a_run_without_metrics_is_named_with_how_far_it_got(tmp_path, ask):
    runs = write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    (runs[0].path / "metrics.jsonl").unlink()
    found = ask()
    assert found["arms"]["S"]["seeds"] == 4
    note = "S: 1 completed (world_S.s0), not counted: ended at 0 of 100k agent steps"
    assert note in found["notes"]


@pytest.mark.parametrize("file", ["config.yaml", "provenance.json", "exit.json"])
@pytest.mark.parametrize("text", ["[1, 2]", "7", '"text"', '{"trainer": {"precision": [1]}, "cortex": 3, "env": 3}'])
def test_a_file_beside_run_json_that_says_nonsense_counts_as_missing(tmp_path, ask, file, text):
    for run in write_matrix(tmp_path, {"X": GOOD, "X~": HALF, "X2": GOOD, "X2~": HALF}, pattern="X"):
        (run.path / file).write_text(text)
    assert ask()["memory"]["verdict"] == "required"


def test_provenance_of_other_types_is_shown_as_text(tmp_path, ask):
    odd = '{"commit": 3, "packages": ["a"], "argv": "x", "device": {"a": 1}, "host": [1]}'
    for run in write_matrix(tmp_path, {"S": GOOD, "S~": HALF}):
        (run.path / "provenance.json").write_text(odd)
    assert ask()["memory"]["verdict"] == "required"


def test_runs_that_never_measured_the_gap_are_named(tmp_path, ask):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF}, gap=None)
    found = ask()
    assert found["arms"]["S"]["consistent"] is None
    assert (
        "S, S~: acting and learning were never compared (consistency/max_logprob_gap), taken as consistent"
        in (found["notes"])
    )


@pytest.mark.filterwarnings("error")
def test_returns_a_millionth_apart_around_a_thousand_are_drawn_and_judged(tmp_path, ask):
    for arm, finals in (("S", GOOD), ("S~", HALF)):
        for seed, final in enumerate(finals):
            curve = 1000 + 1e-6 * rising(final)
            write_run(tmp_path, arm, seed, curve, random_return=1000 + 1e-9 * seed, ceiling_return=1000 + 1e-6)
    assert ask()["memory"]["verdict"] == "required"


def test_a_folder_of_several_matrices_says_how_to_name_one_and_takes_it(tmp_path, capsys):
    for matrix, arm in (("one", "S"), ("two", "X")):
        write_matrix(tmp_path / "copied", {arm: [0.9]}, matrix=matrix)
    line = refused(capsys, str(tmp_path / "copied"))
    assert line == "memexp: 'copied' holds runs of several matrices (one, two); name one behind it: copied/two\n"
    typed = type_command(capsys, "report", str(tmp_path / "copied" / "two"), "--json")
    assert list(json.loads(typed.out)["environments"]["world"]["arms"]) == ["X"]
    assert "did you mean 'two'?" in refused(capsys, str(tmp_path / "copied" / "twoo"))


def test_a_name_like_no_other_is_answered_with_the_matrices_and_not_with_every_run(home, capsys):
    write_arm(home / "runs", "S", [0.9] * 40, matrix="memory-needed")
    assert refused(capsys, "zzz") == "memexp: no run and no matrix is called 'zzz'; known: memory-needed\n"
