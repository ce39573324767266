"""How long a run takes before it learns anything: what every one of a matrix's many short runs pays.

Each row is a fresh Python process; medians over repeats, and the ratio to a process that only imports torch, which no
run can do without. Usage: python benchmarks/startup.py [--repeats 5] [--json]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

TRAINER = (
    "from memexp.config import override; from memexp.ppo.train import train; import memexp.recipes.controls as c; "
)
ONE_UPDATE = {
    "run": "startup",
    "trainer.total_timesteps": 256,
    "trainer.num_envs": 16,
    "trainer.horizon": 16,
    "evaluation.random_episodes": 0,
    "wandb.mode": "disabled",
}
ASSEMBLY = (
    "import importlib; recipe = importlib.import_module("
    "'memexp.recipes.experiment.cortex_paper.2_memory_needed.assembly_lines_train').train; "
    "config = recipe(curriculum_style='level_0', pattern='S', d_hidden=32, num_layers=1); "
)
PROGRAMS = {
    "import torch": "import torch",
    "memexp --help": "import sys; sys.argv = ['memexp', '--help']; from memexp.cli import main; main()",
    "import the trainer": TRAINER,
    "tmaze, one update": TRAINER + f"train(override(c.tmaze(), {ONE_UPDATE!r}))",
    "assembly_lines, one update": TRAINER
    + ASSEMBLY
    + f"train(override(config, {ONE_UPDATE | {'evaluation.episodes': 0}!r}))",
}


def seconds(program: str) -> float:
    """Wall seconds of a fresh process that runs `program` with a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"MEMEXP_HOME": home, "OMP_NUM_THREADS": "1"}
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for program in PROGRAMS.values():  # warm the file cache and Numba's cache
        seconds(program)
    rounds = [{name: seconds(program) for name, program in PROGRAMS.items()} for _ in range(options.repeats)]
    rows = {name: sorted(times[name] for times in rounds) for name in PROGRAMS}
    base = statistics.median(rows["import torch"])
    result = {
        name: {"median_s": statistics.median(t), "min_s": t[0], "max_s": t[-1], "ratio": statistics.median(t) / base}
        for name, t in rows.items()
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, row in result.items():
        print(
            f"{name:28} {row['median_s']:6.2f} s  ({row['min_s']:.2f}-{row['max_s']:.2f})  {row['ratio']:5.2f} x torch"
        )


if __name__ == "__main__":
    main()
