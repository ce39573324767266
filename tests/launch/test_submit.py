"""Submission: what is missing, nothing twice, wherever it is interrupted; every refusal is one line."""

import json
import os
import signal
import stat

import pytest
from helpers.commands import type_command
from helpers.sky import FakeSky
from hypothesis import given
from hypothesis import strategies as st

from memexp.launch import LaunchError
from memexp.launch.cloud import submissions
from memexp.launch.cloud.code import Code
from memexp.launch.cloud.install import Install
from memexp.launch.cloud.job_queue import FIELDS, connect, require_cloud
from memexp.launch.cloud.sky_task import make_task
from memexp.launch.cloud.submit import submit
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import recipe_specs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SkyPilot's imports
CODE = Install(Code("c0ffee", "https://github.com/a/b", ()))


def tasks(*names: str) -> list[dict]:
    recipe = find_recipe("tmaze")
    return [make_task(recipe_specs(recipe, {"run": name})[0], Resources(), CODE) for name in names]


def quiet(line: str) -> None: ...


def test_what_is_queued_running_or_done_is_not_submitted_again():
    sky = FakeSky()
    for name, status in {"a": "RUNNING", "b": "SUCCEEDED", "c": "CANCELLED", "e": "PENDING"}.items():
        sky.add(name, status)
    told: list[str] = []
    outcome = submit(sky, tasks("a", "b", "c", "d", "e"), told.append)
    assert outcome.sent == ["c", "d"]
    assert outcome.known == {"a": "RUNNING", "b": "SUCCEEDED", "e": "PENDING"}
    assert len(told) == 5


def test_what_has_failed_is_submitted_again_only_where_that_is_asked_for():
    sky = FakeSky()
    sky.add("a", "FAILED", failure_reason="out of memory")
    told: list[str] = []
    assert submit(sky, tasks("a"), told.append).failed == ["a"]
    assert "out of memory" in told[0]
    assert submit(sky, tasks("a"), quiet, retry_failed=True).sent == ["a"]
    assert submit(sky, tasks("a"), quiet, retry_failed=True).known == {"a": "PENDING"}  # the newest job counts


def test_no_more_are_under_way_than_allowed():
    sky = FakeSky()
    submit(sky, tasks(*"abcdefgh"), quiet, at_once=3)
    assert (sky.most_at_once, sky.names) == (3, list("abcdefgh"))


NAMES = [f"run{number}" for number in range(9)]


@given(st.integers(0, 9), st.integers(1, 10), st.sampled_from(["begin", "answer"]), st.booleans())
def test_interrupted_anywhere_and_repeated_nothing_is_twice_and_nothing_lost(
    at: int, at_once: int, where: str, hard: bool
):
    """Ctrl-C, or (hard) the end of the process, at the `at`-th submission or answer; then the same launch again."""
    sky = FakeSky()
    calls = 0

    def strike(call):
        def struck(*words, **named):
            nonlocal calls
            answer = call(*words, **named)  # it has reached the server
            calls += 1
            if calls == at + 1:
                if hard:
                    raise SystemExit
                signal.raise_signal(signal.SIGINT)
            return answer

        return struck

    launch, get = sky.jobs.launch, sky.get
    if where == "begin":
        sky.jobs.launch = strike(launch)
    else:
        sky.get = strike(get)  # type: ignore[method-assign]
    try:
        first = submit(sky, tasks(*NAMES), quiet, at_once=at_once)
        assert sorted([*first.sent, *first.left]) == sorted(NAMES)
        assert sky.names == first.sent
    except SystemExit:
        pass
    sky.jobs.launch, sky.get = launch, get  # type: ignore[method-assign]
    second = submit(sky, tasks(*NAMES), quiet, at_once=at_once)
    assert second.left == []
    assert sorted(sky.names) == sorted(NAMES)
    assert submit(sky, tasks(*NAMES), quiet).sent == []


def test_two_launches_of_one_home_do_not_submit_together():
    sky = FakeSky()
    inner = []

    def while_busy(names):
        with pytest.raises(LaunchError, match="another `memexp launch` is submitting"):
            submit(sky, tasks("a"), quiet)
        inner.append(names)

    submit(sky, tasks("a"), quiet, before=while_busy)
    assert (inner, sky.names) == ([["a"]], ["a"])


def test_secrets_are_handed_over_at_submission_alone(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "s3cr3t-key")
    monkeypatch.setenv("MEMEXP_WEBHOOK_URL", "https://hooks.example/s3cr3t")
    sky = FakeSky()
    handed = []
    launch = sky.jobs.launch
    sky.jobs.launch = lambda task, name: handed.append(task) or launch(task, name)
    told: list[str] = []
    submit(sky, tasks("a"), told.append)
    (task,) = handed
    assert {name: str(value.get_secret_value()) for name, value in task._secrets.items()} == {
        "WANDB_API_KEY": "s3cr3t-key",
        "MEMEXP_WEBHOOK_URL": "https://hooks.example/s3cr3t",
    }
    assert "s3cr3t" not in json.dumps(task.envs) + task.run + task.setup + "".join(told)


@pytest.mark.parametrize(
    ("error", "reason"), [(NotImplementedError(""), "NotImplementedError"), (ValueError("no\n  quota"), "no quota")]
)
def test_a_refused_submission_is_one_clear_line(error: Exception, reason: str):
    with pytest.raises(LaunchError, match=f"SkyPilot could not submit a: {reason}$"):
        submit(FakeSky(refuses=lambda name: error), tasks("a"), quiet)


def test_a_refusal_gives_the_reason_that_the_queue_knows_and_counts_what_was_submitted():
    def refuse(name):
        if name == "b":
            sky.add("b", "FAILED_PRECHECKS", failure_reason="no L4 in us-east-1")
            return NotImplementedError("")
        return None

    sky = FakeSky(refuses=refuse)
    with pytest.raises(LaunchError, match=r"could not submit b: no L4 in us-east-1 \(2 of 3 were submitted\)$"):
        submit(sky, tasks("a", "b", "c"), quiet)
    assert sky.requests == {}


def test_without_an_enabled_cloud_the_command_says_so(monkeypatch):
    monkeypatch.setattr("memexp.launch.cloud.job_queue._import_sky", lambda instead: FakeSky(clouds=()))
    with pytest.raises(LaunchError, match=r"no cloud enabled: .*`sky check`.*nothing was submitted"):
        require_cloud(connect())


def test_skypilot_has_every_function_that_the_stand_in_has_with_the_same_words():
    import inspect

    import sky
    import sky.jobs
    from sky.schemas.api.responses import ManagedJobRecord

    for function, words in {
        sky.jobs.launch: {"name"},
        sky.jobs.queue_v2: {"refresh", "fields"},
        sky.jobs.cancel: {"job_ids"},
        sky.jobs.tail_logs: {"job_id", "follow", "output_stream"},
        sky.api_status: {"all_status"},
        sky.api_info: set(),
        sky.get: set(),
        sky.client.sdk.enabled_clouds: set(),
    }.items():
        assert words <= inspect.signature(function).parameters.keys(), function
    assert set(FIELDS) <= ManagedJobRecord.model_fields.keys()


# The whole command.

MATRIX = """
name: small
environments: {maze: {recipe: tmaze}}
architectures: {S: {pattern: S}}
steps: [1k]
seeds: 2
resources: {gpus: 8, bucket: "s3://mine/memexp"}
"""


@pytest.fixture
def sky(monkeypatch, tmp_path) -> FakeSky:
    """A matrix file `small.yaml` here, and a server."""
    sky = FakeSky()
    monkeypatch.setattr("memexp.launch.cloud.job_queue._import_sky", lambda instead: sky)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(MATRIX)
    return sky


def test_a_matrix_is_submitted_once_and_the_ledger_says_what_was_expected(sky, capsys, home):
    typed = type_command(capsys, "launch", "small.yaml", "--skip-git-check")
    assert (typed.code, len(sky.names)) == (0, 4)
    assert "4 of 4 runs submitted" in typed.out
    typed = type_command(capsys, "launch", "small.yaml", "--skip-git-check")
    assert (typed.code, len(sky.names)) == (0, 4)
    assert "0 of 4 runs submitted; 4 there already" in typed.out
    known = submissions.read()
    assert set(known) == set(sky.names)
    assert known[sky.names[0]].prices["L4"].keys() == {"spot", "on_demand"}
    assert stat.S_IMODE(os.stat(submissions.path()).st_mode) == 0o600


def test_seeds_added_later_are_all_that_is_submitted(sky, capsys):
    type_command(capsys, "launch", "small.yaml", "--skip-git-check")
    typed = type_command(capsys, "launch", "small.yaml", "--skip-git-check", "--seeds", "3")
    assert "2 of 6 runs submitted; 4 there already" in typed.out
    assert len(set(sky.names)) == len(sky.names) == 6


def test_ctrl_c_ends_the_command_with_1_and_says_how_to_carry_on(sky, capsys):
    launch = sky.jobs.launch

    def interrupted(task, name):
        signal.raise_signal(signal.SIGINT)
        return launch(task, name)

    sky.jobs.launch = interrupted
    typed = type_command(capsys, "launch", "small.yaml", "--skip-git-check")
    assert typed.code == 1
    assert "1 of 4 runs submitted; 3 not submitted (the same command carries on)" in typed.out
    sky.jobs.launch = launch
    assert (
        "3 of 4 runs submitted; 1 there already" in type_command(capsys, "launch", "small.yaml", "--skip-git-check").out
    )


def test_copies_differ_in_seed_and_each_is_a_job(sky, capsys):
    type_command(capsys, "launch", "tmaze", "--run=one", "--copies=3", "--skip-git-check")
    assert sky.names == ["one.s0", "one.s1", "one.s2"]


def test_a_launch_above_its_budget_submits_nothing(sky, capsys):
    words = ["cvc_random_maps_train.train", "pattern=AgSA", "--gpus=8", "--run=a", "--skip-git-check", "--steps=2b"]
    assert type_command(capsys, "launch", *words, "--budget=20").code == 1
    typed = type_command(capsys, "launch", "small.yaml", "--skip-git-check", "--budget=20")  # nobody timed it
    assert typed.code == 2
    assert (sky.names, sky.requests) == ([], {})
