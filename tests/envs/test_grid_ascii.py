"""A world as text."""

import numpy as np

from memexp.envs import make
from memexp.envs.grid import columns as col


def test_the_text_shows_walls_stations_and_the_agent_where_they_stand():
    env = make("assembly_lines", 1, chain_lengths=2, num_sinks=1, room_sizes="tiny")
    env.reset()
    s = env.state
    lines = env.ascii(0).splitlines()
    height, width = s.world[0, [col.HEIGHT, col.WIDTH]] - 2 * col.BORDER
    assert len(lines) == height + 2
    assert {len(line) for line in lines} == {width + 2}
    assert set(lines[0] + lines[-1]) == {"#"}
    assert lines[1 + height // 2][1 + width // 2] == "@"
    assert sorted("".join(lines).replace("#", "").replace(".", "")) == ["@", *"abcd"]
    row, column = np.divmod(s.objects[0, 0, col.OBJECT_CELL], s.window[4, 0])
    assert lines[row - col.BORDER + 1][column - col.BORDER + 1] == "a"
