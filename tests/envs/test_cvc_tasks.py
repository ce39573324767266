"""A task id means the same task as in the original, and a task the same game."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.cvc import task_of
from helpers.golden import GOLDEN, golden_cases
from helpers.replay import recorded_game
from hypothesis import given
from hypothesis import strategies as st

from memexp.envs.config import CVC_OBJECTS, CvcRandomMaps
from memexp.envs.cvc_random_maps import PROTOCOL_VIBES, game_of, sizes_of
from memexp.envs.cvc_tasks import sample_task
from memexp.envs.grid import columns as col
from memexp.envs.grid.tables import Chest, Game, Station, build, vibe_key

BUCKETS = ("heart_buckets", "resource_buckets", "initial_inventory_buckets")
COMBINATIONS = ("base", *BUCKETS, "+".join(BUCKETS))


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda name: f"golden-cvc-{name}")
def test_every_recorded_task_id_gives_the_recorded_task(combination):
    file = GOLDEN / "task_samples.json"
    if not file.exists():
        pytest.skip(f"no golden data in {GOLDEN} (set MEMEXP_GOLDEN)")
    recorded = json.loads(file.read_text())["cvc_random_maps"]
    assert set(recorded) == set(COMBINATIONS)
    knobs = CvcRandomMaps(**{name: name in combination for name in BUCKETS})
    assert len(recorded[combination]["samples"]) > 20
    for sample in recorded[combination]["samples"]:
        assert sample_task(sample["task_id"], knobs) == task_of(sample["values"]), sample["task_id"]


def station_facts(station: Station) -> dict:
    """What a station does with so many agents of such vibes around it, however its protocols are written down."""
    keys = {vibe_key(protocol.vibes) for protocol in station.protocols}
    found = {}
    for key in keys:
        for agents in range(1, 9):
            fitting = [p for p in station.protocols if vibe_key(p.vibes) == key and p.min_agents <= agents]
            best = max(fitting, key=lambda p: p.min_agents)
            facts = list(map(tuple, best.inputs)), list(map(tuple, best.outputs)), best.cooldown, sorted(best.vibes)
            found[key, agents] = facts
    return {"tag": station.tag, "protocols": found, "max_uses": station.max_uses, "partial": station.partial}


def facts_of(game: Game, names: tuple[str, ...] | list[str]) -> dict:
    """A game apart from its map and milestones, in a form in which equal games are equal."""
    facts = {field.name: getattr(game, field.name) for field in dataclasses.fields(game)}
    for name in ("size", "layout", "terrain", "milestones"):
        del facts[name]
    facts["rewards"] = [(stat, np.float32(weight), cap) for stat, weight, cap in game.rewards]
    facts["limits"] = {tuple(sorted(members)): limit for members, limit in game.limits}
    facts["initial"] = [(resource, amount) for resource, amount in game.initial if amount]
    facts["diversity"] = sorted(game.diversity)
    facts["goals"] = list(game.goals)
    facts["types"] = {
        name: (kind.tag, sorted(kind.transfers)) if isinstance(kind, Chest) else station_facts(kind)
        for name, kind in zip(names, game.types, strict=True)
    }
    return facts


@pytest.mark.parametrize("path", golden_cases("cvc_random_maps", "*.json"))
def test_the_game_of_a_recorded_task_is_the_recorded_game(path):
    meta = json.loads(path.read_text())
    given = meta["knobs"]
    recorded, names = recorded_game(meta)
    knobs = CvcRandomMaps(**{name: given.get(name, False) for name in BUCKETS})
    task = sample_task(given["task_seed"], knobs)
    assert task == task_of(given["bucket_values"])
    changed = task_of({**given["bucket_values"], **given["overrides_beyond_buckets"]})
    ours = facts_of(game_of(changed, recorded.num_vibes), CVC_OBJECTS)
    theirs = facts_of(recorded, names)
    if not knobs.initial_inventory_buckets:  # then an initial inventory was written by hand, hearts or not
        del ours["initial"], theirs["initial"]
    assert ours == theirs


@given(
    st.sets(st.sampled_from(list(PROTOCOL_VIBES)), min_size=1).map(sorted),
    st.tuples(*[st.booleans()] * 3),
    st.lists(st.integers(0, 9), min_size=2, max_size=2).map(sorted),
    st.integers(0, 10**6),
)
def test_envs_are_large_enough_for_every_task_of_their_knobs(protocols, buckets, span, task_id):
    counts = {f"num_{name}s": span for name in CVC_OBJECTS}
    knobs = CvcRandomMaps(assembler_protocols=protocols, **dict(zip(BUCKETS, buckets, strict=True)), **counts)
    sizes, task = sizes_of(knobs), sample_task(task_id, knobs)
    tables = build(game_of(task, knobs.num_vibes))
    for most, rows in ((sizes.types, tables.types), (sizes.protocols, tables.protocols), (sizes.rows, tables.rows)):
        assert len(rows) <= most
    assert len(tables.reward_terms) <= sizes.rewards
    assert tables.protocols.shape[1] <= col.VIBES + sizes.vibes
    assert sum(task.counts) <= sizes.objects
    assert task.counts[CVC_OBJECTS.index("chest")] <= sizes.chests
    assert task.height + 2 * col.BORDER <= sizes.height
    assert task.width + 2 * col.BORDER <= sizes.width


def test_tasks_can_be_drawn_without_numba_and_torch():
    code = "import sys, memexp.envs.cvc_tasks; sys.exit(bool({'numba', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
