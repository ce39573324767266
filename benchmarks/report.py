"""How long the answer and its report take for a big matrix, and how large the page is.

Synthetic runs as a trainer would have written them: 2 environments x 4 architectures with twins x 5 seeds = 80 runs of
2,000 updates, each line with the thirty-odd columns of a real one. One fresh process a repeat, as a user would type
it; the ratio is to `import matplotlib, scipy.stats, polars`. Usage: python benchmarks/report.py [--repeats 3]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.synthetic_runs import rising, write_run  # pyright: ignore[reportMissingImports]

MILESTONES = ("moved", "first_resource", "all_resources", "made", "deposited")
OTHERS = {f"env/stat_{i}": 0.123456789 * i for i in range(20)} | {f"loss/part_{i}": 0.0123456789 * i for i in range(6)}


def write_runs(folder: Path, updates: int, seeds: int) -> None:
    rng = np.random.default_rng(0)
    funnel = {name: 0.9**i for i, name in enumerate(MILESTONES)}
    columns = {**OTHERS, **{f"env/funnel/{name}": share for name, share in funnel.items()}, "policy/entropy": 1.5}
    for env, twin in (("maze", 0.5), ("plain", 0.9)):
        for arm in ("S", "X16", "AgSA", "L"):
            for name, final in ((arm, 0.9), (f"{arm}~", twin)):
                for seed in range(seeds):
                    returns = rising(final + 0.02 * rng.standard_normal(), 0.0, updates, 0.05, seed)
                    write_run(
                        folder, name, seed, returns, env=env, budget=1_000_000, columns=columns, random_funnel=funnel
                    )


def seconds(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        write_runs(Path(home) / "runs", options.updates, options.seeds)
        page = Path(home) / "report.html"
        report = ("-m", "memexp", "report", f"{home}/runs")
        programs = {
            "imports": ("-c", "import matplotlib.figure, scipy.stats, polars"),
            "report --json": (*report, "--json"),
            "report": (*report, "--out", str(page)),
        }
        rounds = [{name: seconds(*words) for name, words in programs.items()} for _ in range(options.repeats)]
        base = statistics.median(times["imports"] for times in rounds)
        for name in programs:
            times = sorted(one[name] for one in rounds)
            median = statistics.median(times)
            print(f"{name:16} {median:6.2f} s  ({times[0]:.2f}-{times[-1]:.2f})  {median / base:5.1f} x imports")
        print(
            f"{16 * options.seeds} runs of {options.updates} updates; the page has {page.stat().st_size / 1e6:.2f} MB"
        )


if __name__ == "__main__":
    main()
