"""What `kill -9` costs: a run of two ranks is killed at random moments, resumed, and compared with one left alone.

    python benchmarks/kills.py [--kills 10] [--ranks 2,1] [--updates 300] [--checkpoint-seconds 3] [--seed 0]

Prints the agent steps that each kill lost, and the largest difference between the metrics and weights of the two runs
(the same number of ranks computes the same bits; another one adds in another order). `--ranks 2,1` starts with two
ranks and alternates: every start goes on with what the other number of ranks has written.
"""

import argparse
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from safetensors.numpy import load_file

CLOCK = ("wall_s", "sps", "checkpoint/", "time/", "gpu/")
UPDATE = 64 * 16
"""Agent steps of an update."""


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=10)
    words.add_argument("--ranks", default="2")
    words.add_argument("--updates", type=int, default=300)
    words.add_argument("--checkpoint-seconds", type=float, default=3.0)
    words.add_argument("--seed", type=int, default=0)
    options = words.parse_args()
    ranks = [int(number) for number in options.ranks.split(",")]
    with tempfile.TemporaryDirectory(prefix="kills-") as home:
        campaign = Campaign(Path(home), options.updates, options.checkpoint_seconds, random.Random(options.seed))
        lost = campaign.kill_again_and_again(options.kills, ranks)
        campaign.leave_alone(ranks[0])
        difference = campaign.difference()
    print(
        f"\nlost in {len(lost)} kills: {sum(lost):,} agent steps of {options.updates * UPDATE:,}, at most {max(lost):,}"
    )
    print(f"largest difference to the run left alone: metrics {difference[0]:.3g}, weights {difference[1]:.3g}")
    return int(max(difference) > (0.0 if len(set(ranks)) == 1 else 1e-3))


class Campaign:
    """Two runs of one config below `home`: `killed` and `alone`."""

    def __init__(self, home: Path, updates: int, checkpoint_seconds: float, dice: random.Random):
        self.home, self.updates, self.dice = home, updates, dice
        self.checkpoint_minutes = checkpoint_seconds / 60

    def start(self, name: str, ranks: int) -> subprocess.Popen[bytes]:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        pairs = {
            "run": name,
            "seed": 0,
            "trainer.num_envs": 64,
            "trainer.horizon": 16,
            "trainer.total_timesteps": self.updates * UPDATE,
            "trainer.checkpoint_minutes": self.checkpoint_minutes,
            "trainer.device": "cpu",
            "evaluation.random_episodes": 0,
            "wandb.mode": "disabled",
        }
        arguments = [f"{key}={value}" for key, value in pairs.items()]
        command = [sys.executable, *torchrun, "-m", "memexp", "train", "recipes.controls.tmaze", *arguments]
        environment = {**os.environ, "MEMEXP_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def kill_again_and_again(self, kills: int, ranks: Sequence[int]) -> list[int]:
        """Agent steps that each kill lost; the run is finished then."""
        lost, sizes = [], itertools.cycle(ranks)
        for number in range(1, kills + 1):
            size = next(sizes)
            process, began = self.start("killed", size), self.reached()
            self.wait_until(began + 1 + self.dice.randrange(max(1, self.updates // (kills + 2))), process)
            time.sleep(self.dice.random() * 0.2)  # anywhere within an update or a write
            kill_tree(process)
            done, kept = self.reached() * UPDATE, self.kept()
            lost.append(done - kept)
            print(
                f"kill {number:2}, {size} ranks: at {done:9,} steps, resumed from {kept:9,}, lost {lost[-1]:7,}",
                flush=True,
            )
        self.finish(self.start("killed", next(sizes)))
        return lost

    def leave_alone(self, ranks: int) -> None:
        self.finish(self.start("alone", ranks))

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(output.decode())

    def wait_until(self, updates: int, process: subprocess.Popen[bytes]) -> None:
        """Until the run has made so many updates."""
        while self.reached() < min(updates, self.updates - 1):
            if process.poll() is not None:
                raise SystemExit(process.communicate()[0].decode())
            time.sleep(0.005)

    def reached(self) -> int:
        """Updates that the metrics tell of."""
        lines = self.lines("killed")
        return lines[-1]["agent_steps"] // UPDATE if lines else 0

    def kept(self) -> int:
        """Agent steps of the newest checkpoint that is whole."""
        finished = self.run("killed").glob("checkpoints/*/manifest.json")
        return max((int(manifest.parent.name) for manifest in finished), default=0)

    def run(self, name: str) -> Path:
        return self.home / "runs" / name

    def lines(self, name: str) -> list[dict[str, Any]]:
        file = self.run(name) / "metrics.jsonl"
        text = file.read_text() if file.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def difference(self) -> tuple[float, float]:
        """Largest difference of a metric (relative, in any line) and of a weight at the end; infinite if lines lack."""
        killed, alone = self.lines("killed"), self.lines("alone")
        if [line["agent_steps"] for line in killed] != [line["agent_steps"] for line in alone]:
            return math.inf, math.inf
        metrics = max(apart(a, b) for a, b in zip(killed, alone, strict=True))
        newest = [max(self.run(name).glob("checkpoints/*")) / "weights.safetensors" for name in ("killed", "alone")]
        a, b = map(load_file, newest)
        return metrics, max(float(abs(a[name] - b[name]).max()) for name in a)


def apart(a: dict[str, float], b: dict[str, float]) -> float:
    """Largest |difference| / max(1, |value|) of two lines; infinite if one has what the other has not."""
    if a.keys() != b.keys():
        return math.inf
    return max(abs(a[key] - b[key]) / max(1.0, abs(a[key])) for key in a if not key.startswith(CLOCK))


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for torchrun, its ranks and whatever they have started, and wait until all are gone."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in tree:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree[1:], timeout=30)
    process.communicate()


if __name__ == "__main__":
    sys.exit(main())
