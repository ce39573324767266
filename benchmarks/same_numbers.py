"""Whether a change left every number of training alike: short seeded runs at a git revision and in the working tree.

Each case is one run of one recipe in a process of its own, on one thread. Compared bit for bit are run.json's levels,
every metric of metrics.jsonl but times, and the weights of the last checkpoint. Then both trees judge the runs of the
revision (`memexp report --json`), and every verdict and number of the two answers must agree. One line a case: "equal"
or the first difference; exit code 1 if anything differs. Names of modules may differ between the two trees: only
the command line is used. The runs of a revision are kept under $MEMEXP_HOME/same_numbers and used again.

Usage: python benchmarks/same_numbers.py REV [--jobs 2] [--only WORD ...] [--update] (measure the revision again)
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

TREE = Path(__file__).resolve().parent.parent
CLOCK = ("wall_s", "sps", "checkpoint/", "time/", "gpu/")
"""Metrics that measure the machine."""
LEVELS = ("random_return", "ceiling_return", "memoryless_return", "oracle_return", "memory_span", "num_actions")
MACHINE = {"hours", "dollars", "hardware", "rate", "wall_s"}
"""Parts of an answer that measure the machine."""

SMALL = {
    "seed": 3, "d_hidden": 16, "n_heads": 2, "num_layers": 1, "trainer.num_envs": 16, "trainer.horizon": 16,
    "trainer.num_minibatches": 2, "trainer.total_timesteps": 256 * 6, "trainer.threads": 1, "wandb.mode": "disabled",
    "evaluation.episodes": 6, "evaluation.random_episodes": 6, "evaluation.reference_episodes": 2,
}  # fmt: skip
SWITCHES = {
    "trainer.value_clip": 0.2, "trainer.warmup_updates": 3, "trainer.weight_decay": 0.1, "trainer.max_grad_norm": 0.3,
    "trainer.grad_norm_growth": 1.1, "trainer.entropy_coefficient": 0.1, "trainer.update_epochs": 3,
}  # fmt: skip
PAPER = "recipes.experiment.cortex_paper.2_memory_needed"
CVC = {
    "num_cogs": 3, "trainer.num_envs": 8, "trainer.total_timesteps": 3 * 8 * 16 * 6, "num_vibes": 12,
    "initial_inventory_buckets": "true", "env.map_width": "[8,12]", "env.map_height": "[7,10]", "env.max_steps": 24,
    "env.num_assemblers": 2, "env.num_chargers": 2, "env.num_chests": 3,
    **{f"env.num_{resource}_extractors": 2 for resource in ("carbon", "oxygen", "germanium", "silicon")},
}  # fmt: skip
ASSEMBLY = {"trainer.horizon": 64, "trainer.total_timesteps": 16 * 64 * 6, "evaluation.episodes": 2}
LINES, MAPS = f"{PAPER}.assembly_lines_train.train", f"{PAPER}.cvc_random_maps_train.train"
OFF = {"cortex.memory": "off"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tmaze S": ("recipes.controls.tmaze", {"pattern": "S"}),
    "tmaze S~": ("recipes.controls.tmaze", {"pattern": "S"} | OFF),
    "tmaze L switches": ("recipes.controls.tmaze", {"pattern": "L"} | SWITCHES),
    "tmaze AgSA": ("recipes.controls.tmaze", {"pattern": "AgSA"}),
    "tmaze C": ("recipes.controls.tmaze", {"pattern": "C"}),
    "tmaze M bf16": ("recipes.controls.tmaze", {"pattern": "M", "trainer.precision": "bf16"}),
    "tmaze_cue X": ("recipes.controls.tmaze_cue", {"pattern": "X", "mem_len": 4}),
    "chain_recall X": ("recipes.controls.chain_recall", {"pattern": "X", "mem_len": 4, "env.episode_length": 20}),
    "chain_recall M": ("recipes.controls.chain_recall", {"pattern": "M", "env.episode_length": 20}),
    "chain_recall C~": ("recipes.controls.chain_recall", {"pattern": "C", "env.episode_length": 20} | OFF),
    "any CartPole L": ("recipes.any.train", {"env": "gym:CartPole-v1", "pattern": "L"}),
    "any CartPole X~": ("recipes.any.train", {"env": "gym:CartPole-v1", "pattern": "X", "mem_len": 4} | OFF),
    "any Pendulum S": ("recipes.any.train", {"env": "gym:Pendulum-v1", "pattern": "S"} | SWITCHES),
    "cvc_random_maps S": (MAPS, {"pattern": "S"} | CVC),
    "cvc_random_maps X~": (MAPS, {"pattern": "X", "mem_len": 8} | CVC | OFF),
    "cvc_random_maps AgSA": (MAPS, {"pattern": "AgSA", "curriculum": "uniform"} | CVC),
    "assembly_lines X": (LINES, {"pattern": "X", "mem_len": 8, "curriculum_style": "level_0"} | ASSEMBLY),
    "assembly_lines M": (LINES, {"pattern": "M", "curriculum": "uniform"} | ASSEMBLY),
    "assembly_lines S~": (LINES, {"pattern": "S", "curriculum_style": "level_0"} | ASSEMBLY | OFF),
}


def call(tree: Path, home: Path, *words: str) -> str:
    """Standard output of `memexp WORDS` with the code of `tree`; raises RuntimeError with what it said if it fails."""
    environment = os.environ | {
        "PYTHONPATH": str(tree), "MEMEXP_HOME": str(home), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "WANDB_MODE": "disabled",
    }  # fmt: skip
    command = [sys.executable, "-m", "memexp", *words]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}")
    return done.stdout


def train(tree: Path, home: Path, case: str) -> None:
    """The run of a case, unless it is there already."""
    run = name_of(case)
    if not (home / "runs" / run / "exit.json").exists():
        recipe, own = CASES[case]
        words = SMALL | {"run": run, "labels.matrix": "same"} | own
        call(tree, home, "train", recipe, *(f"{key}={value}" for key, value in words.items()))


def name_of(case: str) -> str:
    """The name of a case's run."""
    return case.replace(" ", "_").replace("~", "-off")


def numbers(run: Path) -> dict[str, Any]:
    """All that must stay alike of a run: 'update 3: loss/policy' -> its value."""
    info = json.loads((run / "run.json").read_text())
    found: dict[str, Any] = {f"run.json: {name}": info.get(name) for name in LEVELS}
    for number, line in enumerate((run / "metrics.jsonl").read_text().splitlines(), 1):
        metrics = json.loads(line).items()
        found |= {f"update {number}: {key}": value for key, value in metrics if not key.startswith(CLOCK)}
    newest = max((run / "checkpoints").glob("[0-9]*"))
    with safe_open(newest / "weights.safetensors", "np") as file:
        found |= {f"weights: {name}": file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    return found


def answers(tree: Path, home: Path) -> dict[str, Any]:
    """Verdicts and numbers of the answer that `tree` gives about the runs of `home`, by their place in it."""

    def leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict | list):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                if key not in MACHINE:
                    yield from leaves(part, f"{place}.{key}")
        elif not isinstance(value, str) or place.endswith("verdict"):
            yield place, value

    return dict(leaves(json.loads(call(tree, home, "report", str(home / "runs"), "--json")), "answer"))


def first_difference(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """The first place where two measurements differ, in words; None: nowhere."""
    for place in before | after:
        old, new = before.get(place, "missing"), after.get(place, "missing")
        if repr(old) != repr(new):  # NaN is equal to itself, and 1.0 is not 1
            return place if isinstance(old, bytes) or isinstance(new, bytes) else f"{place}: {old!r} became {new!r}"
    return None


@contextmanager
def tree_of(revision: str, folder: Path) -> Iterator[Path]:
    """The files of a revision, for as long as they are needed."""
    tree = folder / "tree"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), revision], cwd=TREE, check=True)
    try:
        yield tree
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=TREE, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="git revision to compare the working tree with")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="cases whose names contain a word")
    parser.add_argument("--update", action="store_true", help="measure the revision again, even if it is known")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))  # the worktree is removed all the same
    cases = [case for case in CASES if any(word in case for word in args.only)]
    resolve = ["git", "rev-parse", "--verify", "--quiet", f"{args.revision}^{{commit}}"]
    found = subprocess.run(resolve, cwd=TREE, capture_output=True, text=True)
    if found.returncode or not cases:
        parser.error(f"no case contains {args.only}" if not cases else f"no revision '{args.revision}'")
    commit = found.stdout.strip()
    old_home = Path(os.environ.get("MEMEXP_HOME", TREE / "memexp_home")).resolve() / "same_numbers" / commit
    if args.update:
        shutil.rmtree(old_home, ignore_errors=True)

    with tempfile.TemporaryDirectory() as scratch, tree_of(commit, Path(scratch)) as old_tree:
        new_home = Path(scratch) / "home"

        def compare(case: str) -> str | None:
            try:
                train(old_tree, old_home, case)
            except RuntimeError as error:
                return f"{args.revision} failed: {error}"
            try:
                train(TREE, new_home, case)
            except RuntimeError as error:
                return f"the working tree failed: {error}"
            run = name_of(case)
            return first_difference(numbers(old_home / "runs" / run), numbers(new_home / "runs" / run))

        different = 0
        with ThreadPoolExecutor(args.jobs) as pool:
            for case, difference in zip(cases, pool.map(compare, cases), strict=True):
                print(f"{case:22} {difference or 'equal'}", flush=True)
                different += difference is not None
        difference = first_difference(answers(old_tree, old_home), answers(TREE, old_home))
        print(f"{'report':22} {difference or 'equal'}", flush=True)
    return int(different > 0 or difference is not None)


if __name__ == "__main__":
    sys.exit(main())
