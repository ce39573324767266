"""Uniformly random play comes as far as it came in the original."""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers.golden import GOLDEN

from memexp.envs import make
from memexp.envs.cvc_tasks import CARGO, RESOURCES
from memexp.envs.grid import columns as col
from memexp.envs.grid.state import State
from memexp.envs.grid.step import QUIET, step_worlds
from memexp.envs.grid.vec_env import GridEnv

POLICIES = {"noop_and_moves": 5, "first_21_actions": 21, "all_157_actions": 157}
"""Uniformly random over so many of the 157 actions."""
STYLES = ("level_0", "level_2", "tiny", "all_room_sizes", "terrain_1")
BUCKETS = ("heart_buckets", "resource_buckets", "initial_inventory_buckets")
LONGEST = 1000
"""Steps after which the recorded episodes of cvc_random_maps were cut."""
SIGMA = 4


@cache
def recorded() -> dict:
    file = GOLDEN / "random_policy_statistics.json"
    if not file.exists():
        pytest.skip(f"no golden data in {GOLDEN} (set MEMEXP_GOLDEN)")
    return json.loads(file.read_text())


def played(name: str, tasks: range, num_actions: int, longest: int = 10**9, **knobs: Any) -> State:
    """What worlds of these tasks look like after an episode of random play, or its first `longest` steps."""
    env = make(name, len(tasks), tasks=lambda world, episode: tasks[world], num_vibes=152, **knobs)
    assert isinstance(env, GridEnv)
    env.reset()
    s, rng = env.state, np.random.default_rng(0)
    steps = np.minimum(s.world[:, col.MAX_STEPS], longest)
    for t in range(steps.max()):
        actions = rng.integers(num_actions, size=s.agents.shape[:2])
        step_worlds(s, actions, (t < steps).astype(np.int64), QUIET)
    return s


def z_score(difference: float, spread: float) -> float:
    """Difference in standard errors; without any spread only equality is none."""
    return 0.0 if difference == 0 else difference / spread if spread else np.inf


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: f"golden-assembly-{policy}")
@pytest.mark.parametrize("style", STYLES)
def test_random_play_of_assembly_lines_earns_what_it_earned_in_the_original(style, policy):
    expected = recorded()["assembly_lines"][style][policy]
    count = expected["episodes"]
    tasks = range(7000, 7000 + count)
    returns = played("assembly_lines", tasks, POLICIES[policy], curriculum_style=style).agent_stats[:, 0, col.RETURN]
    nonzero, theirs = (returns > 0).mean(), expected["share_nonzero"]
    z = {
        "mean_return": z_score(
            returns.mean() - expected["mean_return"], np.hypot(returns.std() / count**0.5, expected["stderr"])
        ),
        "share_nonzero": z_score(nonzero - theirs, np.sqrt((nonzero * (1 - nonzero) + theirs * (1 - theirs)) / count)),
    }
    assert {name: score for name, score in z.items() if abs(score) > SIGMA} == {}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: f"golden-cvc-{policy}")
@pytest.mark.parametrize("buckets", [(), BUCKETS], ids=lambda buckets: "+".join(buckets) or "base")
def test_random_play_of_cvc_random_maps_does_what_it_did_in_the_original(buckets, policy):
    rows = recorded()["cvc_random_maps"]["+".join(buckets) or "base"][policy]["rows"]
    tasks = range(8000, 8000 + len(rows))
    assert [row["task_id"] for row in rows] == list(tasks)
    s = played("cvc_random_maps", tasks, POLICIES[policy], LONGEST, **dict.fromkeys(buckets, True))
    agents, game, heart = s.agent_stats.mean(1), s.game_stats, RESOURCES.index("heart")
    ours = {
        "steps": s.world[:, col.STEP],
        "mean_return": agents[:, col.RETURN],
        "hearts_created": game[:, col.CREATED + heart],
        "deposits_per_agent": agents[:, col.DEPOSITED_BY + heart],
        "move_success_per_agent": agents[:, col.SUCCEEDED + col.MOVE],
        "move_failed_per_agent": agents[:, col.FAILED + col.MOVE],
        **{f"created {name}": game[:, col.CREATED + RESOURCES.index(name)] for name in ("energy", *CARGO)},
    }
    flat = [{**row, **{f"created {name}": amount for name, amount in row["created"].items()}} for row in rows]
    z = {}
    for name, values in ours.items():
        difference = values - np.array([row[name] for row in flat])  # task by task
        z[name] = z_score(difference.mean(), difference.std(ddof=1) / len(rows) ** 0.5)
    assert z["steps"] == 0
    assert {name: score for name, score in z.items() if abs(score) > SIGMA} == {}
