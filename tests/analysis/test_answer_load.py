"""Which runs count, and what is read from damaged, unfinished, doubled and unequal ones."""

import json

import numpy as np
import pytest
from helpers.synthetic_runs import BUDGET, rising, write_arm, write_matrix, write_run

from memexp.analysis.load import load, read_seed
from memexp.config import UsageError
from memexp.runs import Run, find_runs


def only(runs):
    environments, _ = load(runs, "test")
    (environment,) = environments.values()
    return environment


def test_the_final_return_weighs_updates_by_their_episodes(tmp_path):
    run = write_run(tmp_path, "S", 0, np.zeros(20))
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    lines[-2].update({"episode/return": 1.0, "episode/count": 30})
    lines[-1].update({"episode/return": 5.0, "episode/count": 10})
    (run.path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_seed(run).final(BUDGET) == pytest.approx(2.0)


def test_the_final_window_ends_with_the_update_that_reaches_the_budget(tmp_path):
    run = write_run(tmp_path, "S", 0, [0.0, 0.0, 1.0], reached=1.2)
    assert read_seed(run).final(BUDGET) == 1.0


def test_torn_lines_missing_columns_and_values_that_are_no_numbers_are_left_out(tmp_path):
    run = write_run(tmp_path, "S", 0, [0.5] * 10)
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"agent_steps": 100000, "episode/return": NaN, "episode/count": 3, "surprise": [1]}\n')
        file.write('{"agent_steps": null}\n{"wall_s": 3}\n"text"\n')
        file.write('{"agent_steps": 110000, "episode/return": "high"}\n')
        file.write('{"agent_steps": 120000, "episode/ret')
    seed = read_seed(run)
    assert seed.reached == 110000
    assert np.isnan(seed.final(BUDGET))
    assert seed.trailing_mean(np.array([95_000.0]), 10_000)[0] == 0.5
    assert seed.max_gap == 1e-6


def test_a_stretch_that_was_repeated_after_a_resume_counts_once(tmp_path):
    run = write_run(tmp_path, "S", 0, [0.0] * 10)
    for at in (80_000, 90_000, 100_000):
        run.append_metrics({"agent_steps": at, "episode/return": 1.0, "episode/count": 10})
    seed = read_seed(run)
    assert len(seed.agent_steps) == 10
    assert seed.final(BUDGET) == 1.0


def test_running_and_failed_runs_are_named_and_not_counted(tmp_path):
    write_arm(tmp_path, "S", [0.9, 0.9])
    write_run(tmp_path, "S", 2, rising(0.1), reached=0.5, status=None)
    write_run(tmp_path, "S", 3, rising(0.1), reached=0.2, status="failed")
    environment = only(find_runs(tmp_path))
    assert [seed.info.seed for seed in environment.arms["S"].seeds] == [0, 1]
    assert [seed.status for seed in environment.arms["S"].partial] == ["running", "failed"]
    notes = " ".join(environment.notes)
    assert "1 running (world_S.s2)" in notes
    assert "1 failed (world_S.s3), not counted: because" in notes


def test_of_two_runs_of_a_seed_the_one_at_the_budget_counts_and_the_other_is_named(tmp_path):
    write_arm(tmp_path, "S", [0.9] * 3)
    write_run(tmp_path, "S", 1, rising(0.1), name="again", reached=0.5, status=None)
    environment = only(find_runs(tmp_path))
    assert environment.arms["S"].finals == pytest.approx([0.9] * 3)
    assert any("S seed 1 stands twice: world_S.s1 used, again left out" in note for note in environment.notes)


def test_unequal_budgets_are_compared_where_most_seeds_got_to(tmp_path):
    write_matrix(tmp_path, {"S": [0.9] * 3, "S~": [0.5] * 3})
    for seed in (3, 4):
        write_run(tmp_path, "S", seed, np.r_[rising(0.9), np.full(40, 7.0)], budget=2 * BUDGET)
    environment = only(find_runs(tmp_path))
    assert environment.budget == BUDGET
    assert environment.arms["S"].finals == pytest.approx([0.9] * 5)
    assert any("budgets differ" in note for note in environment.notes)


def test_one_short_pilot_does_not_cut_all_other_curves(tmp_path):
    write_arm(tmp_path, "S", [0.9] * 8)
    write_run(tmp_path, "S", 8, rising(0.1), budget=1000)
    environment = only(find_runs(tmp_path))
    assert environment.budget == BUDGET
    assert len(environment.arms["S"].seeds) == 8


def test_an_arm_is_inconsistent_beyond_what_its_precision_allows(tmp_path):
    for arm, gap, precision in (("a", 2e-3, "float32"), ("b", 2e-3, "bf16"), ("c", 0.06, "bf16"), ("d", None, "bf16")):
        write_run(tmp_path, arm, 0, rising(0.9), gap=gap, precision=precision)
    arms = only(find_runs(tmp_path)).arms
    assert [arms[name].consistent for name in "abcd"] == [False, True, False, None]


def test_only_twins_and_attention_over_nothing_cannot_remember(tmp_path):
    cases = {"S": ("S", 0, True), "X0": ("X", 0, False), "XX0": ("X, X", 0, False), "XS0": ("XS", 0, True)}
    cases |= {"X16": ("X", 16, True), "S~": ("S", 16, False), "layers": (["X", "X^"], 0, False)}
    cases |= {"caret": ("X^", 0, False)}
    for arm, (pattern, mem_len, _) in cases.items():
        write_run(tmp_path, arm, 0, rising(0.9), pattern=pattern, mem_len=mem_len)
    arms = only(find_runs(tmp_path)).arms
    assert {name: arm.remembers for name, arm in arms.items()} == {name: case[2] for name, case in cases.items()}


def test_a_run_whose_last_returns_are_no_numbers_is_left_out_and_named(tmp_path):
    write_run(tmp_path, "S", 0, np.r_[rising(0.9), [np.nan] * 10])
    environment = only(find_runs(tmp_path))
    assert environment.arms["S"].seeds == []
    assert "world_S.s0: no finished episode with a return" in environment.notes[0]


def test_a_run_without_any_metrics_or_files_besides_run_json_is_partial(tmp_path):
    write_run(tmp_path, "S", 0, rising(0.9))
    for file in ("metrics.jsonl", "exit.json", "config.yaml"):
        (tmp_path / "world_S.s0" / file).unlink()
    (arm,) = only(find_runs(tmp_path)).arms.values()
    assert arm.seeds == []
    assert len(arm.partial) == 1


def test_no_runs_a_wrong_name_and_damaged_directories_are_one_line_each(tmp_path):
    with pytest.raises(UsageError, match=r"^no runs of 'nothing' to report on$"):
        load([], "nothing")
    write_run(tmp_path, "S", 0, rising(0.9))
    write_run(tmp_path, "S", 1, rising(0.9), matrix="other")
    with pytest.raises(UsageError, match=r"several matrices \(other, test\)"):
        load(find_runs(tmp_path), "folder")
    assert len(only(find_runs(tmp_path)).arms["S"].seeds) == 1
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    _, notes = load(find_runs(tmp_path), "test")
    (note,) = notes
    assert note.startswith("broken: run.json cannot be read: it is not valid JSON (")
    with pytest.raises(UsageError, match="broken"):
        load([Run(tmp_path / "broken")], "test")
