"""How quickly `memexp monitor` refreshes: seconds of one refresh, and the ratio to reading the runs whole each time.

    python benchmarks/monitor.py [--runs 80] [--lines 2000] [--repeats 7]

Writes runs as a trainer does (lines of about 1.1 kB) into a temporary home, then looks as the dashboard does: at first,
again when nothing was written, and again after every run has appended a line; then it draws all lines. Times are wall
times, medians over the repeats with the smallest and the largest.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from memexp.launch.status.monitor.many import ManyRuns
from memexp.launch.status.monitor.snapshot import Snapshots
from memexp.launch.status.targets import Target
from memexp.runs import Run, RunInfo

LINE = {f"env/statistic_{number}": number / 7 for number in range(30)}
LINE |= {f"env/funnel/milestone_{number}": 1 / (number + 1) for number in range(8)}


def line(update: int) -> str:
    numbers = {"agent_steps": 4096 * update, "wall_s": 0.5 * update, "sps": 8192.0, "episode/count": 3.0}
    numbers |= {"episode/return": update / 1000, "policy/entropy": 1.5, "consistency/max_logprob_gap": 1e-6}
    return json.dumps(numbers | LINE) + "\n"


def write(runs: int, lines: int) -> list[Run]:
    """Runs of one matrix: two environments, eight arms, seeds."""
    written = []
    for number in range(runs):
        env, arm, seed = f"env{number % 2}", f"arm{number // 2 % 8}", number // 16
        run = Run.named(f"bench.{env}_{arm}.s{seed}")
        known = {"matrix": "bench", "pattern": "S", "mem_len": 0, "memory": "on", "num_actions": 17}
        run.write_info(RunInfo(run=run.name, env=env, arm=arm, seed=seed, total_timesteps=8192 * lines, **known))
        run.write_config({"trainer": {"precision": "float32"}})
        (run.path / "metrics.jsonl").write_text("".join(line(update) for update in range(1, lines + 1)))
        written.append(run)
    return written


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def tell(what: str, seconds: list[float], whole: float) -> None:
    middle = statistics.median(seconds)
    spread = f"{1e3 * min(seconds):.1f}-{1e3 * max(seconds):.1f}"
    print(f"{what:34} {1e3 * middle:9.1f} ms [{spread}]   {whole / middle:7.1f}x as fast as reading all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 80), ("lines", 2000), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["MEMEXP_HOME"] = home
        runs = write(asked.runs, asked.lines)
        size = sum(file.stat().st_size for file in Path(home).rglob("metrics.jsonl"))
        print(f"{asked.runs} runs of {asked.lines} lines, {size / 1e6:.0f} MB, {asked.repeats} repeats")
        whole = timed(lambda: [run.metrics() for run in runs])
        firsts, unused, grown, drawn = [], [], [], []
        console = Console(width=160, height=100, force_terminal=True, file=open(os.devnull, "w"))  # noqa: SIM115
        for repeat in range(asked.repeats):
            snapshots = Snapshots(Target("bench"))
            firsts.append(timed(lambda snapshots=snapshots: list(snapshots.read())))
            unused.append(timed(lambda snapshots=snapshots: list(snapshots.read())))
            for run in runs:
                with open(run.path / "metrics.jsonl", "a") as file:
                    file.write(line(asked.lines + 1 + repeat))
            grown.append(timed(lambda snapshots=snapshots: list(snapshots.read())))
            looks = list(snapshots.read())
            drawn.append(timed(lambda looks=looks: console.print(ManyRuns("bench", looks))))
        print(f"{'reading all lines of all runs':34} {1e3 * whole:9.1f} ms")
        tell("first look", firsts, whole)
        tell("refresh, nothing new", unused, whole)
        tell("refresh, a new line in every run", grown, whole)
        tell("drawing a line a run", drawn, whole)


if __name__ == "__main__":
    main()
