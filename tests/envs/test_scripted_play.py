"""How well scripted players play."""

from pathlib import Path

import pytest

from memexp.envs import make
from memexp.envs.config import AssemblyLines
from memexp.envs.scripted import POLICY_KINDS, make_scripted_policy
from memexp.ppo.evaluate import first_episodes, reference

ROOM = {
    "map_width": [30, 30], "map_height": [30, 30], "max_steps": [600], "extractor_max_uses": [20],
    "num_assemblers": [10, 10], "num_chargers": [10, 10], "num_chests": [10, 10],
    "num_carbon_extractors": [10, 10], "num_oxygen_extractors": [10, 10],
    "num_germanium_extractors": [10, 10], "num_silicon_extractors": [10, 10],
}  # fmt: skip
"""Sparse enough for eight agents to find room around an assembler."""


def test_with_memory_nearly_all_hearts_of_level_0_are_made():
    env = make("assembly_lines", 16, curriculum_style="level_0")
    assert first_episodes(env, make_scripted_policy(env, "memory").act)["return"].mean() >= 14


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["hard", "medium", "easy", "all"])
@pytest.mark.parametrize("kind", ["memory", "full"])
def test_hearts_are_made_and_deposited_in_every_variant(kind: str, variant: str):
    env = make("cvc_random_maps", 4, assembler_protocols=[variant], **ROOM)
    episodes = first_episodes(env, make_scripted_policy(env, kind).act)
    assert (episodes["return"] > 0).all()
    assert episodes["env/hearts_made"].mean() > 8


@pytest.mark.slow
def test_without_memory_hearts_are_made_where_few_agents_suffice():
    env = make("cvc_random_maps", 4, assembler_protocols=["hard", "medium"], **ROOM)
    assert first_episodes(env, make_scripted_policy(env, "memoryless").act)["return"].mean() > 0


def test_reference_levels_rank_the_players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEMEXP_HOME", str(tmp_path))
    world = AssemblyLines(curriculum_style="level_0")
    levels = {player: reference(world, player, episodes=8, seed=1).mean for player in POLICY_KINDS}
    assert levels["random"] < levels["memoryless"] <= levels["memory"] <= levels["full"]
