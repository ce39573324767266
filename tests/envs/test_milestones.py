"""Milestones on the way to reward: each is noted in the very step in which an agent first reaches it."""

import numpy as np
import pytest
import torch
from helpers.cvc import RICH, act, held, hold, reached, scene, world

from memexp.envs import make
from memexp.envs.assembly_lines import LINKS, AssemblyLinesEnv
from memexp.envs.assembly_tasks import STYLES, sample_task
from memexp.envs.base import episode_means
from memexp.envs.cvc_random_maps import FUNNEL
from memexp.envs.cvc_tasks import CARGO
from memexp.envs.grid import columns as col


def test_moved_is_noted_when_the_first_cell_is_left_and_stays():
    env = scene("@.")
    act(env, "noop", "west", "north")  # into walls
    assert reached(env) == {}
    act(env, "east")
    assert reached(env) == {"moved": 4}
    act(env, "west", "east")
    assert reached(env) == {"moved": 4}


@pytest.mark.parametrize(("letter", "resource"), list(zip("cogs", CARGO, strict=True)))
def test_a_resource_is_noted_when_it_is_gained(letter, resource):
    env = scene(f"@{letter}")
    act(env, "noop", "east", "east")
    assert reached(env) == {resource: 2}
    assert held(env)[resource] > 0


def test_a_use_that_fails_is_no_milestone():
    env = scene("@s")
    hold(env, 0, energy=10)  # of the 20 that it takes
    act(env, "east")
    assert reached(env) == {}


def test_what_agents_start_with_is_not_gained_but_held():
    env = scene("@o", "..", initial_inventory_buckets=True, initial_resources=29, initial_hearts=1)
    act(env, "noop")
    assert held(env) == dict.fromkeys(CARGO, 29) | {"energy": 100, "heart": 1}
    assert reached(env) == {"all_four": 1}
    act(env, "east")
    assert reached(env) == {"all_four": 1, "oxygen": 2}
    env = scene("@o", "..", **(RICH | {"initial_resources": 30}))
    act(env, "noop")
    assert reached(env) == {"all_four": 1, "heart_affordable": 1}


def test_all_four_and_an_affordable_heart_are_noted_when_they_are_held_together():
    env = scene("@.")
    for step, (amounts, expected) in enumerate(
        [
            ({"carbon": 100, "oxygen": 100, "germanium": 1}, {}),
            ({"silicon": 29}, {"all_four": 2}),
            ({"silicon": 30}, {"all_four": 2}),
            ({"carbon": 9, "germanium": 2}, {"all_four": 2}),
            ({"carbon": 10}, {"all_four": 2, "heart_affordable": 5}),
            ({"carbon": 0}, {"all_four": 2, "heart_affordable": 5}),
        ],
        start=1,
    ):
        hold(env, 0, **amounts)
        act(env, "noop")
        assert reached(env) == expected, step


@pytest.mark.parametrize(("vibe", "letter", "milestone"), [
    ("heart_a", "A", "heart_a_at_assembler"), ("heart_b", "H", "heart_b_at_chest"),
])  # fmt: skip
def test_a_vibe_counts_beside_its_object_alone(vibe, letter, milestone):
    env = scene(f"..{letter}", "@..", "..E")
    act(env, vibe)
    assert reached(env) == {}
    act(env, "default", "east")  # diagonally beside it, without the vibe
    assert reached(env) == {"moved": 3}
    act(env, {"heart_a": "heart_b", "heart_b": "heart_a"}[vibe], "noop")
    assert milestone not in reached(env)
    act(env, vibe)
    assert reached(env)[milestone] == 6
    other = scene({"A": "@H", "H": "@A"}[letter])
    act(other, vibe)
    assert reached(other) == {}


def test_a_heart_goes_all_the_way():
    env = scene("A@H", initial_inventory_buckets=True, initial_resources=30, initial_hearts=0)
    rewards = [act(env, step).item() for step in ("west", "heart_a", "west", "east", "heart_b", "east", "east")]
    assert rewards == [0, 0, 0, 0, 0, 3, 0]
    both = {"all_four": 1, "heart_affordable": 1}
    made = {"heart_a_at_assembler": 2, "heart_made": 3, "heart_b_at_chest": 5, "heart_deposited": 6}
    assert reached(env) == both | made


def test_hearts_of_the_start_are_deposited_but_not_made():
    env = scene("A@H", initial_inventory_buckets=True, initial_resources=30, initial_hearts=1)
    act(env, "heart_b", "east")
    assert reached(env) == {"all_four": 1, "heart_affordable": 1, "heart_b_at_chest": 1, "heart_deposited": 2}
    act(env, "heart_a", "west")
    assert reached(env)["heart_made"] == 4


def test_every_agent_has_milestones_of_its_own_and_a_shared_heart_is_made_by_those_who_get_one():
    env = scene("@A@", "...", "@..", assembler_protocols="medium", **RICH | {"initial_hearts": 0})
    act(env, "heart_a,heart_b,east", "east,noop,noop")
    made = [reached(env, agent).get("heart_made") for agent in range(3)]
    assert [held(env, agent).get("heart", 0) for agent in range(3)] == [int(step == 2) for step in made] == [1, 0, 0]
    assert reached(env, 2) == {"moved": 1, "all_four": 1, "heart_affordable": 1}


def test_the_funnel_of_an_episode_is_the_share_of_agents_that_reached_each_milestone():
    env = world(3, max_steps=60, **RICH)
    env.reset()
    generator = torch.Generator().manual_seed(0)
    for _ in range(59):
        env.step(torch.randint(env.num_actions, (env.num_agents,), generator=generator))
    noted = (env.state.milestones != col.NOT_YET).mean(1)
    assert len(np.unique(noted)) > 3
    act(env, "noop")
    episodes = env.pop_episodes()
    funnel = {name: column for name, column in episodes.items() if name.startswith("env/funnel/")}
    assert list(funnel) == [f"env/funnel/{name}" for name in FUNNEL]
    np.testing.assert_array_equal(np.stack(list(funnel.values()), 1), noted)


def test_a_new_episode_begins_without_milestones():
    env = world(2, max_steps=3)
    env.reset()
    act(env, "north", "south", "east")
    assert env.state.world[0, col.STEP] == 0
    assert (env.state.milestones == col.NOT_YET).all()


# assembly_lines: the funnel follows the chain.


def test_links_of_the_chain_are_noted_in_order_when_their_resource_is_gained():
    task = sample_task(3, STYLES["level_0"]._replace(chain_lengths=(2,), num_sinks=(0,)))
    env = make(
        "assembly_lines", 1, tasks=lambda world, episode: 3, curriculum_style="level_0", chain_lengths=2, num_sinks=0
    )
    assert isinstance(env, AssemblyLinesEnv)
    env.reset()
    s, stride = env.state, int(env.state.window[4, 0])

    def use(station: int) -> int:
        """Put the agent beside a station, on its inner side, and let it use it; the step."""
        row, column = divmod(int(s.objects[0, station, col.OBJECT_CELL]), stride)
        top, left = row == col.BORDER, column == col.BORDER
        bottom = row == task.height + col.BORDER - 1
        action, offset = (1, stride) if top else (2, -stride) if bottom else (3, 1) if left else (4, -1)
        s.grid[0, s.agents[0, 0, col.CELL]] = col.EMPTY
        s.agents[0, 0, col.CELL] = s.objects[0, station, col.OBJECT_CELL] + offset
        env.step(torch.tensor([action]))
        return int(s.world[0, col.STEP])

    assert reached(env) == {}
    env.step(torch.tensor([0]))
    first, second, heart = use(0), use(1), use(2)
    assert reached(env) == {"moved": 2, "link_1": first, "link_2": second, "first_heart": heart}
    for station in range(3):
        s.objects[0, station, col.END] = 0
        last = use(station)
    assert reached(env)["second_heart"] == last


def test_links_that_a_chain_lacks_are_nan_and_left_out_of_means():
    env = make("assembly_lines", 24, curriculum_style="level_0", chain_lengths=[1, 2, 3], num_vibes=0)
    env.reset()
    generator = torch.Generator().manual_seed(1)
    for _ in range(2200):
        env.step(torch.randint(5, (24,), generator=generator))
    episodes = env.pop_episodes()
    length = episodes["env/chain_length"]
    assert set(length) == {1, 2, 3}
    for link in range(1, LINKS + 1):
        column = episodes[f"env/funnel/link_{link}"]
        assert np.array_equal(np.isnan(column), length < link)
    means = episode_means(episodes)
    assert {f"env/funnel/link_{link}" for link in (1, 2, 3)} == {name for name in means if "link_" in name}
    third = episodes["env/funnel/link_3"][length == 3]
    assert means["env/funnel/link_3"] == pytest.approx(third.mean())
    assert 0 < means["env/funnel/link_1"] <= 1
    assert (episodes["env/funnel/first_heart"] == (episodes["return"] >= 1)).all()
    assert (episodes["env/funnel/second_heart"] == (episodes["return"] >= 2)).all()
