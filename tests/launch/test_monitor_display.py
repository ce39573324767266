"""The dashboard of runs: that it fits the terminal, shows what is known and nothing else, and obeys as a command."""

import io
import json
import math
import os
import pty
import re
import subprocess
import sys
import termios

import pytest
import yaml
from helpers.commands import type_command
from helpers.synthetic_runs import rising, write_run
from helpers.training import tiny
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from memexp.formatting import number
from memexp.launch.status.monitor import draw
from memexp.launch.status.monitor.many import ManyRuns
from memexp.launch.status.monitor.one import OneRun
from memexp.launch.status.monitor.snapshot import SnapshotReader, Snapshots
from memexp.launch.status.targets import Target
from memexp.ppo.train import train
from memexp.runs import Run
from memexp.runs.status import RunStatus, State


def look(run: Run):
    return SnapshotReader(run).read()


def new(name: str, env: str, arm: str, seed: int):
    """A run that a matrix file plans."""
    run = Run.named(name)
    return SnapshotReader(run, RunStatus(run=name, state=State.NEW, env=env, arm=arm, seed=seed)).read()


def drawn(what, width: int, **options) -> str:
    console = Console(width=width, file=io.StringIO(), **options)
    console.print(what)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def test_what_the_metrics_tell_is_shown_in_the_units_that_people_read(home):
    columns = {"policy/entropy": math.log(17) / 4, "gpu/utilization": 87.0, "gpu/memory_gb": 3.2, "eval/return": 0.7}
    columns |= {"time/rollout": 0.5, "time/engine": 0.2, "time/update": 0.4, "time/logging": 0.1}
    columns |= {"checkpoint/age_minutes": 2.0, "checkpoint/failed": 3.0}
    run = write_run(home / "runs", "S", 0, rising(0.9), name="it", columns=columns, num_actions=17)
    text = drawn(OneRun(look(run)), 100)
    for part in ("25 % of ln(actions)", "87 % used", "3.2 GB", "rollout 30 %", "engine 20 %", "held out 0.70"):
        assert part in text, part
    assert "2m00s old   ✗ 3 failed since" in text


def test_what_a_run_does_not_tell_is_a_dash(home):
    text = drawn(OneRun(look(write_run(home / "runs", "S", 0, rising(0.9), name="it", ceiling_return=None))), 80)
    for name in ("entropy", "GPU", "time", "checkpoint", "funnel"):
        assert re.search(rf"^ {name} +–$", text, re.MULTILINE), name
    assert "random 0.00   ceiling –" in text


def a_matrix(home, seeds: int, arms=("S", "S~", "xl_memlen128", "xl_memlen128~")) -> list:
    """Looks at runs of two environments; one seed runs, the last waits."""
    for env in ("cvc_random_maps", "tmaze"):
        for arm in arms:
            for seed in range(seeds - 1):
                status = None if seed == 0 else "completed"
                reached = 0.5 if seed == 0 else 1.0
                write_run(home / "runs", arm, seed, rising(0.9, updates=8), env=env, status=status, reached=reached)
    looks = list(Snapshots(Target("test")).read())
    places = [(env, arm) for env in ("cvc_random_maps", "tmaze") for arm in arms]
    return looks + [new(f"waits.{index}", *place, seeds - 1) for index, place in enumerate(places)]


@pytest.mark.parametrize("width", [80, 100, 120, 160])
@pytest.mark.parametrize("by_arm", [False, True])
def test_a_matrix_fits_its_width_with_columns_that_stand_below_each_other(home, width, by_arm):
    looks = a_matrix(home, 3)
    text = drawn(ManyRuns("test", looks, by_arm), width)
    rows = text.splitlines()
    assert max(map(len, rows)) <= width
    heads = [row for row in rows if row.startswith(" arm")]
    assert len(heads) == 2
    assert heads[0] == heads[1]
    assert text.count("xl_memlen128~") == 2
    assert len(rows) == ManyRuns("test", looks, by_arm).height
    assert ("furthest" in text) == (width == 160) or width in (100, 120)


@pytest.mark.parametrize(
    ("arm", "other", "said"),
    [
        ("S", {"mine": "1", "shared": "1"}, None),
        ("S", {"mine": "2", "shared": "1"}, "mine 1 or 2"),
        ("S~", {"mine": "2", "shared": "3"}, "mine 1 or 2; shared 1 or 3"),
        ("S", {"mine": "1"}, "shared 1 or absent"),
        ("X", {"mine": "1"}, None),  # arms may have wrappers of their own
        ("X", {"mine": "1", "shared": "2"}, "shared 1 or 2"),
        ("S", None, None),  # of an older memexp
    ],
)
def test_the_monitor_says_that_runs_trained_with_different_code(home, capsys, arm, other, said):
    write_run(home / "runs", "S", 0, rising(0.9), environment={"mine": "1", "shared": "1"})
    write_run(home / "runs", arm, 1, rising(0.9), environment=other)
    line = f"world  runs trained with different code, which the report does not pool: {said}"
    shown = " ".join(type_command(capsys, "monitor", "test", "--once").out.split())
    assert (" ".join(line.split()) in shown) == (said is not None)
    assert json.loads(type_command(capsys, "monitor", "test", "--json").out)["alarms"] == ([line] if said else [])


@pytest.mark.parametrize("width", [60, 120])
def test_curves_over_one_another_share_a_scale_and_an_axis(home, width):
    for arm, final, budget in (("S", 1.0, 1000), ("S~", 0.0, 1000), ("X", 1.0, 500)):
        write_run(home / "runs", arm, 0, [final] * 20, budget=budget)
    text = drawn(ManyRuns("test", list(Snapshots(Target("test")).read()), curves=True), width)
    assert max(map(len, text.splitlines())) <= width
    places = {row.split(maxsplit=1)[0]: row.split()[1] for row in text.splitlines() if re.match(r" {9}[a-c] ", row)}
    assert sorted(places.values()) == ["S", "S~", "X"]
    letter = {arm: mark for mark, arm in places.items()}
    rows = [row[9:] for row in text.splitlines() if re.match(r".{9} *[+abc]{3,}$", row)]
    top, bottom = rows[0], rows[-1]
    assert set(bottom.strip()) == {letter["S~"]}
    assert set(top.strip()[width // 10 :]) == {"+", letter["S"]}  # X ends in the middle of the axis
    assert abs(top.rindex("+") - len(top) / 2) <= 3


def test_more_curves_than_letters_are_named_below(home):
    for arm in range(len(draw.LETTERS) + 2):
        write_run(home / "runs", f"S{arm}", 0, rising(0.1 * arm))
    text = drawn(ManyRuns("test", list(Snapshots(Target("test")).read()), curves=True), 100)
    assert "not drawn: S8  seed 0  0.80, S9  seed 0  0.90" in text


def test_only_the_arms_that_are_named_are_shown(home, capsys):
    for arm in ("S", "S~", "X"):
        write_run(home / "runs", arm, 0, rising(0.9))
    shown = type_command(capsys, "monitor", "test", "--arm", "S", "--arm", "X").out
    assert re.findall(r" {9}[a-h] (\S+)", shown) == ["S", "X"]
    assert "S~" not in shown
    typed = type_command(capsys, "monitor", "test", "--arm", "s~")
    assert (typed.code, typed.err) == (2, "memexp: --arm: no run has the arm 's~'; did you mean 'S~'?\n")


def test_runs_of_an_arm_that_wait_share_a_line(home):
    waiting = [new(f"w{seed}", "maze", "S", seed) for seed in (1, 2, 3, 5)]
    assert "1-3, 5" in drawn(ManyRuns("m", waiting), 80)


def test_eighty_runs_that_do_not_fit_are_shown_by_arm(home):
    looks = a_matrix(home, 10)
    assert len(looks) == 80
    assert ManyRuns("test", looks, by_arm=True).height < 24 < ManyRuns("test", looks).height
    assert "●✓✓✓✓✓✓✓✓·" in drawn(ManyRuns("test", looks, by_arm=True), 80)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_run_fits_its_width(home, width):
    funnel = {f"env/funnel/milestone_number_{n}": 1 / (n + 1) for n in range(8)}
    run = write_run(home / "runs", "S", 0, rising(13.4), name="a-run-of-some-name", columns=funnel)
    assert max(map(len, drawn(OneRun(look(run)), width).splitlines())) <= width


def test_names_are_shown_as_they_are_written(home):
    run = write_run(home / "runs", "[S, X]", 0, rising(0.9), name="it", columns={"env/funnel/[bold]": 1.0})
    assert "[S, X]" in drawn(OneRun(look(run)), 80)
    assert "[bold]" in drawn(OneRun(look(run)), 80)
    assert "[S, X]" in drawn(ManyRuns("[red]", [look(run)]), 80)
    assert "[red]" in drawn(ManyRuns("[red]", [look(run)]), 80)


RETURNS = st.floats(-1e9, 1e9)


@given(st.lists(st.none() | RETURNS | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=50), RETURNS, RETURNS)
def test_any_values_can_be_drawn(values, low, high):
    within = draw.span(values, [low, high])
    assert len(draw.sparkline(values, within)) == len(values)
    drawn_lines = draw.chart(values, within, 5, {"low": low, "high": high})
    assert len(drawn_lines) == 5
    assert all(isinstance(number(value), str) for value in values)


@given(st.floats(0, 1.2), st.integers(10, 60), st.none() | st.floats(0, 1))
def test_a_bar_is_as_wide_as_it_is_asked_to_be(share, width, tick):
    assert draw.block_bar(share, width, tick).cell_len == draw.bar(share, width, "blue").cell_len == width


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0.00"),
        (0.93456, "0.93"),
        (13.44, "13.4"),
        (1234.5, "1,234"),
        (-2.5, "-2.50"),
    ],
)
def test_numbers_have_three_digits_or_so(value, shown):
    assert number(value) == shown


# The command.


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("tst", "'tst'; did you mean 'test'?"),
        ("world_S.s1", "did you mean 'world_S.s0'"),
        ("no.yaml", "no matrix file no.yaml"),
    ],
)
def test_a_target_that_does_not_exist_is_one_line_with_the_nearest_name(home, capsys, word, named):
    write_run(home / "runs", "S", 0, rising(0.9))
    typed = type_command(capsys, "monitor", word, "--once")
    assert (typed.code, typed.out, len(typed.err.splitlines())) == (2, "", 1)
    assert named in typed.err


def test_what_is_not_finite_is_null_for_scripts(home, capsys):
    write_run(home / "runs", "S", 0, [0.5, math.nan], name="it", columns={"policy/entropy": math.nan}, num_actions=4)
    told = json.loads(type_command(capsys, "monitor", "it", "--json").out, parse_constant=pytest.fail)
    assert told["runs"][0]["entropy_share"] is None


def test_without_a_terminal_it_is_printed_once_and_plain(home, capsys):
    write_run(home / "runs", "S", 0, rising(0.9))
    for words in (("monitor", "world_S.s0"), ("monitor", "test", "--once"), ("monitor", str(home / "runs"))):
        typed = type_command(capsys, *words)
        assert typed.code == 0
        assert "✓" in typed.out
        assert "\x1b" not in typed.out


def test_a_matrix_file_shows_what_has_not_begun(home, tmp_path, capsys):
    matrix = {"name": "m", "environments": {"maze": {"recipe": "tmaze"}}, "architectures": {"S": {"pattern": "S"}}}
    file = tmp_path / "m.yaml"
    file.write_text(yaml.safe_dump({**matrix, "steps": ["1k"], "seeds": 3}))
    told = json.loads(type_command(capsys, "monitor", str(file), "--json").out)
    assert told["states"] == {"new": 6}
    assert (told["agent_steps"], told["total_timesteps"]) == (0, 6000)
    assert {(run["env"], run["arm"], run["seed"]) for run in told["runs"]} == {
        ("maze", arm, seed) for arm in ("S", "S~") for seed in range(3)
    }


def test_runs_that_begin_while_one_watches_are_shown(home):
    write_run(home / "runs", "S", 0, rising(0.9))
    snapshots = Snapshots(Target("test"))
    assert [one.run for one in snapshots.read()] == ["world_S.s0"]
    write_run(home / "runs", "S", 1, rising(0.9), status=None, reached=0.5)
    assert [(one.run, one.state) for one in snapshots.read()] == [
        ("world_S.s0", "completed"),
        ("world_S.s1", "running"),
    ]


def test_a_real_run_is_shown_with_all_that_it_measured(home, capsys):
    config = tiny(run="maze")
    assert train(config).status == "completed"
    capsys.readouterr()
    (told,) = json.loads(type_command(capsys, "monitor", "maze", "--json").out)["runs"]
    assert (told["state"], told["agent_steps"]) == ("completed", config.trainer.total_timesteps)
    assert told["consistent"] is True
    assert 0 < told["entropy_share"] <= 1.001
    assert told["sps"] > 0
    assert told["random_return"] is not None
    assert 0 <= told["episode_return"] <= 1


def test_on_a_terminal_it_is_live_until_q_and_leaves_the_terminal_as_it_was(home):
    write_run(home / "runs", "S", 0, rising(0.9))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 80))
    before = termios.tcgetattr(ours)
    command = [sys.executable, "-m", "memexp", "monitor", "test"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, env={**os.environ, "TERM": "xterm-256color"})
    os.close(theirs)  # once the process has ended, reading is an error
    shown = b""
    while b"q: quit" not in shown:
        shown += os.read(ours, 65536)
    os.write(ours, b"q")
    while b"\x1b[?1049l" not in shown:  # back from the alternate screen
        shown += os.read(ours, 65536)
    assert process.wait(timeout=30) == 0
    assert termios.tcgetattr(ours) == before
    assert b"world" in shown
    os.close(ours)
