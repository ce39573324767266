"""`memexp launch pilots`: rungs that follow one another, each a matrix; what is promoted and why."""

import json

import pytest
import yaml
from helpers.commands import type_command
from helpers.synthetic_runs import rising, write_run

from memexp.launch.pilots import slug
from memexp.runs import Run

MATRIX = {
    "name": "corridor",
    "environments": {"long": {"recipe": "recipes.controls.tmaze_cue", "args": {"length": 60}}},
    "architectures": {"S": {"pattern": "S"}, "L": {"pattern": "L"}},
    "steps": ["270k"],
    "overrides": {"wandb.mode": "disabled"},
    "pilots": {"settings": {"long": [{"length": 2}, {"length": 6}, {"length": 30}, {"length": 90}]}, "rungs": 2},
}


@pytest.fixture
def launch(tmp_path, capsys):
    """Writes a matrix file and types `memexp launch pilots` about it."""

    def launch(*words, **changes):
        file = tmp_path / "corridor.yaml"
        file.write_text(yaml.safe_dump(MATRIX | changes))
        return type_command(capsys, "launch", "pilots", str(file), "--local", *words)

    return launch


def finish(home, launch, finals):
    """Ends every run of the rung that is due as if it had been trained; `finals`: setting -> final return."""
    shown = launch("--dry-run", "--json").out
    plan = json.loads(shown[shown.rindex("\n{") : shown.rindex("}") + 1])
    for planned in plan["runs"]:
        setting = planned["env"]
        returns, budget = rising(finals[setting], 0.5), planned["agent_steps"]
        run = write_run(
            home / "runs", "S", planned["seed"], returns, name=planned["run"], env=planned["env"],
            matrix=plan["name"], budget=budget, random_return=0.5, ceiling_return=1.0,
        )  # fmt: skip
        run.write_config(config_of(planned["arguments"]))


def config_of(arguments):
    from memexp.config import parse_overrides
    from memexp.launch.plan.recipe import find_recipe
    from memexp.launch.plan.run_spec import resolve

    recipe, *pairs = arguments
    return resolve(find_recipe(recipe), parse_overrides(pairs)).model_dump()


def test_the_first_rung_plays_every_setting_and_the_environment_as_it_is_with_one_architecture(launch):
    typed = launch("--dry-run")
    assert typed.code == 0
    for setting in ("as-is", "length-2", "length-6", "length-30", "length-90"):
        assert f" {setting} " in typed.out
    assert "rung 1 of 2: 5 settings, 30k agent steps" in typed.out
    assert "10 runs: 10 new" in typed.out
    assert "then the best 2 and as-is, with 90k steps" in typed.out


def test_what_learns_first_is_promoted_then_what_gains_most_and_the_task_as_it_is_always(home, launch):
    finals = {"as-is": 0.5, "length-2": 1.0, "length-6": 0.8, "length-30": 0.51, "length-90": 0.5}
    finish(home, launch, finals)
    typed = launch("--dry-run")
    assert "1. length-2: return 1, 1 (random 0.5): shows learning from" in typed.out
    lines = {line.split(":")[0].split()[1]: line for line in typed.out.splitlines() if "(random" in line}
    promoted = [name for name, line in lines.items() if line.endswith("goes on")]
    assert sorted(promoted) == ["as-is", "length-2", "length-6"]
    assert "rung 2 of 2: 3 settings, 90k agent steps" in typed.out
    assert "6 runs: 6 new" in typed.out
    finish(home, launch, finals)
    typed = launch()
    assert typed.code == 0
    assert "length-2 shows learning first: put length=2 into its args" in typed.out
    assert typed.out.count("nothing to launch") == 2


def test_a_setting_that_is_no_better_than_the_random_policy_is_not_said_to_learn(home, launch):
    finish(home, launch, dict.fromkeys(("as-is", "length-2", "length-6", "length-30", "length-90"), 0.51))
    typed = launch("--dry-run")
    assert typed.out.count("no learning") == 5
    assert "rung 2 of 2" in typed.out


def test_settings_are_suggested_for_the_environments_that_were_measured(launch):
    lines = "recipes.experiment.cortex_paper.2_memory_needed.assembly_lines_train.train"
    typed = launch("--dry-run", environments={"lines": {"recipe": lines}}, pilots={"arch": "L"})
    assert " num_vibes-0 " in typed.out
    assert "L" in typed.out


def test_steps_and_seeds_are_those_of_the_first_rung(launch):
    typed = launch("--dry-run", "--steps", "4k", "--seeds", "3")
    assert "rung 1 of 2: 5 settings, 4k agent steps" in typed.out
    assert "15 runs" in typed.out


def test_the_founding_matrix_has_pilots_of_its_own(capsys, home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # names are not broken
    typed = type_command(capsys, "launch", "pilots", "experiments.yaml", "--local", "--dry-run")
    assert typed.code == 0, typed.err
    assert "cvc_random_maps, rung 1 of 3" in typed.out
    assert "initial_inventory_buckets" in typed.out
    assert "xl_memlen0" not in typed.out
    assert "assembly_lines, rung 1 of 2: 4 settings, 74m agent steps" in typed.out


@pytest.mark.parametrize(
    ("changes", "code", "line"),
    [
        ({"pilots": {"arch": "Z"}}, 2, "pilots: unknown architecture 'Z'; known: L, S"),
        ({"pilots": {"settings": {"lnog": [{"length": 1}]}}}, 2, "unknown environment 'lnog'; did you mean 'long'?"),
        ({"pilots": {"rnugs": 2}}, 2, "did you mean 'rungs'?"),
        ({"pilots": {"settings": {"long": [{"lenght": 1}]}}}, 2, "did you mean 'length'?"),
        ({"pilots": {}}, 1, "no setting of knobs is known for long: list some under `pilots: settings:`"),
    ],
)
def test_wrong_pilots_are_one_line(changes, code, line, launch, home):
    typed = launch("--dry-run", **changes)
    assert typed.code == code
    assert line in typed.err
    assert typed.err.count("\n") == 1
    assert not home.exists()


def test_a_setting_has_a_name_that_depends_on_nothing_else():
    assert slug({"num_vibes": 0}) == "num_vibes-0"
    assert slug({"map_width": [30, 30], "map_height": 30}) == "map_width-30.map_height-30"
    long = {f"knob_number_{i}": [i, i + 1] for i in range(9)}
    assert slug(long) == slug(dict(long))
    assert len(slug(long)) <= 40
    assert slug(long) != slug({**long, "knob_number_8": [1, 2]})


@pytest.mark.slow
def test_pilots_are_trained_rung_by_rung_and_the_same_command_runs_nothing_again(home, launch):
    pilots = {"settings": {"long": [{"length": 1}, {"length": 40}]}, "rungs": 2, "steps": "2k", "seeds": 1}
    small = {"trainer.num_envs": 16, "trainer.horizon": 16, "evaluation.random_episodes": 20}
    changes = {"pilots": pilots, "overrides": {**MATRIX["overrides"], **small}}
    typed = launch("--jobs", "1", **changes)
    assert typed.code == 0, typed.err
    assert "rung 2 of 2: 2 settings, 6k agent steps" in typed.out
    runs = {run.name: run.exit.agent_steps for run in map(Run, (home / "runs").iterdir())}
    assert len(runs) == 5
    again = launch("--jobs", "1", **changes)
    assert again.out.count("nothing to launch") == 2
    assert {run.name: run.exit.agent_steps for run in map(Run, (home / "runs").iterdir())} == runs
