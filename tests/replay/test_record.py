"""Recordings: what the page holds is what the engine did, step by step."""

import numpy as np
import pytest
import torch
from helpers.episodes import WORLDS, random_episode, series, through_a_page, world

from memexp import envs
from memexp.envs.grid import columns as col
from memexp.envs.scripted import make_scripted_policy
from memexp.replay.policies import scripted_actor
from memexp.replay.record import NO_ACTION, record


@pytest.fixture(scope="module", params=WORLDS)
def played(request, tmp_path_factory):
    """(kind, recording read from a page)."""
    recording = random_episode(request.param)
    return request.param, through_a_page(recording, tmp_path_factory.mktemp("page") / "page.html")


def test_every_step_is_what_the_same_actions_do_in_the_environment(played):
    kind, recording = played
    env = world(kind)
    env.reset()
    s, total = env.state, 0
    for step in range(recording.last):
        frame = recording.frame(step)
        check(recording, frame, s, step)
        _, reward, terminated, _ = env.step(torch.from_numpy(recording.frame(step + 1)["action"]).long())
        after = recording.frame(step + 1)
        assert after["reward"].tolist() == reward.tolist()
        total = total + reward
        assert after["return"].tolist() == pytest.approx(total.tolist(), abs=1e-4)
        assert bool(terminated.all()) == (step + 1 == recording.last)


def check(recording, frame, s, step):
    """Hold a frame against the engine's arrays before the next step."""
    facts, agents, objects = recording.facts, s.agents[0], s.objects[0, : s.world[0, col.NUM_OBJECTS]]
    num, width, stride = len(agents), len(facts["map"][0]), int(s.window[4, 0])
    margin = col.BORDER - 1
    rows, columns = frame["cell"] // width + margin, frame["cell"] % width + margin
    assert (rows * stride + columns).tolist() == agents[:, col.CELL].tolist()
    assert frame["vibe"].tolist() == agents[:, col.VIBE].tolist()
    assert frame["inventory"].tolist() == s.inventory[0, :num, : col.NUM_RESOURCES].tolist()
    assert frame["end"].tolist() == objects[:, col.END].tolist()
    assert frame["uses"].tolist() == objects[:, col.USES].tolist()
    chests = s.inventory[0, num : num + len(frame["chest"]), : col.NUM_RESOURCES]
    assert frame["chest"].tolist() == chests.tolist()
    acted = frame["action"] != NO_ACTION
    assert acted.all() == (step > 0)
    assert np.where(frame["success"], frame["action"], 0)[acted].tolist() == agents[acted, col.LAST_ACTION].tolist()
    reached = np.array(facts["milestones"]) <= step
    now = s.milestones[0] != col.NOT_YET
    assert (reached & (np.array(facts["milestones"]) >= 0)).sum() == now.sum()


def test_the_map_shows_every_object_and_no_wall_in_its_place(played):
    _, recording = played
    rows = recording.facts["map"]
    for kind, cell, _ in recording.facts["objects"]:
        assert rows[cell // len(rows[0])][cell % len(rows[0])] == "."
        assert 0 <= kind < len(recording.facts["types"])
    assert set(rows[0]) == set(rows[-1]) == {"#"}


def test_the_end_of_an_observation_without_room_for_all_is_kept(tmp_path):
    recording = through_a_page(random_episode("cvc"), tmp_path / "page.html")
    env = world("cvc")
    obs = env.reset()
    full = obs[:, -1, 1] != col.UNUSED
    assert full.any()
    assert recording.frame(0)["cut"].tolist() == torch.where(full, obs[:, -1, 0].int() + 1, 0).tolist()


def test_protocols_are_told_in_words_even_of_vibes_that_no_action_shows():
    env = envs.make("cvc_random_maps", 1, num_vibes=12, max_steps=3)
    facts = record(env, scripted_actor("random", env, 0), 1).facts
    assert len(facts["actions"]) == env.num_actions == 5 + 12
    (assembler,) = [kind for kind in facts["types"] if kind["name"] == "assembler"]
    assert any("vibes carbon_a + gear" in does for does in assembler["does"])


def test_a_recording_can_stop_early():
    assert random_episode("assembly", 7).last == 7


def test_a_series_is_one_number_of_all_frames():
    recording = random_episode("cvc", 30)
    energies = [recording.frame(step)["inventory"][3, 0] for step in range(31)]
    assert series(recording, "inventory", 3, 0).tolist() == energies
    returns = [recording.frame(step)["return"][1] for step in range(31)]
    assert series(recording, "return", 1).tolist() == returns


@pytest.mark.slow
def test_a_long_episode_of_many_agents_is_a_small_page(tmp_path):
    env = envs.make("cvc_random_maps", 1, seed=1, max_steps=4000)
    recording = record(env, scripted_actor("random", env, 1))
    assert recording.last == 4000
    through_a_page(recording, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 1_000_000


def test_a_scripted_player_is_recorded_as_it_plays():
    recording, played = record(world("cvc"), scripted_actor("memory", world("cvc"), 3), 12), world("cvc")
    policy = make_scripted_policy(played, "memory", 3)
    obs, resets = played.reset(), torch.ones(played.num_agents, dtype=torch.bool)
    for step in range(1, 13):
        played.step(policy.act(obs, resets))
        resets = torch.zeros_like(resets)
        assert (recording.frame(step)["vibe"] == played.state.agents[0, :, col.VIBE]).all()
        assert recording.frame(step)["action"].shape == (played.num_agents,)
