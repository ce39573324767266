"""A tuned matrix: trials on seeds of their own, then every arm and its twin at their best setting."""

import json

import pytest
import yaml
from helpers.commands import type_command
from helpers.synthetic_runs import rising, write_run

from memexp.config import UsageError, parse_overrides
from memexp.launch.local import Outcome
from memexp.launch.plan.matrix import Matrix
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.run_spec import resolve
from memexp.runs import Exit, Run, find_runs

MATRIX = {
    "name": "tuned",
    "environments": {"maze": {"recipe": "recipes.controls.tmaze"}},
    "architectures": {"S": {"pattern": "S"}},
    "steps": ["9k"],
    "seeds": 3,
    "tune": {"trainer.learning_rate": [3e-4, 1e-3, 3e-3]},
    "overrides": {"wandb.mode": "disabled"},
}
RATE = "trainer.learning_rate"


@pytest.fixture
def launch(tmp_path, capsys):
    """Writes a matrix file and types `memexp launch` about it."""

    def launch(*words, **changes):
        file = tmp_path / "tuned.yaml"
        file.write_text(yaml.safe_dump(MATRIX | changes))
        return type_command(capsys, "launch", str(file), "--local", *words)

    return launch


def planned(launch, **changes):
    """The runs of the plan: name -> (its entry, its config)."""
    plan = json.loads(launch("--dry-run", "--json", **changes).out)
    found = {}
    for run in plan["runs"]:
        recipe, *pairs = run["arguments"]
        found[run["run"]] = run, resolve(find_recipe(recipe), parse_overrides(pairs))
    return found


def finish(home, launch, final, **changes):
    """Ends every run that is due as if it had been trained; `final`: (arm, rate) -> return; None: it failed."""
    for name, (run, config) in planned(launch, **changes).items():
        if run["later"] or run["state"] != "new":
            continue
        tuning = config.labels.tuning
        value = final(tuning["arm"] if tuning else config.arm, config.trainer.learning_rate)
        made = write_run(
            home / "runs", config.arm, config.seed, rising(value or 0.5, 0.5), name=name, env="maze", matrix="tuned",
            budget=run["agent_steps"], random_return=0.5, tuning=tuning, memory=config.cortex.memory,
        )  # fmt: skip
        made.write_config(config.model_dump())
        if value is None:
            made.finish(Exit(status="failed", reason="NaN"))


def test_every_arm_and_its_twin_try_the_same_settings_on_seeds_that_are_never_judged(launch):
    runs = planned(launch)
    trials = [config for _, config in runs.values() if config.labels.tuning]
    tried = {(c.labels.tuning["arm"], c.trainer.learning_rate, c.seed, c.cortex.memory) for c in trials}
    arms = (("S", "on"), ("S~", "off"))
    rates = MATRIX["tune"][RATE]
    assert tried == {(arm, rate, seed, m) for arm, m in arms for rate in rates for seed in (1000, 1001)}
    judged = [(run, config) for run, config in runs.values() if not config.labels.tuning]
    assert {config.seed for _, config in judged} == {0, 1, 2}
    assert {config.arm for _, config in judged} == {"S", "S~", "S~@S"}
    assert all(run["later"] for run, _ in judged)


def test_the_plan_counts_what_tuning_costs_and_what_follows(launch):
    typed = launch("--dry-run")
    assert "21 runs: 12 new, 9 later; 12 to launch, 9 when these have ended" in typed.out
    rows = [line.split() for line in typed.out.splitlines() if line.startswith(" maze")]
    assert [" ".join(row[1:-6]) for row in rows] == ["S, 3 trials", "S~, 3 trials", "S", "S~", "S~@S"]


def test_a_budget_holds_for_the_trials_and_the_runs_that_follow():
    from memexp.launch.plan.cost import Estimate
    from memexp.launch.plan.plan import Plan, PlannedRun
    from memexp.runs.status import State

    hour = Estimate(1.0, 2.0, 3.0)
    run = PlannedRun(None, State.NEW, hour)  # type: ignore[arg-type]
    later = PlannedRun(None, State.NEW, hour, is_later=True)  # type: ignore[arg-type]
    plan = Plan("tuned", [run, later, later], None, {})
    assert (plan.cost.hours, plan.cost.dollars) == (3.0, [6.0, 9.0])
    assert len(plan.due) == 1
    assert Plan("tuned", [run, PlannedRun(None, State.NEW, None, is_later=True)], None, {}).cost is None  # type: ignore[arg-type]


def judged_rates(launch, **changes):
    """Arm -> learning rate of its judged runs, of the arms whose trials have ended."""
    found = {}
    for run, config in planned(launch, **changes).values():
        if not config.labels.tuning and not run["later"]:
            found.setdefault(config.arm, set()).add(config.trainer.learning_rate)
    return {arm: rates.pop() for arm, rates in found.items() if len(rates) == 1}


@pytest.mark.parametrize(
    ("final", "judged"),
    [
        (lambda arm, rate: 0.9 if (rate > 2e-3) == (arm == "S") else 0.6, {"S": 3e-3, "S~": 1e-3, "S~@S": 3e-3}),
        (lambda arm, rate: 0.9 if rate == 3e-4 else 0.6, {"S": 3e-4, "S~": 3e-4}),  # the twins are one
        (lambda arm, rate: 0.9, {"S": 3e-3, "S~": 3e-3}),  # ties: nearest to the recipe's 2e-3
        (lambda arm, rate: None if rate == 3e-3 else rate, {"S": 1e-3, "S~": 1e-3}),  # a failed run cannot win
        (lambda arm, rate: None if arm == "S~" else 0.9, {"S": 3e-3}),  # no trial of the twin was completed
    ],
)
def test_the_best_setting_of_each_is_judged_and_the_twin_at_the_settings_of_its_arm_too(home, launch, final, judged):
    finish(home, launch, final)
    assert judged_rates(launch) == judged
    assert judged_rates(launch) == judged  # the same command finds the same
    out = launch("--dry-run").out
    assert f"maze S: trainer.learning_rate={judged['S']} (best of 3 in 2 trial seeds: return" in out


@pytest.mark.parametrize("status", ["completed", None])
@pytest.mark.parametrize(
    ("tuning", "final", "best"),
    [
        ({}, lambda arm, rate: 0.9, "0.003"),  # ties: nearest to the recipe's 2e-3, not the first of the list
        ({}, lambda arm, rate: 0.9 if rate < 2e-3 else 0.6, "0.001"),
        ({}, lambda arm, rate: None if rate == 3e-3 else rate, "0.001"),
        ({"rungs": 2, "seeds": 1}, lambda arm, rate: 0.9 if rate == 3e-3 else 0.6, "0.003"),
    ],
)
def test_the_report_names_the_setting_that_the_launch_started(home, launch, capsys, tuning, final, best, status):
    """Also while the judged runs go on (`status` None)."""
    tune = {RATE: [3e-4, 1e-3, 3e-3, 1e-2]} if tuning else MATRIX["tune"]
    changes = {"tuning": tuning, "tune": tune, "twins": False}
    finish(home, launch, final, **changes)
    if tuning:  # the last rung is worse than the first one, in which another setting was tried, too
        finish(home, launch, lambda arm, rate: 0.58 if rate == 3e-3 else 0.55, **changes)
    assert f"maze S: trainer.learning_rate={best} (best of" in launch("--dry-run", **changes).out
    finish(home, launch, lambda arm, rate: 0.9, **changes)
    for run in find_runs(home / "runs"):
        if status is None and not run.info.tuning:
            (run.path / "exit.json").unlink()
            run.write_info(run.info.model_copy(update={"total_timesteps": 90_000}))
    found = json.loads(type_command(capsys, "report", "tuned", "--json").out)["environments"]["maze"]["tuning"]
    assert f"S was tuned: learning_rate {best} is the best of {len(tune[RATE])} settings" in found["reason"][0]


def test_nothing_is_launched_again_and_more_values_are_tried_beside_the_old_ones(home, launch):
    def final(arm, rate):
        return 0.9 if rate == 1e-3 else 0.6

    finish(home, launch, final)
    finish(home, launch, final)
    assert "nothing to launch" in launch().out
    more = {"tune": {RATE: [1e-3, 3e-3, 1e-2]}}
    due = [config for run, config in planned(launch, **more).values() if run["state"] == "new" and not run["later"]]
    assert {(c.labels.tuning or {}).get("values", {}).get(RATE) for c in due} == {1e-2}


def test_other_winners_are_no_runs_of_the_old_name(home, launch):
    finish(home, launch, lambda arm, rate: 0.9 if rate == 1e-3 else 0.6)
    finish(home, launch, lambda arm, rate: 0.9)
    typed = launch("--dry-run", tune={RATE: [3e-4, 3e-3]})
    assert typed.code == 2
    assert "exists with trainer.learning_rate=0.001, not 0.003" in typed.err


def test_bad_settings_are_dropped_early_on_rungs_of_fewer_steps(home, launch):
    changes = {"tune": {RATE: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]}, "tuning": {"rungs": 2, "seeds": 1}}

    def rungs():
        found = [(run, config) for run, config in planned(launch, **changes).values() if config.labels.tuning]
        return {
            (c.trainer.total_timesteps, c.trainer.learning_rate, run["later"])
            for run, c in found
            if c.labels.tuning["arm"] == "S"
        }

    assert sum(steps == 3000 for steps, *_ in rungs()) == 5
    assert sum(steps == 9000 and later for steps, _, later in rungs()) == 2
    finish(home, launch, lambda arm, rate: rate, **changes)
    assert {(steps, rate) for steps, rate, _ in rungs() if steps == 9000} == {(9000, 3e-3), (9000, 1e-2)}
    finish(home, launch, lambda arm, rate: rate, **changes)
    assert judged_rates(launch, **changes) == {"S": 1e-2, "S~": 1e-2}


def test_random_settings_are_the_same_at_every_call_and_more_trials_keep_the_first_ones():
    space = {RATE: {"low": 1e-4, "high": 1e-2, "log": True}, "cortex.d_hidden": [32, 64]}

    def drawn(trials, tune):
        return Matrix.parse(MATRIX | {"tune": tune, "tuning": {"trials": trials}}).settings

    for tune in (space, {RATE: [1e-3, 2e-3, 3e-3], "trainer.gamma": [0.9, 0.99]}):
        assert drawn(5, tune) == drawn(5, tune) == drawn(6, tune)[:5]
    assert all(1e-4 <= one[RATE] <= 1e-2 for one in drawn(20, space))
    whole = {"cortex.d_hidden": {"low": 8, "high": 64}}
    assert all(isinstance(one["cortex.d_hidden"], int) for one in drawn(5, whole))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tune": {"trainer.learning_rat": [1, 2]}}, "did you mean 'learning_rate'?"),
        ({"tune": {"learning_rate": [1]}}, "tune: 'learning_rate' is no dotted key, such as trainer.learning_rate"),
        ({"tune": {RATE: []}}, f"tune: the list of '{RATE}' is empty"),
        ({"tune": {RATE: 1}}, f"tune: '{RATE}' has one value, 1: give a list"),
        ({"tune": {RATE: [1, 1]}}, "names a value twice"),
        ({"tune": {RATE: ["fast"]}}, "trainer.learning_rate: must be a number"),
        ({"tune": {RATE: {"lo": 1, "high": 2}}}, "unknown key 'lo'; did you mean 'low'?"),
        ({"tune": {RATE: {"low": 2, "high": 1}}, "tuning": {"trials": 2}}, "low: 2 must be below high: 1"),
        ({"tune": {RATE: {"low": 1, "high": 2}}}, "a range needs `trials`"),
        ({"tune": {"trainer.total_timesteps": [1]}}, "is set by the matrix: use `steps`"),
        ({"tune": {"cortex.memory": ["on"]}}, "is set by the matrix: use `twins`"),
        ({"tune": {"wandb.mode": ["offline"]}}, "'wandb.mode' is also set by `overrides`"),
        ({"tune": {"cortex.pattern": ["S"]}}, "'cortex.pattern' is also set by `architectures.S`"),
        ({"tuning": {"trial": 2}}, "did you mean 'trials'?"),
        ({"tuning": {"trials": 4}}, "the lists have 3 combinations, not 4"),
        ({"tune": {}, "tuning": {"trials": 3}}, "tuning: `trials` needs `tune:`"),
        ({"tuning": {"seeds": 90}, "tune": {RATE: [*range(1, 20)]}}, "up to 3,420 runs try the settings"),
        ({"seeds": [5, 1000]}, "seeds: from 1000 on they belong to the runs that try settings"),
    ],
)
def test_wrong_tuning_is_one_line(changes, line, launch, home):
    typed = launch("--dry-run", **changes)
    assert typed.code == 2
    assert line in typed.err
    assert typed.err.count("\n") == 1
    assert not home.exists()


def test_the_sensitivity_of_a_matrix_is_every_arm_at_three_times_and_a_third_of_its_learning_rate(launch, capsys, home):
    typed = launch("--dry-run", "--json", "--sensitivity", tune={})
    runs = [parse_overrides(run["arguments"][1:]) for run in json.loads(typed.out)["runs"]]
    found = {(run["labels.arm"].split()[0], run[RATE], run["seed"]) for run in runs}
    assert found == {
        (arm, rate, seed) for arm in ("S", "S~") for rate in ("0.006", "0.0006667") for seed in ("2000", "2001")
    }
    assert launch("--dry-run", "--sensitivity").code == 2
    assert type_command(capsys, "launch", "tmaze", "--sensitivity", "--dry-run").code == 2


def test_status_names_the_trials_before_and_after_they_begin(launch, home, capsys, tmp_path):
    finish(home, launch, lambda arm, rate: 0.9)
    file = str(tmp_path / "tuned.yaml")
    names = [one["run"] for one in json.loads(type_command(capsys, "status", file, "--json").out)]
    assert len(names) == len(set(names)) == 12 + 6
    assert type_command(capsys, "monitor", file, "--once").code == 0


@pytest.mark.slow
def test_a_tiny_tuned_matrix_is_trained_here_in_one_go(home, launch, capsys):
    small = {"trainer.num_envs": 16, "trainer.horizon": 16, "evaluation.random_episodes": 20}
    changes = {"steps": ["1k"], "seeds": 1, "tuning": {"seeds": 1}, "tune": {RATE: [1e-3, 3e-3]}}
    changes["overrides"] = {**MATRIX["overrides"], **small}
    typed = launch("--jobs", "1", **changes)
    assert typed.code == 0, typed.err
    runs = [Run(path) for path in (home / "runs").iterdir()]
    trials = [run for run in runs if run.info.tuning]
    assert len(trials) == 4
    assert {run.info.arm for run in runs if not run.info.tuning} <= {"S", "S~", "S~@S"}
    assert all(run.exit and run.exit.status == "completed" for run in runs)
    assert "nothing to launch" in launch("--jobs", "1", **changes).out
    found = json.loads(type_command(capsys, "report", "tuned", "--json").out)["environments"]["maze"]
    assert {"S", "S~"} <= found["arms"].keys() <= {"S", "S~", "S~@S"}
    assert found["tuning"]["per_arm"].keys() == {"S", "S~"}


@pytest.mark.parametrize("stopped", [True, False])
def test_no_further_stage_begins_after_a_launch_that_was_stopped(home, launch, monkeypatch, stopped):
    def run_some(specs, *_):
        calls.append(specs)
        for one in specs:
            if one.config.arm.startswith("S") or not stopped:
                config = one.config
                made = write_run(home / "runs", config.arm, config.seed, rising(0.9, 0.5), name=one.run, env="maze",
                                 matrix="tuned", budget=one.agent_steps, tuning=config.labels.tuning)  # fmt: skip
                made.write_config(config.model_dump())
        return Outcome(left=[specs[0].run] if stopped else [])

    calls = []
    monkeypatch.setattr("memexp.launch.launch.run_here", run_some)
    two = {"S": {"pattern": "S"}, "L": {"pattern": "L"}}
    assert launch(architectures=two).code == stopped
    assert len(calls) == (1 if stopped else 2)


def test_a_matrix_with_trials_only_has_nothing_to_judge(home, launch, capsys):
    finish(home, launch, lambda arm, rate: 0.9)
    typed = type_command(capsys, "report", "tuned")
    assert typed.code == 2
    assert "only runs that try settings so far" in typed.err


def test_ranges_are_checked_where_they_are_parsed():
    with pytest.raises(UsageError, match="above 0"):
        Matrix.parse(MATRIX | {"tune": {RATE: {"low": 0, "high": 1, "log": True}}, "tuning": {"trials": 2}})
