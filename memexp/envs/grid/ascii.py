"""A world as text, for `print` and for tests."""

from memexp.envs.grid import columns as col
from memexp.envs.grid.state import State


def ascii_world(s: State, w: int) -> str:
    """World w without its border: `#` wall, `@` agent, letters (a = type 0) for stations, `$` chests, `.` floor."""
    height, width = s.world[w, [col.HEIGHT, col.WIDTH]].tolist()
    num_agents, stride = s.agents.shape[1], int(s.window[4, 0])

    def symbol(code: int) -> str:
        if code <= col.AGENTS - 1:
            return ".#"[code]
        if code < col.AGENTS + num_agents:
            return "@"
        kind = s.objects[w, code - col.AGENTS - num_agents, col.TYPE]
        return "$" if s.types[w, kind, col.KIND] == col.CHEST else chr(ord("a") + kind % 26)

    cells = s.grid[w].reshape(-1, stride)[col.BORDER - 1 : height - col.BORDER + 1]
    return "\n".join("".join(map(symbol, row[col.BORDER - 1 : width - col.BORDER + 1].tolist())) for row in cells)
