"""Hours, dollars and steps/s before anything runs: from what was measured, and nothing is invented."""

import json
import os
import subprocess
import sys
from datetime import date

import pytest
import yaml
from helpers.commands import type_command
from helpers.synthetic_runs import write_run

from memexp.launch.plan.cost import Estimate, Estimator, total
from memexp.launch.plan.plan import make_plan
from memexp.launch.plan.prices import table, table_price
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import recipe_specs
from memexp.launch.plan.throughput import (
    TABLE,
    Figure,
    _read,
    add_figure,
    expected_speed,
    figure_of,
    is_hardware,
    user_table,
)

CVC = find_recipe("cvc_random_maps_train.train")
TMAZE = find_recipe("tmaze")


def spec(recipe=CVC, run="a", **words):
    return recipe_specs(recipe, {"run": run, **words})[0]


def cost(asked, **resources) -> Estimate:
    found = Estimator(Resources(**resources)).estimate(asked)
    assert found is not None
    return found


def test_the_founding_cost_is_what_its_author_measured():
    agsa = cost(spec(pattern="AgSA", **{"trainer.total_timesteps": "2b"}), gpus=8, spot=True)
    assert agsa.hours == pytest.approx(2e9 / 258e3 / 3600)
    assert (agsa.dollars_low, agsa.dollars_high) == (pytest.approx(agsa.hours * 3), pytest.approx(agsa.hours * 10))
    memoryless = cost(spec(**{"trainer.total_timesteps": "2b"}), gpus=8)
    assert memoryless.hours == pytest.approx(1.43, abs=0.01)
    assert memoryless.sps == 390_000


def test_a_pattern_without_a_figure_takes_that_of_a_costlier_one_and_says_so():
    lstm = cost(spec(pattern="S"), gpus=8)
    assert (lstm.sps, lstm.stands_for) == (258_000, "S")
    assert total([lstm]).speed_basis.endswith("in place of S")  # type: ignore[union-attr]


def test_nothing_is_invented_for_machines_of_which_no_figure_is_known():
    assert Estimator(Resources(gpus=0)).estimate(spec()) is None
    assert Estimator(Resources(gpus=1, accelerators=["T4"])).estimate(spec()) is None
    plan = make_plan("a", [spec()], Resources(gpus=0)).as_dict()
    assert (plan["dollars"], plan["machine_hours"]) == (None, None)
    assert json.loads(json.dumps(plan))["due"] == 1


MATRIX = {
    "name": "third",
    "environments": {
        "pendulum": {"recipe": "recipes.any.train", "args": {"env": "gym:Pendulum-v1"}},
        "recall": {"recipe": "recipes.controls.tmaze_cue"},
    },
    "architectures": {"S": {"pattern": "S"}, "X": {"pattern": "X", "mem_len": 64}},
    "steps": ["500m"],
    "seeds": 1,
    "resources": {"gpus": 8},
}


@pytest.fixture
def plan_of(tmp_path, capsys):
    """Writes the matrix file and types `memexp launch` about it, with words."""
    (tmp_path / "third.yaml").write_text(yaml.safe_dump(MATRIX))
    return lambda *words: type_command(capsys, "launch", str(tmp_path / "third.yaml"), *words)


@pytest.mark.parametrize("words", [[], ["--gpus=1"], ["--gpus=0"], ["--nodes=2", "--gpus=1"], ["--local"]])
def test_a_figure_of_another_environment_is_none_and_the_plan_says_what_to_type(home, plan_of, words):
    add_figure(figure_of(spec(TMAZE, pattern="X").config, "cpu", 0, 9e9))  # of another environment
    typed = plan_of("--dry-run", *words)
    assert typed.code == 0
    assert typed.out.count("unknown") == 2 * 8 + 1
    assert "8 to launch (4b agent steps)" in typed.out
    assert "$0" not in typed.out
    assert "pendulum, recall" in typed.out
    assert "memexp bench recipes.any.train env=gym:Pendulum-v1 pattern=S`" in typed.out
    assert ("--scout" in typed.out) == ("--local" in words)


@pytest.mark.parametrize("words", [["--gpus=8"], ["--infra=slurm/mine"], ["--gpus=0"]])
def test_a_budget_does_not_believe_a_cost_that_nobody_has_measured(plan_of, words):
    typed = plan_of("--dry-run", "--budget=1000000", *words)
    assert typed.code == 2
    (line,) = [line for line in typed.err.splitlines() if "--budget" in line]
    assert "the cost of pendulum, recall is unknown" in line


def test_a_figure_never_changes_its_kind_of_machine_and_says_when_it_is_scaled(home):
    asked = spec(TMAZE, pattern="S")
    add_figure(figure_of(asked.config, "cpu", 0, 1000.0).model_copy(update={"hardware": "2-core CPU"}))
    for gpu in ("L4", "H100", "T4"):
        assert expected_speed(asked, gpu, 8) is None
    more = expected_speed(asked, "8-core CPU", 0)
    assert more is not None
    assert (more.sps, more.basis.endswith("scaled from 2 to 8 cores")) == (4000.0, True)
    add_figure(figure_of(asked.config, "NVIDIA L4", 1, 5000.0))
    assert expected_speed(asked, "H100", 1) is None
    eight = expected_speed(asked, "L4", 8)
    assert eight is not None
    assert (eight.sps, eight.basis.endswith("scaled from 1 to 8 GPUs")) == (40_000.0, True)
    same = expected_speed(asked, "L4", 1)
    assert same is not None
    assert "scaled" not in same.basis


def test_the_start_of_a_run_counts_as_long_as_something_is_left(home):
    asked = spec(TMAZE, pattern="S", **{"trainer.total_timesteps": "10k"})
    add_figure(figure_of(asked.config, "cpu", 0, 1000.0, start_s=7.04))
    found = Estimator(None).estimate(asked)
    assert found is not None
    assert found.hours * 3600 == pytest.approx(10 + 7)
    assert found.speed_basis.endswith(", 7 s to start")
    write_run(home / "runs", "S", 0, [0.5], name=asked.run, env="tmaze", budget=10_000)
    found = Estimator(None).estimate(asked)
    assert found is not None
    assert found.hours == 0
    add_figure(figure_of(asked.config, "cpu", 0, 1000.0))  # takes the other's place
    found = Estimator(None).estimate(spec(TMAZE, pattern="S", run="b", **{"trainer.total_timesteps": "10k"}))
    assert found is not None
    assert found.hours * 3600 == pytest.approx(10)


def test_a_figure_of_a_cheaper_architecture_stands_for_no_costlier_one(home):
    asked = spec(TMAZE, pattern="AgSA")
    add_figure(figure_of(spec(TMAZE, pattern="S").config, "NVIDIA L4", 1, 5000.0))
    assert expected_speed(asked, "L4", 1) is None
    add_figure(figure_of(spec(TMAZE, pattern="AgSAM").config, "NVIDIA L4", 1, 500.0))
    found = expected_speed(asked, "L4", 1)
    assert found is not None
    assert (found.sps, found.stands_for) == (500.0, "AgSA")


def test_wrapped_and_plain_environments_have_figures_of_their_own(home):
    recipe, wrapped = find_recipe("any"), {"env.wrappers": '["memexp.envs.wrappers:hide_velocities"]'}
    add_figure(figure_of(spec(recipe, env="gym:CartPole-v1", pattern="S").config, "NVIDIA L4", 1, 5000.0))
    assert expected_speed(spec(recipe, env="gym:CartPole-v1", pattern="S"), "L4", 1)
    assert expected_speed(spec(recipe, env="gym:CartPole-v1", pattern="S", **wrapped), "L4", 1) is None


# A scout run.


@pytest.mark.parametrize("few", [True, False])
def test_scout_runs_are_the_costliest_of_each_environment_and_pattern_and_come_with_a_plan(plan_of, monkeypatch, few):
    monkeypatch.setattr("memexp.launch.scout.MOST_RUNS", 4 if few else 3)
    typed = plan_of("--local", "--scout", "--dry-run")
    assert typed.code == 0
    named = [line for line in typed.err.splitlines() if line.startswith("scout: ")]
    both = [" pendulum, S", " pendulum, X", " recall, S", " recall, X"]
    assert [line.split(":")[1] for line in named] == (both if few else both[1::2])
    attend = [set(line.split()) for line in named if "X:" in line]
    assert all({"pattern=X", "mem_len=64", f"--seconds={22 if few else 45}"} <= words for words in attend)
    assert "hours and dollars: unknown" in typed.out  # nothing was timed


@pytest.mark.parametrize(
    ("words", "why"), [([], "--scout needs --local"), (["--gpus=1", "--bucket=s3://a/b"], "--scout needs --local")]
)
def test_a_scout_run_times_this_machine_only(plan_of, words, why):
    typed = plan_of("--scout", *words)
    assert typed.code == 2
    assert why in typed.err


@pytest.mark.slow
def test_after_a_scout_run_the_plan_knows_its_hours_and_no_run_has_begun(home, plan_of, monkeypatch):
    monkeypatch.setattr("memexp.launch.scout.LEAST_S", 0.0)
    monkeypatch.setattr("memexp.launch.scout.SCOUT_S", 20.0)
    monkeypatch.setattr("memexp.launch.scout.MOST_UPDATES", 1)
    small = ["trainer.num_envs=8", "trainer.horizon=8", "trainer.num_minibatches=1"]
    typed = plan_of("--local", "--scout", "--json", "--select", "env=recall", *small)
    assert typed.code == 0
    runs = json.loads(typed.out)["runs"]
    assert [one["estimate"]["stands_for"] for one in runs] == [""] * 4
    assert len(_read(user_table())) == 2
    assert not (home / "runs").exists()


def test_machines_of_ones_own_take_time_and_no_dollars():
    own = cost(spec(pattern="AgSA"), gpus=8, infra="slurm/mine")
    assert own.hours > 0
    assert own.dollars_high is None


@pytest.mark.parametrize("gpus", [1, 2, 4, 6, 8, 16])
def test_more_gpus_cost_more_and_spot_is_never_dearer(gpus: int):
    price, more = table_price("L4", gpus), table_price("L4", gpus + 1)
    assert price is not None
    assert more is not None
    low, high = price.per_hour(Resources(gpus=gpus))
    assert 0 < low < high < more.on_demand
    assert price.per_hour(Resources(gpus=gpus, spot=False)) == (high, high)
    assert price.per_hour(Resources(gpus=gpus, nodes=2)) == (2 * low, 2 * high)


def test_tables_name_their_source_and_date():
    assert all(figure.source and figure.date <= date.today() for figure in _read(TABLE))
    assert date.fromisoformat(table()["date"]) <= date.today()
    plan = make_plan("a", [spec(pattern="AgSA")], Resources(gpus=8)).as_dict()
    assert "2026-01-01" in plan["estimate"]["speed"]
    assert "2026-01-01" in plan["estimate"]["price"]


def test_what_runs_have_measured_replaces_the_table(home):
    asked = spec(pattern="AgSA", **{"trainer.total_timesteps": "1m"})
    for rate in (100.0, 200.0, 300.0):
        name = f"seed{rate:g}"
        write_run(home / "runs", "AgSA", 1, [0] * 4, env="cvc_random_maps", name=name, matrix=None,
                  hardware="8x NVIDIA L4", columns={"sps": rate})  # fmt: skip
    found = cost(asked, gpus=8)
    assert found.sps == 200.0
    assert found.speed_basis.startswith("measured in seed")
    assert cost(asked, gpus=4).sps == 131_000  # another machine


def test_what_is_left_of_a_run_is_what_it_costs(home):
    whole = cost(spec(pattern="AgSA", **{"trainer.total_timesteps": "1m"}), gpus=8)
    write_run(home / "runs", "other", 1, [0] * 4, name="a", budget=1_000_000, reached=0.75, status=None)
    assert cost(spec(pattern="AgSA", **{"trainer.total_timesteps": "1m"}), gpus=8).hours == pytest.approx(
        whole.hours / 4
    )


def test_a_figure_of_this_machine_goes_before_the_packages_and_replaces_its_own(home):
    asked = spec(TMAZE, pattern="S")
    assert Estimator(None).estimate(asked) is None
    for sps in (1000.0, 2000.0):
        add_figure(figure_of(asked.config, "cpu", 0, sps))
    here = Estimator(None).estimate(asked)
    assert here is not None
    assert (here.sps, here.dollars_high) == (2000.0, 0.0)
    assert len(_read(user_table())) == 1
    figure = figure_of(spec(pattern="AgSA", num_layers="3").config, "NVIDIA L4", 8, 5e5)
    assert (figure.hardware, figure.gpus) == ("L4", 8)
    add_figure(figure)
    assert cost(spec(pattern="AgSA", num_layers="3"), gpus=8).sps == 5e5


def test_a_figure_belongs_to_one_environment_of_other_peoples_and_to_a_list_of_patterns_too(home):
    recipe = find_recipe("any")
    for env, sps in {"gym:CartPole-v1": 9000.0, "gym:Slow-v0": 90.0}.items():
        for pattern in ("S", '["S", "X"]'):
            add_figure(figure_of(spec(recipe, env=env, pattern=pattern, num_layers="2").config, "cpu", 0, sps))
    assert len(_read(user_table())) == 4
    for pattern in ("S", '["S", "X"]'):
        estimate = Estimator(None).estimate(spec(recipe, env="gym:Slow-v0", pattern=pattern, num_layers="2"))
        assert estimate is not None
        assert (estimate.sps, estimate.stands_for) == (90.0, "")


def test_a_figure_is_scaled_to_other_numbers_of_gpus_from_the_nearest_below():
    agsa = spec(pattern="AgSA")
    speeds = {gpus: expected_speed(agsa, "L4", gpus) for gpus in (1, 2, 6, 8)}
    assert [speeds[gpus].sps for gpus in (1, 2, 6, 8)] == [32e3, 64e3, 131e3 * 6 / 4, 258e3]  # type: ignore[union-attr]
    assert expected_speed(agsa, "L4", 8, nodes=2).sps == 2 * 258e3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "kind", "count", "same"),
    [
        ("8x NVIDIA L4", "L4", 8, True),
        ("8x NVIDIA L40S", "L4", 8, False),
        ("4x NVIDIA L4", "L4", 8, False),
        ("1x NVIDIA A100-SXM4-80GB", "A100-80GB", 1, True),
        ("1x NVIDIA H100 80GB HBM3", "H100", 1, True),
        ("2-core CPU", "2-core CPU", 0, True),
    ],
)
def test_hardware_is_recognised_by_its_name(name: str, kind: str, count: int, same: bool):
    assert is_hardware(name, kind, count) == same


def test_the_plan_shows_steps_hours_and_dollars_of_a_run_and_in_total(capsys):
    typed = type_command(capsys, "launch", "cvc_random_maps_train.train", "--gpus=8", "--run=a", "--steps=2b",
                         "pattern=AgSA", "--copies=3", "--dry-run")  # fmt: skip
    assert typed.code == 0
    row = next(line for line in typed.out.splitlines() if "0-2" in line)
    assert {"258,000", "2.15", "6.5-21.5"} <= set(row.split())
    assert "6.5 machine hours, $19-65" in typed.out


@pytest.mark.slow
def test_what_bench_measures_here_is_what_a_plan_for_this_machine_is_made_with(capsys):
    words = ["tmaze", "pattern=S", "trainer.num_envs=16", "trainer.horizon=8"]
    typed = type_command(capsys, "bench", *words, "--updates=2", "--json")
    assert typed.code == 0
    found = json.loads(typed.out)
    assert (found["env"], found["pattern"], found["gpus"], found["source"]) == ("tmaze", "S", 0, "memexp bench")
    (run,) = json.loads(type_command(capsys, "launch", *words, "run=a", "--local", "--dry-run", "--json").out)["runs"]
    assert run["estimate"]["sps"] == found["sps"] > 0


# The budget.


@pytest.mark.parametrize(("budget", "code"), [("10", 1), ("21.53", 1), ("21.54", 0), ("500", 0)])
def test_a_budget_refuses_what_may_cost_more(capsys, budget: str, code: int):
    words = ["cvc_random_maps_train.train", "--gpus=8", "--run=a", "--steps=2b", "pattern=AgSA"]
    typed = type_command(capsys, "launch", *words, "--dry-run", "--budget", budget)
    assert typed.code == code
    assert ("may cost up to $21.53" in typed.err) == bool(code)


def test_a_budget_refuses_what_nobody_knows_the_cost_of(capsys):
    words = ["cvc_random_maps_train.train", "--gpus=8", "--infra=slurm/x", "--run=a"]
    typed = type_command(capsys, "launch", *words, "--dry-run", "--budget=10")
    assert typed.code == 2
    assert "no price is known of these machines" in typed.err


# SkyPilot's catalog.

CATALOG = """InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone,Arch
g6.48xlarge,L4,8.0,192.0,768.0,"{'Gpus': [{'Name': 'L4', 'Manufacturer': 'NVIDIA', 'Count': 8.0, 'MemoryInfo': {'SizeInMiB': 22888}}], 'TotalGpuMemoryInMiB': 183104}",13.35,4.25,us-east-1,us-east-1a,x86_64
g6.48xlarge,L4,8.0,192.0,768.0,"{'Gpus': [{'Name': 'L4', 'Manufacturer': 'NVIDIA', 'Count': 8.0, 'MemoryInfo': {'SizeInMiB': 22888}}], 'TotalGpuMemoryInMiB': 183104}",15.0,4.75,eu-west-1,eu-west-1a,x86_64
"""  # noqa: E501


@pytest.mark.slow
def test_prices_are_taken_from_skypilots_catalog_where_it_is_there(tmp_path):
    import sky.catalog.common as common

    folder = tmp_path / ".sky" / "catalogs" / common.constants.CATALOG_SCHEMA_VERSION / "aws"
    folder.mkdir(parents=True)
    (folder / "vms.csv").write_text(CATALOG)
    command = [
        sys.executable,
        "-m",
        "memexp",
        "launch",
        "cvc_random_maps_train.train",
        "--gpus=8",
        "--run=a",
        "--dry-run",
    ]
    environment = {**os.environ, "HOME": str(tmp_path), "MEMEXP_PRICES_FROM": "catalog"}
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    plan = json.loads(done.stdout)
    assert plan["estimate"]["price"] == "SkyPilot's catalog of aws"
    low, high = plan["dollars"]
    assert (low / plan["machine_hours"], high / plan["machine_hours"]) == (pytest.approx(4.25), pytest.approx(13.35))


def test_a_wrong_table_is_named(home):
    home.mkdir()
    user_table().write_text("- {hardware: L4, gpu: 8}\n")
    with pytest.raises(ValueError, match=r"throughput.yaml: .*gpu"):
        expected_speed(spec(), "L4", 8)
    assert Figure.model_fields["date"].is_required()
