"""Speed of assembly_lines on one core, agent steps a second, beside the original engine's figures.

    python benchmarks/engine.py [--worlds 1024] [--repeats 7] [--json]

`env`: VecEnv.step with observations, rewards and resets, uniformly random actions over all of them. `engine`: the
compiled step alone. Worlds are out of phase, so that episodes end throughout. Median and quartiles over the repeats.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from memexp.envs.assembly_lines import AssemblyLinesEnv
from memexp.envs.assembly_tasks import STYLES, TERRAINS, Style
from memexp.envs.config import AssemblyLines
from memexp.envs.grid.step import step_worlds

ORIGINAL = {"tiny": 155_000, "small": 151_000, "medium": 292_000}
"""The original engine alone, agent steps a second on one core of the same kind of machine (tiny rooms: also level_0)."""
ORIGINAL_WRAPPED = 23_500
"""The original with its training wrapper (22 000 to 25 000)."""
CASES = {
    "level_0": ("level_0", "tiny"),
    "tiny": ("tiny", "tiny"),
    "small": ("small", "small"),
    "medium": ("medium", "medium"),
    "all_room_sizes": ("all_room_sizes", None),
    "full (all terrains)": ("full", None),
}


def make_env(style: str, num_worlds: int, num_vibes: int) -> AssemblyLinesEnv:
    """Worlds of a curriculum style, or of one room size with chains of 1 to 4."""
    if style not in STYLES:
        STYLES[style] = Style((1, 2, 3, 4), (0, 1, 2), (style,), TERRAINS[:1])
        config = AssemblyLines.model_construct(curriculum_style=style, num_vibes=num_vibes)
    else:
        config = AssemblyLines(curriculum_style=style, num_vibes=num_vibes)  # type: ignore[arg-type]
    return AssemblyLinesEnv(config, num_worlds)


def rates(env: AssemblyLinesEnv, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Agent steps a second of VecEnv.step ('env') and of the compiled step alone ('engine'), one figure a repeat."""
    env.reset()
    env.desync()
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(env.num_actions, (64, env.num_agents), generator=generator)
    arrays = [row[:, None].numpy() for row in actions]
    ones = np.ones(env.num_envs, np.int64)
    runs = {
        "env": lambda i: env.step(actions[i % 64]),
        "engine": lambda i: step_worlds(env._state, arrays[i % 64], ones),
    }
    result: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            steps, start = 0, time.process_time()
            while (spent := time.process_time() - start) < seconds:
                for _ in range(16):
                    run(steps)
                    steps += 1
            if repeat:  # the first one warms up
                result[name].append(steps * env.num_agents / spent)
        env.pop_episodes()
    return result


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
        measured = rates(make_env(style, options.worlds, options.vibes), options.repeats, options.seconds)
        row: dict[str, float | list[float] | None] = {}
        for name, values in measured.items():
            low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
            row |= {name: median, f"{name}_quartiles": [low, high]}
        median = statistics.median(measured["env"])
        row["ratio_to_original_engine"] = median / ORIGINAL[room] if room else None
        row["ratio_to_original_wrapper"] = median / ORIGINAL_WRAPPED
        answer[case] = row
        cells = [f"{row[n] / 1e3:,.0f}k [{row[f'{n}_quartiles'][0] / 1e3:,.0f}-{row[f'{n}_quartiles'][1] / 1e3:,.0f}]" for n in measured]  # type: ignore[operator,index]
        ratio = f"{row['ratio_to_original_engine']:.1f}x" if room else ""
        table.add_row(case, *cells, ratio, f"{row['ratio_to_original_wrapper']:.0f}x")
    if options.json:
        print(json.dumps({"worlds": options.worlds, "vibes": options.vibes, "cases": answer}))
    else:
        Console().print(table)


if __name__ == "__main__":
    main()
