"""`memexp funnel`: how far players come on the way to reward."""

import json

import pytest
from helpers.commands import files_below, type_command
from helpers.cvc import RICH, SMALL

from memexp.envs.cvc_random_maps import FUNNEL
from memexp.launch.plan.run_spec import override_text
from memexp.ppo import evaluate as module

KNOBS = [f"{name}={override_text(value)}" for name, value in (SMALL | RICH | {"max_steps": 30}).items()]


def test_the_table_has_a_row_for_each_milestone_and_the_returns_below(capsys):
    typed = type_command(capsys, "funnel", "cvc_random_maps", *KNOBS, "--episodes", "4")
    assert typed.code == 0
    lines = [line.split() for line in typed.out.splitlines() if line.strip()]
    assert "cvc_random_maps: share of agents that reached each milestone, 4 episodes, seed 0" in typed.out
    rows = {line[0]: line[1] for line in lines if line[0] in FUNNEL}
    assert list(rows) == list(FUNNEL)
    assert all(share.endswith("%") for share in rows.values())
    assert "mean return" in typed.out
    assert "median return" in typed.out


def test_json_is_the_level_itself_and_nothing_else(capsys):
    words = ["funnel", "cvc_random_maps", *KNOBS, "--episodes", "4", "--seed", "3", "--json"]
    (level,) = json.loads(type_command(capsys, *words).out)
    assert (level["env"], level["player"], level["episodes"], level["seed"]) == ("cvc_random_maps", "random", 4, 3)
    assert level["knobs"]["num_cogs"] == SMALL["num_cogs"]
    assert list(level["funnel"]) == list(FUNNEL)
    assert json.loads(type_command(capsys, *words).out) == [level]


def test_an_environment_without_milestones_shows_returns_alone(capsys):
    typed = type_command(capsys, "funnel", "tmaze", "length=2", "--episodes", "5")
    assert typed.code == 0
    assert "mean return" in typed.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tmase"], "unknown environment 'tmase'; did you mean 'tmaze'?"),
        (["tmaze", "lenght=4"], "unknown key 'lenght'; did you mean 'length'?"),
        (["tmaze", "length=0"], "length: must be greater than or equal to 1 (got 0)"),
        (["tmaze", "length"], "'length' is not KEY=VALUE"),
        (["tmaze", "--player", "random", "--player", "rondom"], "unknown player 'rondom'; did you mean 'random'?"),
        (["tmaze", "--player", "memory"], "only assembly_lines and cvc_random_maps have scripted policies"),
        (["cvc_random_maps", "num_vibes=3"], "num_vibes=3 leaves out heart_b"),
        (["tmaze", "--episodes", "0"], "'--episodes': must be greater than or equal to 1"),
        ([], "missing argument"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_wrong_funnel_is_one_clear_line_with_exit_code_2_and_plays_nothing(
    capsys, home, monkeypatch, words: list[str], named: str
):
    monkeypatch.setattr(module, "_play", lambda *_: pytest.fail("something was played"))
    typed = type_command(capsys, "funnel", *words)
    assert (typed.code, typed.out) == (2, "")
    assert len(typed.err.splitlines()) == 1
    assert named in typed.err
    assert files_below(home) == {}
