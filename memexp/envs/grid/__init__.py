"""The engine of the grid games: many environments in flat arrays, with rules that Numba compiles.

    vec_env.py      `GridEnv`, the games as a VecEnv
    cpu_envs.py     episodes, tasks; environments on the CPU    device_envs.py  environments on a GPU
    prefetch.py     prepares episodes in advance for a GPU      memory.py       all arrays in one block of memory
    columns.py      names of the columns of the arrays          state.py        the arrays and their sizes
    tables.py       a game (stations, limits, rewards, ...)     stats.py        names of the statistics
                    as rows of the arrays
    step.py         one step of every environment, all cores    cuda.py         the same rules as CUDA kernels
    actions.py      noop, move, change vibe, their costs        observe.py      observation tokens
    inventories.py  amounts, limits, shared changes             stations.py     protocols, chests, sharing
    maps.py         the map at the start                        rooms.py        rooms with stations and obstacles
    milestones.py   stages on the way to reward                 occupancy.py    occupied cells as bits
    rng.py          random numbers                              compiled.py     Numba's options

The rules are those of MettaGrid. The compiled functions call one environment a world: `s` is the State, `w` the index
of the world in it. They neither allocate nor raise, so the same source runs on the CPU, as plain Python
(NUMBA_DISABLE_JIT=1) and inside CUDA kernels.
"""
