"""What to run next says the same as the plan of each arm: run, wait or stop."""

from helpers.synthetic_runs import rising, write_matrix, write_run

from memexp.analysis.answer import answer
from memexp.analysis.answer_json import answer_json
from memexp.runs import find_runs

GOOD = [0.95, 0.97, 0.94, 0.96, 0.93]
HALF = [0.50, 0.52, 0.49, 0.47, 0.51]


def judged(folder):
    return answer_json(answer(find_runs(folder), "test"))["environments"]["world"]


def test_a_matrix_whose_runs_are_all_under_way_only_asks_to_wait(tmp_path):
    for arm in ("S", "S~"):
        for seed in range(5):
            write_run(tmp_path, arm, seed, rising(0.9), reached=0.3, status=None)
    found = judged(tmp_path)
    assert [sentence.split(" for")[0] for sentence in found["next"]] == ["wait"]
    assert found["sequential"]["per_arm"]["S"]["action"] == "wait"


def test_seeds_that_nobody_runs_yet_are_asked_for_beside_those_to_wait_for(tmp_path):
    for arm in ("S", "S~"):
        for seed in range(2):
            write_run(tmp_path, arm, seed, rising(0.9), reached=0.3, status=None)
    found = judged(tmp_path)
    assert found["next"][1].startswith("run 3 more seeds of arms S, S~ (--seeds 5)")


def test_failed_runs_are_asked_for_again_once_and_not_as_new_seeds(tmp_path):
    for arm in ("S", "S~"):
        for seed in range(5):
            write_run(tmp_path, arm, seed, rising(0.9), reached=0.3, status="failed")
    found = judged(tmp_path)
    assert [sentence.split(":")[0] for sentence in found["next"]] == ["launch the matrix again"]
    assert found["sequential"]["per_arm"]["S"]["seeds"] == [0, 1, 2, 3, 4]


def test_runs_that_can_change_no_verdict_are_neither_waited_for_nor_launched_again(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    write_run(tmp_path, "S", 5, rising(0.9), reached=0.3, status=None)
    write_run(tmp_path, "S~", 5, rising(0.5), reached=0.3, status="failed")
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "required"
    assert found["sequential"]["per_arm"]["S"]["action"] == "stop"
    assert found["next"] == []


def test_help_is_a_final_answer_where_a_policy_without_memory_solves_it_too(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": [0.80, 0.79, 0.82, 0.81, 0.80]})
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "helps"
    assert found["until_answered"]["reason"] == "answered: helps"
    assert found["sequential"]["per_arm"]["S"]["because"] == "the environment's verdict is certain: helps"
    assert found["next"] == []


def test_help_is_no_final_answer_where_nobody_solves_it_yet(tmp_path):
    write_matrix(tmp_path, {"S": [0.70, 0.69, 0.71, 0.70, 0.72], "S~": HALF})
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "helps"
    assert not found["until_answered"]["reason"].startswith("answered")
