"""The grid game engine: many worlds in flat arrays, rules as scalar functions that Numba compiles.

    columns.py      which column of which array means what
    state.py        the arrays themselves, and how large they must be
    tables.py       a game (stations, protocols, limits, rewards ...) as rows of those arrays
    inventories.py  amounts, limits, sharing out            stations.py  protocols, chests, sharing between agents
    actions.py      noop, move, change vibe, their costs    observe.py   tokens
    maps.py         where everything stands at the start    rooms.py     a room with stations and obstacles
    milestones.py   stages on the way to reward             step.py      one step of every world, on all cores
    rng.py          random numbers of a world               compiled.py  what Numba is told
    stats.py        names of the statistics                 ascii.py     a world as text
    cuda.py         the same rules in kernels               memory.py    worlds in one piece of a device's memory

The rules are those of MettaGrid. Every compiled function takes (state, world number, ...), allocates nothing and raises
nothing, so that the same source runs on the CPU, as plain Python (NUMBA_DISABLE_JIT=1) and inside a CUDA kernel.
"""
