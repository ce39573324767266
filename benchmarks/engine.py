"""Speed of assembly_lines on one core, agent steps a second, beside the original engine's figures.

    python benchmarks/engine.py [--worlds 1024] [--repeats 7] [--json]

`env`: VecEnv.step with observations, rewards and resets, uniformly random actions over all of them. `engine`: the
compiled step alone. Worlds are out of phase, so that episodes end throughout. Median and quartiles over the repeats.
"""

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from memexp.envs.assembly_lines import AssemblyLinesEnv
from memexp.envs.assembly_tasks import STYLES, Style
from memexp.envs.config import AssemblyLines
from memexp.envs.grid import columns as col
from memexp.envs.grid.step import step_worlds

ORIGINAL = {"tiny": 155_000, "small": 151_000, "medium": 292_000}
"""The original engine alone, agent steps a second on one core of the same kind of machine (level_0: as tiny)."""
ORIGINAL_WRAPPED = 23_500
"""The original with its training wrapper (22 000 to 25 000)."""
CASES: dict[str, tuple[Style, str | None]] = {
    "level_0": (STYLES["level_0"], "tiny"),
    **{room: (Style((1, 2, 3, 4), (0, 1, 2), (room,)), room) for room in ORIGINAL},
    "all_room_sizes": (STYLES["all_room_sizes"], None),
    "full": (STYLES["full"], None),
}
"""Case -> tasks and the room size whose original figure it is compared with. `full` has obstacles and large rooms."""


def rates(env: AssemblyLinesEnv, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Agent steps a second of VecEnv.step ('env') and of the compiled step alone ('engine'), one figure a repeat."""
    env.reset()
    env.desync()
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(env.num_actions, (64, env.num_agents), generator=generator)
    arrays = [row[:, None].numpy() for row in actions]
    ones = np.ones(env.num_envs, np.int64)

    def rate(run: Callable[[int], object]) -> float:
        steps, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            for _ in range(16):
                run(steps)
                steps += 1
        return steps * env.num_agents / spent

    result: dict[str, list[float]] = {"env": [], "engine": []}
    for _ in range(repeats + 1):
        result["env"].append(rate(lambda i: env.step(actions[i % 64])))
        env.pop_episodes()
        state = env.state_dict()
        env._state.world[:, col.MAX_STEPS] = 10**9  # nobody would reset the worlds that end
        result["engine"].append(rate(lambda i: step_worlds(env._state, arrays[i % 64], ones)))
        env.load_state_dict(state)
    return {name: values[1:] for name, values in result.items()}  # the first repeat warms up


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return low, median, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=1024)
    parser.add_argument("--vibes", type=int, default=152, help="vibe actions (152 in the original)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU time of a repeat")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    torch.set_num_threads(1)

    table = Table(title=f"agent steps/s on one core, {options.worlds} worlds, median [quartiles]")
    for heading in ("tasks", "env", "engine", "env / original engine", "env / original wrapper"):
        table.add_column(heading, justify="left" if heading == "tasks" else "right")
    answer = {}
    for case, (style, room) in CASES.items():
        env = AssemblyLinesEnv(AssemblyLines(num_vibes=options.vibes), options.worlds, style=style)
        measured = rates(env, options.repeats, options.seconds)
        row: dict[str, float | list[float] | None] = {}
        for name, values in measured.items():
            low, median, high = quartiles(values)
            row |= {name: median, f"{name}_quartiles": [low, high]}
        median = quartiles(measured["env"])[1]
        row["ratio_to_original_engine"] = median / ORIGINAL[room] if room else None
        row["ratio_to_original_wrapper"] = median / ORIGINAL_WRAPPED
        answer[case] = row
        cells = []
        for values in measured.values():
            low, median, high = quartiles(values)
            cells.append(f"{median / 1e3:,.0f}k [{low / 1e3:,.0f}-{high / 1e3:,.0f}]")
        median = quartiles(measured["env"])[1]
        ratio = f"{median / ORIGINAL[room]:.1f}x" if room else ""
        table.add_row(case, *cells, ratio, f"{median / ORIGINAL_WRAPPED:.0f}x")
    if options.json:
        print(json.dumps({"worlds": options.worlds, "vibes": options.vibes, "cases": answer}))
    else:
        Console().print(table)


if __name__ == "__main__":
    main()
