"""Maps of cvc_random_maps are like the original's: everything on distinct, uniformly random cells, walls around."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from helpers.cvc import world
from helpers.golden import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from memexp.envs import make
from memexp.envs.config import CVC_OBJECTS
from memexp.envs.grid import columns as col
from memexp.envs.grid.state import State
from memexp.envs.grid.vec_env import GridEnv


def cells_of(s: State, w: int) -> np.ndarray:
    """The map of world w as cell codes, border included."""
    height, width = s.world[w, [col.HEIGHT, col.WIDTH]]
    return s.grid[w].reshape(-1, s.window[4, 0])[:height, :width]


def inside(cells: np.ndarray) -> np.ndarray:
    return cells[col.BORDER : -col.BORDER, col.BORDER : -col.BORDER]


@cache
def recorded() -> dict:
    file = GOLDEN / "map_statistics.json"
    if not file.exists():
        pytest.skip(f"no golden data in {GOLDEN} (set MEMEXP_GOLDEN)")
    return json.loads(file.read_text())["cvc_random_maps"]


@cache
def same_tasks() -> GridEnv:
    """A world for each recorded map, with a map of its own of the same task."""
    tasks = [one["task_seed"] for one in recorded()["maps"]]
    env = make("cvc_random_maps", len(tasks), tasks=lambda world, episode: tasks[world])
    env.reset()
    return env  # type: ignore[return-value]


def statistics(cells: np.ndarray) -> dict[str, float]:
    """The recorded statistics of where things are; a map without its border."""
    places = np.argwhere(cells != col.EMPTY)
    distance = np.abs(places[:, None] - places[None]).sum(2)
    np.fill_diagonal(distance, cells.size)
    rows, columns = (places.mean(0) + 0.5) / cells.shape
    return {
        "mean_row_frac": rows,
        "mean_col_frac": columns,
        "mean_nearest_neighbour_manhattan": distance.min(1).mean(),
    }


def test_golden_cvc_maps_have_the_sizes_and_numbers_of_objects_of_their_tasks():
    s = same_tasks().state
    for w, expected in enumerate(recorded()["maps"]):
        cells = cells_of(s, w)
        assert cells.shape == (expected["H"], expected["W"])
        codes, counts = inside(cells), expected["counts"]
        kinds = s.objects[w, codes[codes >= col.AGENTS + 20] - col.AGENTS - 20, col.TYPE]
        assert dict(zip(CVC_OBJECTS, np.bincount(kinds).tolist(), strict=True)) == expected["requested"]
        assert (cells == col.WALL).sum() == counts["wall"]
        assert (cells == col.EMPTY).sum() == counts["empty"]
        assert (codes != col.EMPTY).mean() == pytest.approx(expected["fill_density"])


@pytest.mark.parametrize("name", ["mean_row_frac", "mean_col_frac", "mean_nearest_neighbour_manhattan"])
def test_golden_cvc_maps_spread_their_objects_as_in_the_original(name):
    s = same_tasks().state
    maps = recorded()["maps"]
    ours = np.array([statistics(inside(cells_of(s, w)))[name] for w in range(len(maps))])
    difference = ours - [one[name] for one in maps]  # map by map: of the same task
    assert abs(difference.mean()) <= 4 * difference.std(ddof=1) / len(maps) ** 0.5
    np.testing.assert_allclose(ours.std(), recorded()["summary"][name]["std"], rtol=0.4)


def check_map(s: State, w: int, num_agents: int) -> None:
    """Everything stands on a cell of its own inside an intact border, and the lists agree with the map."""
    cells, stride = cells_of(s, w), int(s.window[4, 0])
    codes, objects = inside(cells), s.objects[w, : s.world[w, col.NUM_OBJECTS]]
    border = cells.copy()
    inside(border)[:] = col.WALL
    assert (border == col.WALL).all()
    assert not (codes == col.WALL).any()
    standing = np.sort(codes[codes >= col.AGENTS])
    assert standing.tolist() == list(range(col.AGENTS, col.AGENTS + num_agents + len(objects)))
    agents = s.agents[w, :, col.CELL]
    assert (np.diff(agents) > 0).all()  # numbered row by row
    assert (s.grid[w, agents] == col.AGENTS + np.arange(num_agents)).all()
    assert (s.grid[w, objects[:, col.OBJECT_CELL]] == col.AGENTS + num_agents + np.arange(len(objects))).all()
    assert (objects[:, col.ROW] * stride + objects[:, col.COLUMN] == objects[:, col.OBJECT_CELL]).all()
    chests = objects[:, col.TYPE] == CVC_OBJECTS.index("chest")
    assert objects[chests, col.SLOT].tolist() == list(range(num_agents, num_agents + chests.sum()))
    assert (objects[~chests, col.SLOT] == -1).all()


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(5, 60), st.integers(5, 60), st.integers(0, 3))
@settings(max_examples=25)
def test_everything_stands_on_a_cell_of_its_own_inside_the_walls(seed, num_cogs, width, height, count):
    counts = {f"num_{name}s": [min(count, 1), count] for name in CVC_OBJECTS}
    if num_cogs + 7 * count > 25:
        counts = dict.fromkeys(counts, 1)
    env = world(3, seed, num_cogs=num_cogs, map_width=[5, width], map_height=[5, height], **counts)
    env.reset()
    for w in range(3):
        check_map(env.state, w, num_cogs)


def test_a_map_may_be_so_crowded_that_no_cell_is_free():
    counts = {f"num_{name}s": 3 for name in CVC_OBJECTS}
    env = world(20, map_width=5, map_height=6, num_cogs=9, **counts)
    env.reset()
    for w in range(20):
        check_map(env.state, w, 9)
        assert (inside(cells_of(env.state, w)) != col.EMPTY).all()
    env.step(torch.ones(env.num_agents, dtype=torch.int64))  # nobody can move, and nothing breaks
    assert (env.state.agents[:, :, col.CELL] == env.state.agents[:, :, col.START]).all()


def test_a_map_need_not_have_objects():
    env = world(2, num_cogs=3, map_width=2, map_height=2, **{f"num_{name}s": 0 for name in CVC_OBJECTS})
    env.reset()
    check_map(env.state, 0, 3)


def test_every_cell_is_equally_likely_for_agents_and_for_objects():
    worlds, height, width = 4000, 4, 5
    counts = {f"num_{name}s": int(name in ("assembler", "chest")) for name in CVC_OBJECTS}
    env = world(worlds, map_width=width, map_height=height, num_cogs=2, **counts)
    env.reset()
    maps = np.array([inside(cells_of(env.state, w)) for w in range(worlds)])
    for standing in (maps == col.AGENTS + 2, maps == col.AGENTS + 3, maps == col.EMPTY, maps < col.AGENTS + 2):
        assert chisquare(standing.sum(0).ravel()).pvalue > 1e-3
    pairs = (maps == col.AGENTS + 2).reshape(worlds, -1).argmax(1) * maps[0].size
    pairs += (maps == col.AGENTS + 3).reshape(worlds, -1).argmax(1)
    seen = np.bincount(pairs, minlength=maps[0].size ** 2).reshape(maps[0].size, -1)
    assert not seen.diagonal().any()
    assert chisquare(seen[~np.eye(maps[0].size, dtype=bool)]).pvalue > 1e-3  # where one is tells nothing of the other


def test_every_episode_has_a_map_of_its_own_even_of_the_same_task():
    env = world(2, tasks=lambda world, episode: 5, max_steps=1)
    env.reset()
    maps = [env.state.grid.copy()]
    for _ in range(2):
        env.step(torch.zeros(env.num_agents, dtype=torch.int64))
        maps.append(env.state.grid.copy())
    assert len({world.tobytes() for both in maps for world in both}) == 6
    env.reset()
    assert np.array_equal(env.state.grid, maps[0])
