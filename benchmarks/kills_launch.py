"""`kill -9` of a launch and of its processes: the same command then completes every run as if nothing had happened.

    python benchmarks/kills_launch.py [--kills 20] [--steps 60k] [--seed 0]

A matrix of four runs is launched on this machine. At random moments the launch or one of its descendants is killed;
a launch that has ended is started again. Prints what was killed, how long its orphans lived, and the largest difference
of the metrics from those of a matrix that was left alone. Fails if an orphan lives longer than 10 seconds.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from kills import apart

LONGEST_S = 30.0
"""Longest time between two kills."""
ORPHAN_S = 10.0
MATRIX = """
name: kills
environments: {maze: {recipe: recipes.controls.tmaze}}
architectures: {S: {pattern: S}}
steps: [60k]
seeds: 2
overrides:
  {trainer.num_envs: 16, trainer.horizon: 8, trainer.num_minibatches: 2, cortex.d_hidden: 16,
   trainer.checkpoint_minutes: 0.02, evaluation.random_episodes: 4, wandb.mode: disabled}
"""


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--steps", default="60k")
    words.add_argument("--seed", type=int, default=0)
    options = words.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        (Path(folder) / "m.yaml").write_text(MATRIX)
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        finish(alone, options.steps)
        longest, launch = 0.0, start(killed, options.steps)
        for number in range(1, options.kills + 1):
            time.sleep(dice.random() * LONGEST_S)
            if launch.poll() is not None:
                launch = start(killed, options.steps)
                time.sleep(dice.random() * LONGEST_S)
            longest = max(longest, kill_one(launch, dice, number))
        launch.wait()
        finish(killed, options.steps)
        difference = max(
            apart(a, b)
            for run in (alone / "runs").iterdir()
            for a, b in zip(lines(run), lines(killed / "runs" / run.name), strict=True)
        )
    print(f"\n{options.kills} kills: orphans lived {longest:.1f} s at most; metrics differ by {difference:.3g} at most")
    return int(longest > ORPHAN_S or difference > 0)


def start(home: Path, steps: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "memexp", "launch", "m.yaml", "--local", "--jobs", "2", "--steps", steps]
    environment = {**os.environ, "MEMEXP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, cwd=home.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(home: Path, steps: str) -> None:
    """Launch the matrix and wait until every run is completed."""
    launch = start(home, steps)
    output = launch.communicate()[0].decode()
    ends = [json.loads(file.read_text())["status"] for file in home.glob("runs/*/exit.json")]
    if launch.returncode or ends != ["completed"] * 4:
        raise SystemExit(f"{output}\n{ends}")


def kill_one(launch: subprocess.Popen[bytes], dice: random.Random, number: int) -> float:
    """Kill the launch or one of its descendants; returns the seconds that the descendants of what was killed lived."""
    parent = psutil.Process(launch.pid)
    everybody = [parent, *parent.children(recursive=True)]
    victim = parent if dice.random() < 0.5 else dice.choice(everybody)
    orphans = victim.children(recursive=True)
    what = "the launch" if victim == parent else " ".join(victim.cmdline()[1:5])[-60:]
    victim.kill()
    killed_at = time.monotonic()
    psutil.wait_procs(orphans, timeout=60)
    lived = time.monotonic() - killed_at
    print(f"kill {number:2}: {what}; {len(orphans)} descendants lived {lived:.1f} s", flush=True)
    return lived


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
