"""Reference levels: measured once, and again when anything that they depend on has changed."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.cvc import RICH, SMALL
from helpers.training import tiny, tiny_cvc

from memexp.config import UsageError
from memexp.curriculum.uniform import training_tasks
from memexp.envs.config import AssemblyLines, ChainRecall, CvcRandomMaps, TMaze
from memexp.envs.cvc_random_maps import FUNNEL
from memexp.ppo import evaluate as module
from memexp.ppo.evaluate import Reference, reference
from memexp.ppo.train import train
from memexp.runs import Run

MAZE = TMaze(length=3)
MAPS = CvcRandomMaps(**(SMALL | RICH | {"max_steps": 40}))


@pytest.fixture
def plays(monkeypatch) -> list:
    """What has been played so far, one entry a measurement."""
    seen, real = [], module._play

    def play(*arguments):
        seen.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(module, "_play", play)
    return seen


def cached(home) -> list:
    return sorted((home / "reference").iterdir())


def test_a_level_is_measured_once(plays, home):
    first = reference(MAZE, "random", 6, 0)
    assert reference(MAZE, "random", 6, 0) == first
    assert len(plays) == 1
    assert [file.suffix for file in cached(home)] == [".json"]
    assert Reference.model_validate_json(cached(home)[0].read_text()) == first


def test_another_environment_knob_number_of_episodes_or_seed_is_measured_anew(plays):
    asked = [(MAZE, 6, 0), (TMaze(length=4), 6, 0), (ChainRecall(episode_length=8), 6, 0), (MAZE, 7, 0), (MAZE, 6, 1)]
    for world, episodes, seed in asked * 2:
        found = reference(world, "random", episodes, seed)
        assert (found.env, found.knobs) == (world.name, world.model_dump(exclude={"name"}))
        assert (found.episodes, found.seed) == (episodes, seed)
    assert len(plays) == len(asked)


def test_another_player_is_measured_anew(plays, monkeypatch):
    idle = SimpleNamespace(act=lambda obs, resets: torch.zeros(len(obs)))
    monkeypatch.setattr(module, "make_scripted_policy", lambda env, player, seed: idle)
    for player in ("random", "idle", "random", "idle"):
        assert reference(MAZE, player, 6, 0).player == player
    assert len(plays) == 2


def test_after_a_change_of_the_worlds_sources_a_level_is_measured_anew(plays, monkeypatch):
    for sources in ("before", "after", "before"):
        monkeypatch.setattr(module, "digest_of", lambda folder, sources=sources: sources)
        reference(MAZE, "random", 6, 0)
    assert len(plays) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{}", b"[1]", b'{"mean": null}'])
def test_a_file_that_cannot_be_read_is_measured_anew(plays, home, content):
    first = reference(MAZE, "random", 6, 0)
    (file,) = cached(home)
    file.write_bytes(content)
    assert reference(MAZE, "random", 6, 0) == first
    assert reference(MAZE, "random", 6, 0) == first
    assert len(plays) == 2


def test_two_processes_that_measure_at_once_do_each_other_no_harm(plays, monkeypatch, home):
    """The other one plays and writes while this one is about to put its file in place."""
    real, others = os.replace, []

    def replace(source, target):
        if not others:
            others.append("begun")
            monkeypatch.setattr(os, "getpid", lambda: 1)
            others.append(reference(MAZE, "random", 6, 0))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert reference(MAZE, "random", 6, 0) == others[1]
    assert len(plays) == 2
    assert len(cached(home)) == 1


def test_a_level_is_the_mean_over_first_episodes_of_uniform_training_tasks(monkeypatch):
    monkeypatch.setattr(module, "MOST_ENVS", 3)
    heard, episodes, real = [], [], module.first_episodes

    def first_episodes(*arguments):
        episodes.append(real(*arguments))
        return episodes[-1]

    monkeypatch.setattr(module, "first_episodes", first_episodes)
    level = reference(MAPS, "random", 7, 4, heard.append)
    assert [part["world"].tolist() for part in episodes] == [[0, 1, 2], [3, 4, 5], [6]]
    tasks = [int(task) for part in episodes for task in part["task"]]
    assert tasks == [training_tasks(4)(world, 0) for world in range(7)]
    returns = np.concatenate([part["return"] for part in episodes])
    assert (level.mean, level.stderr) == pytest.approx((returns.mean(), returns.std(ddof=1) / 7**0.5))
    assert heard == sorted(heard)
    assert heard[-1] == 7
    assert 0 < heard[0] < 1  # long before an episode ends
    assert list(level.funnel) == list(FUNNEL)
    assert level.funnel["moved"] > 0.9
    assert {"hearts_made", "alone", "tokens"} <= level.stats.keys()
    assert level.quantiles == sorted(level.quantiles)
    assert level.quantiles[0] <= level.mean <= level.quantiles[-1]


def test_the_random_policy_guesses_half_of_the_mazes():
    level = reference(MAZE, "random", 400, 0)
    assert abs(level.mean - 0.5) < 4 * level.stderr
    assert level.stderr == pytest.approx(0.5 / 400**0.5, rel=0.05)
    assert level.funnel == {}


def test_links_that_no_chain_has_are_not_in_the_funnel():
    level = reference(AssemblyLines(curriculum_style="level_0"), "random", 8, 0)
    assert list(level.funnel) == ["moved", "link_1", "first_heart", "second_heart"]


def test_an_unknown_player_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="unknown player 'rondom'; did you mean 'random'"):
        reference(MAZE, "rondom", 6, 0)


def test_a_run_knows_the_random_policys_return_and_funnel(plays):
    config = tiny_cvc(run="maps", seed=2)
    assert train(config).status == "completed"
    level = reference(config.env, "random", config.evaluation.random_episodes, 2)
    info = Run.named("maps").info
    assert len(plays) == 1
    assert (info.random_return, info.random_funnel) == (level.mean, level.funnel)
    assert set(json.loads((Run.named("maps").path / "run.json").read_text())["random_funnel"]) == set(FUNNEL)
    assert np.isfinite(info.random_return)
    train(tiny(run="maze"))
    assert Run.named("maze").info.random_funnel is None
