"""Runs of different environments are not pooled, whatever their names say; a matrix file is reported as it is now."""

import json

import pytest
import yaml
from helpers.commands import type_command
from helpers.synthetic_runs import rising, write_run

from memexp.analysis.load import load
from memexp.config import UsageError
from memexp.runs import find_runs

V1 = {"gymnasium": "1.0.0", "mine.world": "aaaa", "mine.rewards": "1111"}
V2 = {**V1, "mine.rewards": "2222"}


def written(folder, arm, seed, origin, time="2026-01-01", knobs=None, **more):
    run = write_run(folder, arm, seed, rising(0.9), environment=origin, **more)
    run.write_provenance({"time": f"{time}T00:00:0{seed}Z"})
    run.write_config({"trainer": {"precision": "float32"}, **({"env": knobs} if knobs else {})})
    return run


def loaded(folder):
    environments, notes = load(find_runs(folder), "test")
    return {name: sorted(seed.run for seed in one.seeds) for name, one in environments.items()}, notes


def both_arms(folder, seeds, origin, **more):
    for arm in ("S", "S~"):
        for seed in seeds:
            written(folder, arm, seed, origin, **more)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ((V1, {}), (V2, {}), "mine.rewards 1111, now 2222"),
        ((V1, {}), ({**V1, "gymnasium": "1.1.0"}, {}), "gymnasium 1.0.0, now 1.1.0"),
        ((V1, {}), ({**V1, "mine.more": "3333"}, {}), "mine.more absent, now 3333"),
        ((V1, {"length": 6}), (V1, {"length": 7}), "length 6, now 7"),
        ((None, {"options": {"size": 1}}), (None, {"options": {"size": 2}}), "options {'size': 1}, now {'size': 2}"),
        ((V1, {}), ({**V1, "mine.rewards": "1111, then 2222"}, {}), "mine.rewards 1111, now 1111, then 2222"),
    ],
)
def test_runs_with_different_code_are_shown_apart_and_named(tmp_path, old, new, named):
    both_arms(tmp_path, (0, 1), old[0], knobs=old[1])
    both_arms(tmp_path, (2, 3), new[0], knobs=new[1], time="2026-01-02")
    groups, (note, *mixed) = loaded(tmp_path)
    assert ["changed while it trained" in one for one in mixed] == [True] * (4 if ", then" in named else 0)
    assert groups == {
        "world": ["world_S.s2", "world_S.s3", "world_S_off.s2", "world_S_off.s3"],
        "world @1": ["world_S.s0", "world_S.s1", "world_S_off.s0", "world_S_off.s1"],
    }
    assert "'world @1'" in note
    assert note.endswith(named)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"knobs": {"length": 6, "backend": "multiprocessing", "workers": 3, "reward_scale": 2.0}},
        {"knobs": {"length": 6, "newer_key": 1}},
    ],
)
def test_what_does_not_change_the_world_is_pooled_in_silence(tmp_path, change):
    both_arms(tmp_path, (0, 1), V1, knobs={"length": 6, "backend": "serial"})
    both_arms(tmp_path, (2, 3), V1, **{"knobs": {"length": 6}, **change})
    groups, notes = loaded(tmp_path)
    assert (list(groups), notes) == (["world"], [])


def test_arms_may_differ_in_wrappers_and_knobs_on_purpose_but_not_in_versions(tmp_path):
    written(tmp_path, "S", 0, V1, knobs={"length": 6})
    written(tmp_path, "T", 0, {**V1, "mine.wrappers": "4444"}, knobs={"length": 7})
    assert list(loaded(tmp_path)[0]) == ["world"]
    written(tmp_path, "U", 0, V2, time="2026-02-01")
    groups, _ = loaded(tmp_path)
    assert groups == {"world": ["world_U.s0"], "world @1": ["world_S.s0", "world_T.s0"]}


def test_seeds_of_one_arm_with_different_cells_are_not_pooled_but_arms_are(tmp_path):
    both_arms(tmp_path, (0,), V1, cells={"cells": "1111"})
    written(tmp_path, "T", 0, V1, cells={"cells": "2222"})
    written(tmp_path, "T", 1, V1)  # of an older memexp: not known
    assert list(loaded(tmp_path)[0]) == ["world"]
    both_arms(tmp_path, (1,), V1, cells={"cells": "2222"}, time="2026-02-01")
    groups, (note,) = loaded(tmp_path)
    assert groups["world @1"] == ["world_S.s0", "world_S_off.s0"]  # T, whose code did not change, is in the newest
    assert note.endswith("cells 1111, now 2222")


def test_runs_that_do_not_say_their_environment_are_pooled_with_a_note(tmp_path):
    both_arms(tmp_path, (0,), None)
    assert loaded(tmp_path)[1] == []
    both_arms(tmp_path, (1,), V1)
    groups, (note,) = loaded(tmp_path)
    assert list(groups) == ["world"]
    assert note.startswith("2 runs of 'world' (world_S.s0, world_S_off.s0) do not say")


# A matrix file as it is now.

MATRIX = {
    "name": "test",
    "environments": {"world": {"recipe": "recipes.controls.tmaze"}},
    "architectures": {"S": {"pattern": "S"}, "L": {"pattern": "L"}},
    "steps": ["100k"],
    "seeds": 2,
}


@pytest.mark.parametrize(
    ("change", "left", "named"),
    [
        ({}, {"S", "S~", "L", "L~"}, None),
        (
            {"architectures": {"S": {"pattern": "S"}, "LSTM": {"pattern": "L"}}},
            {"S", "S~"},
            "L of world (2 runs), L~ of",
        ),
        ({"twins": False}, {"S", "L"}, "S~ of world (2 runs)"),
        ({"exclude": [{"arch": "L"}]}, {"S", "S~"}, "L of world (2 runs), L~ of world (2 runs)"),
    ],
)
def test_arms_that_the_file_no_longer_has_are_left_out_and_named(tmp_path, home, capsys, change, left, named):
    for arm in ("S", "S~", "L", "L~"):
        for seed in (0, 1):
            write_run(home / "runs", arm, seed, rising(0.9))
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(MATRIX | change))
    typed = type_command(capsys, "report", str(tmp_path / "test.yaml"), "--json")
    answer = json.loads(typed.out)
    assert answer["environments"]["world"]["arms"].keys() == left
    assert [note for note in answer["notes"] if "left out" in note and str(named) in note] == answer["notes"]
    assert bool(answer["notes"]) == bool(named)
    by_name = json.loads(type_command(capsys, "report", "test", "--json").out)
    assert len(by_name["environments"]["world"]["arms"]) == 4


def test_a_file_of_which_no_run_is_left_says_so(tmp_path, home, capsys):
    write_run(home / "runs", "S", 0, rising(0.9), env="old_name")
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(MATRIX))
    typed = type_command(capsys, "report", str(tmp_path / "test.yaml"))
    assert typed.code == 2
    assert "no longer has them: S of old_name (1 run)" in typed.err


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [
        ({"name": "a"}, {"name": "b", "status": "failed"}, "a"),
        ({"name": "a", "status": "preempted"}, {"name": "b"}, "b"),
        ({"name": "a", "reached": 0.97}, {"name": "b"}, "b"),
        ({"name": "b"}, {"name": "a"}, "b"),
    ],
)
def test_two_runs_of_one_arm_and_seed_are_both_named_with_the_rule(tmp_path, one, other, counts):
    for more in (one, other):
        write_run(tmp_path, "S", 0, rising(0.9), **more)
    environments, _ = load(find_runs(tmp_path), "test")
    (seed,) = environments["world"].arms["S"].seeds
    (note,) = [note for note in environments["world"].notes if "stands twice" in note]
    assert seed.run == counts
    assert f"{counts} used, {'ab'.replace(counts, '')} left out (first counts what" in note


@pytest.mark.parametrize(
    ("columns", "lacking"),
    [
        ([{"env/success": 1.0, "lacking/success": 4}] + [{"env/success": 1.0}] * 39, 4),
        ([{}] * 30 + [{"env/success": 1.0}] * 10, 300),  # no episode of an update has it
        ([{"env/success": 0.5, "lacking/success": 1}] * 2 + [{}] * 2 + [{"env/success": 1.0}] * 36, 22),
    ],
)
def test_a_run_with_episodes_that_lack_the_metric_is_named_and_not_judged(tmp_path, columns, lacking):
    """Success that is told only where there is some would be 1 from the first success on."""
    write_run(tmp_path, "S", 0, rising(0.9), metric="success", random_metric=0.1, columns=columns)
    said = f"world_S.s0: metric: {lacking} of 400 episodes have no 'success' at their end"
    with pytest.raises(UsageError, match=said):
        load(find_runs(tmp_path), "test")
    write_run(tmp_path, "S", 1, rising(0.9), metric="success", random_metric=0.1, columns={"env/success": 0.25})
    environments, (note,) = load(find_runs(tmp_path), "test")
    assert [seed.info.seed for seed in environments["world"].arms["S"].seeds] == [1]
    assert note.startswith(said)


def test_runs_of_one_arm_are_judged_by_one_metric(tmp_path):
    """That of the matrix file, else that of most runs; the random level of another metric is not taken."""
    for seed, metric in enumerate(["success", "success", "score"]):
        columns = {"env/success": 0.25, "env/score": 7.0}
        write_run(tmp_path, "S", seed, rising(0.9), metric=metric, random_metric=0.1, columns=columns)
    for stated, metric, final, random in (
        (None, "success", 0.25, [0.1, 0.1]),
        ({"world": {"metric": "score"}}, "score", 7.0, [0.1]),
        ({"world": {"metric": "return"}}, "return", 0.9, [0.0] * 3),
    ):
        environments, notes = load(find_runs(tmp_path), "test", stated)
        world = environments["world"]
        assert len(world.arms["S"].seeds) == 3
        assert world.arms["S"].finals == pytest.approx(final, abs=0.05)
        assert world.random_returns.tolist() == random
        assert f"are judged by {metric}, too" in notes[0]
    _, notes = load(find_runs(tmp_path), "test", {"world": {"metric": "return"}})
    assert "runs that were made for score, success are judged by return" in notes[0]
