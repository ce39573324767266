"""What the report says about settings: the trials of each arm, the edge of the list, the better twin, sensitivity."""

import json

import pytest
from helpers.synthetic_runs import rising, write_run

from memexp.analysis.answer import answer
from memexp.analysis.answer_json import answer_json
from memexp.analysis.figures import PICTURES
from memexp.analysis.figures.style import svg_of
from memexp.analysis.report import write_markdown, write_report
from memexp.runs import find_runs

RATE = "trainer.learning_rate"


def write(folder, arm, rate, finals, kind=None):
    """Runs of an arm at a learning rate: judged ones, or (`kind`) trials of it."""
    for number, final in enumerate(finals):
        first = {None: 0, "tune": 1000, "sensitivity": 2000}[kind]
        run = write_run(
            folder, f"{arm} {rate}" if kind else arm, first + number, rising(final, 0.5), random_return=0.5,
            name=f"{arm.replace('~', '-off').replace('@', '-at-')}.{kind}.{rate}.{number}",
            memory="off" if "~" in arm else "on", twin_of="S" if "@" in arm else None,
            tuning={"arm": arm, "kind": kind, "values": {RATE: rate}} if kind else None,
        )  # fmt: skip
        run.write_config({"trainer": {"precision": "float32", "learning_rate": rate}})


def texts(folder):
    found = answer(find_runs(folder), "test")
    one = found.environments["world"]
    return found, one, " ".join(answer_json(found)["environments"]["world"]["tuning"]["reason"])


@pytest.fixture
def tuned(tmp_path):
    for rate, final in ((3e-4, 0.55), (1e-3, 0.8), (3e-3, 0.97)):
        write(tmp_path, "S", rate, [final, final + 0.01], "tune")
        write(tmp_path, "S~", rate, [0.5, 0.6 if rate == 1e-3 else 0.5], "tune")
    write(tmp_path, "S", 3e-3, [0.97, 0.98, 0.99, 0.98, 0.97])
    write(tmp_path, "S~", 1e-3, [0.55, 0.56, 0.54, 0.55, 0.55])
    return tmp_path


def test_the_report_says_what_tuning_found_and_that_the_best_value_is_the_largest_tried(tuned):
    found, one, said = texts(tuned)
    assert list(one.environment.arms) == ["S", "S~"]
    assert {len(arm.seeds) for arm in one.environment.arms.values()} == {5}
    assert "S was tuned: learning_rate 0.003 is the best of 3 settings" in said
    assert "the best learning_rate, 0.003, is the largest tried" in said
    assert said.count("tried") == 1  # the twin's best value lies inside
    assert "The 12 trial runs took 1.2m agent steps" in said
    page = write_report(found, tuned / "page.html").read_text()
    assert "is the largest tried" in page
    assert "Settings that were tried" in page
    assert "is the largest tried" in write_markdown(found, tuned / "page.md").read_text()
    json.dumps(answer_json(found))


def test_the_picture_has_a_row_for_every_setting_of_every_arm(tuned):
    _, one, _ = texts(tuned)
    (picture,) = (picture for picture in PICTURES if picture.name == "settings")
    assert picture.shown(one)
    svg = svg_of(picture, one)
    for arm in ("S", "S~"):
        for rate in ("0.0003", "0.001", "0.003"):
            assert f"{arm}  learning_rate {rate}" in svg
    assert "S~  learning_rate 0.001: 0.55" in picture.alt(one)


@pytest.mark.parametrize(("finals", "twin"), [([0.6] * 5, "S~@S"), ([0.51] * 5, "S~"), ([0.9], "S~")])
def test_memory_is_compared_with_the_better_twin_of_those_with_enough_seeds(tuned, finals, twin):
    write(tuned, "S~@S", 3e-3, finals)
    _, one, said = texts(tuned)
    assert one.memory.pairs["S"].twin.name == twin
    assert "S~@S: the twin at the settings of its arm" in said
    assert one.plans.keys() == {"S", "S~", "S~@S"}


def test_trials_that_changed_after_the_judged_runs_are_named(tuned):
    write(tuned, "S", 1e-2, [1.0, 1.0], "tune")
    _, _, said = texts(tuned)
    assert "S was judged at learning_rate 0.003, but learning_rate 0.01 is better in its trials, which changed" in said


def test_without_trials_a_line_says_that_the_settings_were_not_tuned(tmp_path):
    write(tmp_path, "S", 1e-3, [0.9] * 4)
    _, one, said = texts(tmp_path)
    assert "Settings were not tuned: at learning_rate x 3 or / 3 the effect is unknown" in said
    assert not next(picture for picture in PICTURES if picture.name == "settings").shown(one)


def test_after_a_sensitivity_run_the_effect_at_each_learning_rate_stands_in_its_place(tmp_path):
    for arm, final in (("S", 0.95), ("S~", 0.5)):
        write(tmp_path, arm, 1e-3, [final] * 4)
        write(tmp_path, arm, 3e-3, [final] * 2, "sensitivity")
        write(tmp_path, arm, 3.333e-4, [0.5] * 2, "sensitivity")
    _, one, said = texts(tmp_path)
    assert "not tuned" not in said
    effect = "+0.00 at learning_rate 0.0003333 (2 and 2 seeds), +0.90 at learning_rate 0.001 (4 and 4 seeds), +0.90 at"
    assert f"Effect of the memory of S: {effect}" in said
    assert {len(arm.seeds) for arm in one.environment.arms.values()} == {4}
