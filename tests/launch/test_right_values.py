"""Costs, budgets, submissions and node prices are the numbers that a reader computes by hand.

Figures used: AgSA on 8 L4 makes 258,000 agent steps/s; a node of 8 L4 costs $10 an hour on demand and $3 on spot; one
L4 costs $1, four cost $5; one H100 costs $5. Without a spot price the share of 8 L4 is taken: 0.3.
"""

import importlib.metadata
import json

import pytest
from helpers.commands import type_command
from helpers.sky import FakeSky
from helpers.synthetic_runs import write_run

from memexp.config import UsageError
from memexp.launch import LaunchError
from memexp.launch.cloud import node, submissions
from memexp.launch.cloud.code import Code
from memexp.launch.cloud.dispatch import check_budget, submissions_of
from memexp.launch.cloud.install import Install
from memexp.launch.cloud.job_queue import read_queue, settle
from memexp.launch.cloud.sky_task import make_task
from memexp.launch.cloud.submit import AT_ONCE, Outcome, submit
from memexp.launch.local import Outcome as LocalOutcome
from memexp.launch.plan.cost import Estimate, Estimator, total
from memexp.launch.plan.plan import Plan, PlannedRun
from memexp.launch.plan.prices import Price, node_prices, table_price
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import RunSpec, recipe_specs
from memexp.launch.plan.throughput import Figure, add_figure, expected_speed, rate_of
from memexp.launch.status.attempts import End, add_end, add_start
from memexp.runs import RESTART, Exit, Run
from memexp.runs.status import State

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SkyPilot's imports
CODE = Install(Code("c0ffee", "https://github.com/a/b", ()))
MAPS, TMAZE = find_recipe("cvc_random_maps_train.train"), find_recipe("tmaze")
HOURS = 2e9 / 258_000 / 3600
"""2.153: AgSA's two billion agent steps on 8 L4."""


def agsa(run: str = "a", **overrides: str) -> RunSpec:
    return recipe_specs(MAPS, {"run": run, "pattern": "AgSA", "trainer.total_timesteps": "2b", **overrides})[0]


def tmaze(run: str = "a") -> RunSpec:
    return recipe_specs(TMAZE, {"run": run})[0]


def estimate(**resources) -> Estimate:
    found = Estimator(Resources(gpus=8, **resources)).estimate(agsa())
    assert found is not None
    return found


# Hours and dollars.


def test_a_run_is_stopped_and_paid_no_longer_than_its_longest_time():
    capped = estimate(max_runtime_hours=1.5)
    assert (capped.hours, capped.dollars) == (1.5, pytest.approx([4.5, 15.0]))
    longer = estimate(max_runtime_hours=3)
    assert (longer.hours, longer.dollars) == (pytest.approx(HOURS), pytest.approx([3 * HOURS, 10 * HOURS]))
    own = estimate(max_runtime_hours=1.5, infra="slurm/mine")
    assert (own.hours, own.dollars) == (1.5, None)


def test_two_nodes_take_half_the_hours_and_cost_as_much():
    two = estimate(nodes=2)
    assert (two.hours, two.sps) == (pytest.approx(HOURS / 2), 516_000)
    assert two.dollars == pytest.approx([3 * HOURS, 10 * HOURS])
    assert estimate(spot=False).dollars == pytest.approx([10 * HOURS, 10 * HOURS])


def test_what_a_run_has_reached_is_not_paid_again_and_never_counts_below_nothing(home):
    write_run(home / "runs", "other", 1, [0.0] * 4, name="a", budget=2_000_000_000, reached=0.25, status=None)
    assert estimate().hours == pytest.approx(0.75 * HOURS)
    done = Estimator(Resources(gpus=8)).estimate(agsa(**{"trainer.total_timesteps": "1k"}))
    assert done is not None
    assert (done.hours, done.dollars) == (0.0, [0.0, 0.0])


def test_a_sum_adds_every_column_and_is_unknown_where_one_of_its_parts_is():
    one, two = Estimate(1.0, 2.0, 3.0, price_basis="p"), Estimate(10.0, 20.0, 30.0, price_basis="p")
    both = total([one, two])
    assert both is not None
    assert (both.hours, both.dollars, both.price_basis) == (11.0, [22.0, 33.0], "p")
    unpriced = total([one, Estimate(10.0)])
    assert unpriced is not None
    assert (unpriced.hours, unpriced.dollars) == (11.0, None)
    assert total([one, None]) is None


@pytest.mark.parametrize(
    ("kind", "gpus", "on_demand", "spot"),
    [("L4", 8, 10.0, 3.0), ("L4", 1, 1.0, 0.3), ("L4", 2, 2.0, 0.6), ("L4", 4, 5.0, 1.5), ("L4", 6, 7.5, 2.25),
     ("L4", 16, 20.0, 6.0), ("H100", 8, 40.0, 12.0)],
)  # fmt: skip
def test_a_node_costs_what_the_nearest_smaller_one_costs_in_proportion(kind, gpus, on_demand, spot):
    price = table_price(kind, gpus)
    assert price is not None
    assert (price.on_demand, price.spot) == (pytest.approx(on_demand), pytest.approx(spot))


def test_kinds_without_a_price_and_machines_of_ones_own_have_none():
    assert table_price("T4", 1) is None
    assert node_prices(Resources(gpus=8, accelerators=["T4", "L4"])).keys() == {"L4"}
    assert node_prices(Resources(gpus=0)) == node_prices(Resources(gpus=8, infra="k8s")) == {}


@pytest.mark.parametrize(
    ("spot", "markets", "low"),
    [(None, {"spot": 3.0, "on_demand": 10.0}, 3.0), (True, {"spot": 3.0}, 3.0), (False, {"on_demand": 10.0}, 10.0)],
)
def test_a_run_is_priced_in_the_markets_where_it_may_be_placed(spot, markets, low):
    price, resources = Price(on_demand=10.0, spot=3.0, source=""), Resources(gpus=8, nodes=3, spot=spot)
    assert price.by_market(resources) == markets
    assert price.per_hour(resources) == (3 * low, 30.0)
    first, *_ = candidates = make_task(tmaze(), resources, CODE)["resources"]["any_of"]
    assert [one["use_spot"] for one in candidates] == [market == "spot" for market in markets for _ in ("L4", "A10G")]
    assert first["accelerators"] == "L4:8"


# Throughput.


def figure(sps: float, **changes) -> Figure:
    known = {"hardware": "T4", "gpus": 4, "env": "cvc_random_maps", "pattern": "AgSA", "num_layers": 4, "d_hidden": 128}
    return Figure.model_validate({**known, "sps": sps, "source": "me", "date": "2026-01-01", **changes})


def test_the_figure_of_the_most_similar_run_counts_then_the_nearest_smaller_machine():
    for sps, changes in {1.0: {"env": "tmaze"}, 2.0: {"d_hidden": 64}, 3.0: {"num_layers": 1}, 400.0: {},
                         800.0: {"gpus": 8}, 5.0: {"pattern": "X", "mem_len": 0}}.items():  # fmt: skip
        add_figure(figure(sps, **changes))

    def sps(gpus: int, **overrides: str) -> float:
        found = expected_speed(agsa(**overrides), "T4", gpus)
        assert found is not None
        return found.sps

    assert (sps(4), sps(6), sps(8), sps(16)) == (400.0, 600.0, 800.0, 1600.0)
    assert sps(2) == 200.0  # none is smaller
    assert sps(4, pattern="X", mem_len="0") == 5.0
    assert sps(4, pattern="X", mem_len="8") == 400.0  # AgSA stands for patterns without a figure
    assert expected_speed(agsa(), "V100", 4) is None


def test_a_runs_rate_is_the_median_of_three_updates_or_more(home):
    run = write_run(home / "runs", "S", 0, [0.0] * 3, name="r", columns={"sps": 7.0})
    assert rate_of(run) == 7.0
    for sps in (100.0, 900.0, 200.0, 300.0):
        run.append_metrics({"agent_steps": 1, "sps": sps})
    assert rate_of(run) == 100.0  # 7 7 7 100 200 300 900
    assert rate_of(write_run(home / "runs", "S", 0, [0.0] * 2, name="short", columns={"sps": 7.0})) is None


# What is due, and the budget.


def plan(*states: str, cost: Estimate | None = None) -> Plan:
    runs = [PlannedRun(tmaze(f"r{at}"), State(state), cost) for at, state in enumerate(states)]
    return Plan("p", runs, Resources(gpus=8, nodes=2), {"L4": Price(10.0, 3.0, "")})


def test_all_but_what_is_done_or_runs_is_due():
    states = ["new", "pending", "running", "recovering", "completed", "failed", "preempted", "cancelled", "interrupted"]
    due = {f"r{at}" for at, state in enumerate(states) if state not in ("running", "completed")}
    assert {spec.run for spec in plan(*states).due} == due


def test_a_budget_allows_what_costs_as_much_and_refuses_a_cent_more():
    two = plan("new", "failed", "completed", "running", cost=Estimate(1.0, 3.0, 10.0))
    assert two.cost is not None
    assert two.cost.dollars == [6.0, 20.0]  # what is done or runs is not paid again
    check_budget(two, 20.0)
    check_budget(two, None)
    with pytest.raises(LaunchError, match=r"--budget 19.99: the runs may cost up to \$20.00; nothing was submitted"):
        check_budget(two, 19.99)
    check_budget(plan("completed", cost=None), 0.0)  # nothing is due
    with pytest.raises(UsageError, match="is unknown"):
        check_budget(plan("new", cost=None), 1e9)
    with pytest.raises(UsageError, match="no price is known"):
        check_budget(plan("new", cost=Estimate(1.0)), 1e9)


def test_the_cap_reaches_plan_task_and_every_run(capsys):
    words = ["cvc_random_maps_train.train", "pattern=AgSA", "--run=a", "--copies=2", "--gpus=8", "-t", "1.5"]
    found = json.loads(type_command(capsys, "launch", *words, "--steps=2b", "--dry-run", "--json").out)
    assert (found["machine_hours"], found["dollars"]) == (3.0, pytest.approx([9.0, 30.0]))
    assert found["resources"]["max_runtime_hours"] == 1.5
    tasks = json.loads(type_command(capsys, "launch", *words, "--steps=2b", "--dump-config", "json").out)
    assert [task["envs"]["MEMEXP_MAX_RUNTIME_HOURS"] for task in tasks] == ["1.5", "1.5"]


def test_ranks_are_counted_over_all_nodes(capsys):
    typed = type_command(capsys, "launch", "tmaze", "--run=a", "--gpus=1", "--nodes=3", "--dry-run")
    assert typed.code == 2
    assert "3 ranks" in typed.err
    assert type_command(capsys, "launch", "tmaze", "--run=a", "--local", "--nproc=3", "--dry-run").code == 2
    assert type_command(capsys, "launch", "tmaze", "--run=a", "--gpus=1", "--nodes=2", "--dry-run").code == 0


def test_a_note_keeps_what_stands_in_brackets(capsys, monkeypatch):
    def no_skypilot(name: str):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr("memexp.launch.cloud.sky_task.importlib.metadata.version", no_skypilot)
    typed = type_command(capsys, "launch", "tmaze", "--run=a", "--dump-config", "yaml")
    assert typed.err == "not validated: SkyPilot is not installed (pip install 'memexp[cloud]')\n"


# The record of submissions.


def test_a_submission_records_what_was_expected_at_the_price_of_all_nodes(home):
    found = submissions_of(plan("new", "new", "new", cost=Estimate(2.0, 6.0, 20.0)), Resources(gpus=8, nodes=2), ["r1"])
    submissions.record(found)
    (record,) = submissions.read().values()
    assert (record.run, record.env, record.arm, record.seed) == ("r1", "tmaze", "S", 0)
    assert (record.total_timesteps, record.hours, record.dollars) == (100_000, 2.0, [6.0, 20.0])
    assert record.prices == {"L4": {"spot": 6.0, "on_demand": 20.0}}
    assert record.time
    (unknown,) = submissions_of(plan("new"), Resources(gpus=8), ["r0"])
    assert (unknown.hours, unknown.dollars) == (None, None)


def test_the_newest_line_of_a_run_counts_and_a_damaged_one_hides_no_other(home):
    def one(run: str, seed: int) -> submissions.Submission:
        return submissions.Submission(run=run, env="e", arm="S", seed=seed, total_timesteps=1)

    assert submissions.read() == {}
    submissions.record([one("a", 1), one("b", 2)])
    with open(submissions.path(), "a") as file:
        file.write('{"run": "torn\n')
    submissions.record([one("a", 3)])
    assert {run: record.seed for run, record in submissions.read().items()} == {"a": 3, "b": 2}


# The queue and what is submitted.

STATUSES = {
    "SUCCEEDED": "known", "PENDING": "known", "SUBMITTED": "known", "STARTING": "known", "RUNNING": "known",
    "RECOVERING": "known", "CANCELLING": "known", "CANCELLED": "sent", "FAILED": "failed", "FAILED_SETUP": "failed",
    "FAILED_PRECHECKS": "failed", "FAILED_NO_RESOURCE": "failed", "FAILED_CONTROLLER": "failed",
}  # fmt: skip


@pytest.mark.parametrize("retry_failed", [False, True])
def test_every_status_of_a_job_says_whether_its_run_is_submitted(retry_failed: bool):
    sky, before, told = FakeSky(), [], []
    tasks = [make_task(tmaze(f"r{at}"), Resources(), CODE) for at in range(len(STATUSES) + 1)]
    for at, status in enumerate(STATUSES):
        sky.add(f"r{at}", status, failure_reason="why")
    outcome = submit(sky, tasks, told.append, retry_failed, before=before.extend)
    wanted = {"known": set(), "failed": set(), "sent": {f"r{len(STATUSES)}"}}
    for at, kind in enumerate(STATUSES.values()):
        wanted["sent" if retry_failed and kind == "failed" else kind].add(f"r{at}")
    assert {"known": set(outcome.known), "failed": set(outcome.failed), "sent": set(outcome.sent)} == wanted
    assert before == outcome.sent
    assert told[-1].endswith(f"submitted ({len(outcome.sent)} of {len(outcome.sent)})")
    assert sum("has failed as a managed job (why)" in line for line in told) == len(wanted["failed"])


def test_eight_submissions_are_under_way_at_a_time_and_the_oldest_is_answered_first():
    sky, told = FakeSky(), []
    names = [f"r{at}" for at in range(10)]
    submit(sky, [make_task(tmaze(name), Resources(), CODE) for name in names], told.append)
    assert (sky.most_at_once, AT_ONCE) == (8, 8)
    assert told == [f"{name}: submitted ({at} of 10)" for at, name in enumerate(names, 1)]


def test_the_summary_counts_every_run_once():
    outcome = Outcome(sent=["a"], known={"b": "RUNNING", "c": "PENDING"}, failed=["d", "e", "f"], left=list("ghij"))
    assert outcome.summary == (
        "1 of 10 runs submitted; 2 there already; 3 failed (--retry-failed submits them again); "
        "4 not submitted (the same command carries on)"
    )
    assert Outcome(sent=["a"]).summary == "1 of 1 runs submitted"


def test_the_newest_job_of_a_name_counts_in_whatever_order_they_are_listed():
    sky = FakeSky()
    sky.add("a", "RUNNING", job_id=7, recovery_count=2, job_duration=90.0, cluster_resources="1x(gpus=L4:8)[spot]")
    sky.add("a", "FAILED", job_id=3, failure_reason="first\n try")
    sky.add("b", "FAILED", job_id=4, failure_reason="no\n  quota", cluster_resources="-")
    sky.add("", "RUNNING", job_id=5)
    jobs = read_queue(sky)
    assert jobs.keys() == {"a", "b"}
    assert (jobs["a"].number, jobs["a"].recoveries, jobs["a"].duration_s) == (7, 2, 90.0)
    assert jobs["a"].machine == "1x(gpus=L4:8)[spot]"
    assert (jobs["a"].failed, jobs["a"].ended, jobs["b"].failed, jobs["b"].ended) == (False, False, True, True)
    assert (jobs["b"].reason, jobs["b"].machine) == ("no quota", "1x[L4:8]")


def test_only_submissions_of_an_earlier_launch_are_waited_for():
    sky, told = FakeSky(), []
    sky.requests = {"1": ("a", None), "2": ("b", None)}
    listed = [(number, name) for number, name in (("1", "sky.jobs.launch"), ("2", "sky.status"))]
    sky.api_status = lambda all_status: [  # type: ignore[method-assign]
        type("Request", (), {"request_id": number, "name": name}) for number, name in listed if not all_status
    ]
    settle(sky, told.append)
    assert (sky.names, sky.requests.keys()) == (["a"], {"2"})
    assert told == ["waiting for 1 submissions that an earlier launch began"]


def test_a_run_in_a_queue_is_expected_to_cost_what_is_left_of_it(monkeypatch, capsys, home):
    sky = FakeSky()
    monkeypatch.setattr("memexp.launch.cloud.job_queue._import_sky", lambda instead: sky)
    submissions.record(
        [submissions.Submission(run="a", env="e", arm="S", seed=0, total_timesteps=1000, hours=2.0,
                                dollars=[6.0, 20.0], prices={"L4": {"spot": 3.0, "on_demand": 10.0}})]
    )  # fmt: skip
    sky.add("a", "RUNNING", job_duration=1800.0, cluster_resources="1x(gpus=L4:8)[spot]")
    write_run(home / "runs", "S", 0, [0.1] * 4, name="a", budget=1000, reached=0.75, status=None)
    (row,) = json.loads(type_command(capsys, "status", "--json").out)
    assert (row["hours"], row["spent"], row["projected"]) == (0.5, 1.5, pytest.approx(1.5 + 6.0 / 4))


# On a node.

PRICES = {"L4": {"spot": 3.0, "on_demand": 10.0}, "A100": {"spot": 5.0}, "A100-80GB": {"spot": 7.0}}


@pytest.mark.parametrize(
    ("names", "nodes", "market", "expected"),
    [
        (["NVIDIA L4"] * 8, 2, "spot", ("16x NVIDIA L4", 6.0, "spot")),
        (["NVIDIA L4"] * 8, 2, "on_demand", ("16x NVIDIA L4", 20.0, "on_demand")),
        (["NVIDIA L4"] * 8, 1, None, ("8x NVIDIA L4", 10.0, None)),  # not known: the higher price
        (["NVIDIA A100-SXM4-80GB"], 1, None, ("1x NVIDIA A100-SXM4-80GB", 7.0, "spot")),
        (["NVIDIA H100"], 1, None, ("1x NVIDIA H100", None, None)),
        ([], 1, "spot", (None, 3.0, "spot")),
    ],
)
def test_a_node_knows_what_it_costs(monkeypatch, names, nodes, market, expected):
    monkeypatch.setenv("MEMEXP_PRICES", json.dumps(PRICES))
    monkeypatch.setattr(node, "market_here", lambda: market)
    assert node.machine_price(names, nodes) == expected


@pytest.mark.parametrize(
    ("code", "stopped", "files", "status", "expected"),
    [
        (1, True, ["time_is_up"], "preempted", (0, "time is up")),
        (0, True, [], "completed", (0, "done")),
        (2, False, [], None, (2, "wrong usage")),
        (1, True, [], "cancelled", (1, "cancelled")),
        (1, True, [], None, (RESTART, "preempted")),
        (1, True, ["silent"], None, (RESTART, "hung")),
        (RESTART, False, [], None, (RESTART, "hung")),
        (1, False, [], "preempted", (RESTART, "hung")),
        (1, False, [], "failed", (RESTART, "error")),
        (78, False, [], None, (1, "failed")),
        (77, False, [], None, (RESTART, "error")),
    ],
)
def test_the_end_of_a_start_is_judged_by_code_signal_and_directory(code, stopped, files, status, expected):
    run = Run.named("a")
    run.path.mkdir(parents=True)
    for file in files:
        (run.path / file).touch()
    if status:
        run.finish(Exit(status=status))
    found = node.judge(run, add_start(run, 0).number, code, stopped)
    assert (found.code, found.word) == expected


def test_three_starts_in_vain_are_restarted_and_the_fourth_has_failed():
    run, words = Run.named("a"), []
    for _ in range(5):
        number = add_start(run, 0).number
        found = node.judge(run, number, 1, False)
        add_end(run, number, found)
        words.append(found.word)
    assert words == ["error", "error", "error", "failed", "error"]
    add_end(run, 4, End(code=RESTART, word="preempted", agent_steps=0))  # a preemption ends the row
    assert node.judge(run, add_start(run, 0).number, 1, False).word == "error"


def test_a_local_launch_is_right_only_if_every_run_is_done():
    assert LocalOutcome(done=["a"]).ok
    for outcome in (LocalOutcome(stopped=["a"]), LocalOutcome(left=["a"]), LocalOutcome(failed=[("a", "why")])):
        assert not outcome.ok
    mixed = LocalOutcome(done=["a", "b"], stopped=["c"], failed=[("d", "why")])
    assert mixed.lines == ["2 done, 1 failed, 1 stopped", "failed: d: why", "the same command carries on"]
