"""Generated rooms are like the original's."""

import json

import numpy as np
import pytest
from helpers.golden import GOLDEN

from memexp.envs import make
from memexp.envs.assembly_tasks import ROOMS, TERRAINS
from memexp.envs.grid import columns as col

CELLS = [(room, terrain) for room in ("tiny", "small", "medium", "large") for terrain in TERRAINS]


def rooms(room: str, terrain: str, count: int, seed: int = 0) -> list[np.ndarray]:
    """`count` generated rooms as arrays of cell codes, without the border."""
    env = make("assembly_lines", count, seed=seed, chain_lengths=3, num_sinks=1, room_sizes=room, terrains=terrain)
    env.reset()
    s = env.state
    side = ROOMS[room][1] + 2 * col.BORDER
    inner = []
    for w in range(count):
        height, width = s.world[w, [col.HEIGHT, col.WIDTH]]
        inner.append(s.grid[w].reshape(side, side)[col.BORDER : height - col.BORDER, col.BORDER : width - col.BORDER])
    return inner


def reachable(cells: np.ndarray) -> np.ndarray:
    """Which cells the agent can stand on or bump into."""
    seen = np.pad(cells == col.AGENTS, 1)
    free = np.pad(cells, 1, constant_values=col.WALL) == col.EMPTY
    standing = seen.copy()
    while True:
        near = seen | np.roll(standing, 1, 0) | np.roll(standing, -1, 0) | np.roll(standing, 1, 1)
        near |= np.roll(standing, -1, 1)
        if (near == seen).all():
            return seen[1:-1, 1:-1]
        seen, standing = near, standing | (near & free)


@pytest.mark.parametrize(("room", "terrain"), CELLS, ids=[f"golden-assembly-{r}-{t}" for r, t in CELLS])
def test_walls_and_reachability_are_distributed_as_in_the_original(room, terrain):
    file = GOLDEN / "map_statistics.json"
    if not file.exists():
        pytest.skip(f"no golden data in {GOLDEN} (set MEMEXP_GOLDEN)")
    recorded = json.loads(file.read_text())["assembly_lines"]["cells"]
    (expected,) = [c for c in recorded if (c["room_size"], c["terrain"]) == (room, terrain)]
    count, n = 300, expected["n"]
    maps = rooms(room, terrain, count)

    def agree(ours: np.ndarray, mean: float, std: float) -> None:
        spread = np.sqrt(ours.var() / count + std**2 / n)
        assert abs(ours.mean() - mean) <= 4 * spread

    density = np.array([(m == col.WALL).mean() for m in maps])
    agree(density, expected["inner_wall_density"]["mean"], expected["inner_wall_density"]["std"])
    np.testing.assert_allclose(density.std(), expected["inner_wall_density"]["std"], rtol=0.35)
    shares = {
        "share_zero_walls": density == 0,
        "share_all_objects_reachable": [reachable(m)[m > col.AGENTS].all() for m in maps],
    }
    for name, ours in shares.items():
        p = (np.mean(ours) * count + expected[name] * n) / (
            count + n
        )  # of both together, so that a rare event has a spread
        assert abs(np.mean(ours) - expected[name]) <= 4 * np.sqrt(p * (1 - p) * (1 / count + 1 / n)), name


@pytest.mark.parametrize("terrain", TERRAINS)
def test_stations_stand_on_the_edge_and_the_agent_in_the_centre_of_free_rings(terrain):
    for cells in rooms("small", terrain, 50):
        height, width = cells.shape
        assert cells[height // 2, width // 2] == col.AGENTS
        stations = np.argwhere(cells > col.AGENTS)
        assert len(stations) == 5
        for row, column in stations:
            assert (row in (0, height - 1)) != (column in (0, width - 1))
        for ring in (0, 1):
            inside = cells[ring : height - ring, ring : width - ring]
            edges = np.concatenate([inside[0, 1:-1], inside[-1, 1:-1], inside[1:-1, 0], inside[1:-1, -1]])
            assert not (edges == col.WALL).any()


def test_a_room_depends_on_nothing_but_the_seed():
    first, again, other = (rooms("small", "balanced", 8, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
