"""Mutation score: which share of small, wrong changes to the code do the tests notice?

    python benchmarks/mutants.py [--sample 300] [--seed 0] [--jobs 2] [--out FILE]     (`make mutants`)

Cosmic Ray makes the mutants: a flipped comparison, sign or condition, a changed number, a dropped operand, swapped
arguments, an empty loop. The sample draws code positions uniformly over all AREAS, then one mutation of each position.
Each mutant is tested in a temporary git worktree of HEAD. First come the quick tests of its area that reach the changed
code: pytest-testmon records once which tests reach which functions. Survivors are then tested by the slow tests of the
area, which train in other processes. Results are written after each mutant; a second call continues. Prints the score
of each area and the diff of every survivor.
"""

import argparse
import ast
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import parso
from cosmic_ray import plugins
from cosmic_ray.commands.init import _all_work_items as all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.operators.operator import Operator
from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).parents[1]
AREAS = {
    "memexp/ppo": "tests/ppo tests/curriculum tests/policy",
    "memexp/policy": "tests/policy tests/ppo",
    "memexp/analysis": "tests/analysis",
    "memexp/curriculum": "tests/curriculum",
    "memexp/launch": "tests/launch tests/test_cli.py",
    "memexp/runs": "tests/runs tests/launch",
}
LAUNCH = ("submit", "queue", "cost", "status", "submissions", "attempts", "control", "targets")
"""Of memexp/launch: modules whose name holds one of these."""
LEFT_OUT = ("memexp/analysis/figures/", "memexp/launch/status/monitor/")
"""Draws pictures and screens, which are judged by looking at them."""
HUNG_S = 1800
"""Seconds after which a test run counts as hung, and its mutant as killed."""


class SwapArguments(Operator):
    """f(a, b) -> f(b, a): the first two positional arguments of a call."""

    def mutation_positions(self, node):
        if node.type == "arglist" and node.parent.type == "trailer" and _are_positional(node.children[:3]):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        first, second = node.children[0], node.children[2]
        swapped = f"{second.get_code(include_prefix=False)}, {first.get_code(include_prefix=False)}"
        rest = "".join(child.get_code() for child in node.children[3:])
        return parso.parse(f"f({swapped}{rest})").children[0].children[1].children[1]

    @classmethod
    def examples(cls):
        return ()


def _are_positional(nodes):
    plain = len(nodes) == 3 and not any(node.type == "argument" for node in nodes)
    return plain and nodes[0].get_code().strip() != nodes[2].get_code().strip()


class DropOperand(Operator):
    """a * b -> b, a + b -> b: a dropped coefficient or term."""

    def mutation_positions(self, node):
        if node.type in ("term", "arith_expr") and len(node.children) == 3:
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        return node.children[2]

    @classmethod
    def examples(cls):
        return ()


plugins.OPERATOR_PROVIDERS["memexp"] = {"SwapArguments": SwapArguments, "DropOperand": DropOperand}


@dataclass
class Result:
    module: str
    operator: str
    occurrence: int
    line: int
    killed: bool
    by: str
    """The test that noticed it; the end of the output of a run that did not."""
    diff: str
    seconds: float
    slow: bool
    """Whether the slow tests were tried too."""


def area_of(module: str) -> str:
    return next(area for area in AREAS if module.startswith(area))


def modules() -> list[str]:
    """The files that are mutated."""
    tracked = subprocess.run(["git", "ls-files", *AREAS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [file for file in tracked.split() if file.endswith(".py") and not file.startswith(LEFT_OUT)]
    return [f for f in files if not f.startswith("memexp/launch") or any(word in f for word in LAUNCH)]


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and end (line, column) of every type annotation: `int | None` is no arithmetic."""
    nodes = ast.walk(ast.parse(source))
    notes = [note for node in nodes for note in (getattr(node, "annotation", None), getattr(node, "returns", None))]
    return [
        ((n.lineno, n.col_offset), (n.end_lineno or n.lineno, n.end_col_offset or 0))
        for n in notes
        if isinstance(n, ast.expr)
    ]


def positions() -> Iterator[list[MutationSpec]]:
    """The mutations of every position in the code, type annotations left out."""
    for module in modules():
        skip = annotations((ROOT / module).read_text())
        at: dict[tuple[int, int], list[MutationSpec]] = defaultdict(list)
        for item in all_work_items([module], {}):
            spec = item.mutations[0]
            if not any(start <= spec.start_pos < end for start, end in skip):
                at[spec.start_pos].append(spec)
        yield from at.values()


def sample(count: int, seed: int) -> list[MutationSpec]:
    """`count` positions, one mutation of each: first a kind of operator, then one of its replacements."""
    rng = random.Random(seed)
    everywhere = list(positions())
    chosen = []
    for specs in rng.sample(everywhere, min(count, len(everywhere))):
        kinds = defaultdict(list)
        for spec in specs:
            kinds[spec.operator_name.split("_")[0]].append(spec)
        chosen.append(rng.choice(kinds[rng.choice(sorted(kinds))]))
    return chosen


PYTEST = f"{sys.executable} -m pytest -q -n 0 -p no:cacheprovider --no-header"
REACHED = ".testmondata"
"""File of pytest-testmon: which test reaches which function."""


def record_reached() -> None:
    """Run the quick tests of all areas once, to record which functions each of them reaches."""
    if not (ROOT / REACHED).exists():
        print("recording which tests reach which functions", file=sys.stderr)
        folders = sorted({folder for tests in AREAS.values() for folder in tests.split()})
        command = [*PYTEST.split(), "--testmon", "-m", "not slow", *folders]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=sys.stderr, check=True)


def enter_worktree() -> None:
    """Give this worker process a checkout of its own, first on the import path."""
    place = tempfile.mkdtemp(prefix="mutants-")
    subprocess.run(
        ["git", "worktree", "add", "--detach", "--force", place, "HEAD"], cwd=ROOT, check=True, capture_output=True
    )
    with closing(sqlite3.connect(ROOT / REACHED)) as reached:
        reached.execute("VACUUM INTO ?", (f"{place}/{REACHED}",))
    os.chdir(place)
    os.environ |= {"PYTHONPATH": place, "OMP_NUM_THREADS": "1", "MEMEXP_GOLDEN": str(golden())}


def tests_of(module: str) -> list[str]:
    """The test files of the module's area, those first that name the module."""
    files = [
        file for folder in AREAS[area_of(module)].split() for file in sorted(Path().glob(f"{folder}/**/test_*.py"))
    ]
    files += [Path(file) for file in AREAS[area_of(module)].split() if file.endswith(".py")]
    return [str(file) for file in sorted(files, key=lambda file: Path(module).stem not in file.read_text())]


def golden() -> Path:
    return Path(os.environ.get("MEMEXP_GOLDEN", ROOT.parent / "shared" / "golden"))


def try_mutant(spec: MutationSpec, slow: bool) -> Result:
    """Test one mutant in this worker's checkout: with the quick tests that reach it, or with all slow ones."""
    began, tests = time.monotonic(), " ".join(tests_of(str(spec.module_path)))
    which = "-m slow" if slow else "-m 'not slow' --testmon --testmon-nocollect"
    tried = mutate_and_test([spec], f"{PYTEST} -x {which} {tests}", HUNG_S)
    lines = [line for line in (tried.output or "").splitlines() if line.strip()]
    unreached = re.match(r"(no tests ran|\d+ deselected) in", " ".join(lines[-1:]))  # pytest ends with code 5
    killed = bool(tried.is_killed) and not unreached
    by = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), " ".join(lines[-1:]))
    seconds = time.monotonic() - began
    found = str(spec.module_path), spec.operator_name, spec.occurrence, spec.start_pos[0], killed, by
    return Result(*found, tried.diff or "", seconds, slow)


def key(result: Result | MutationSpec) -> tuple[str, str, int]:
    if isinstance(result, Result):
        return result.module, result.operator, result.occurrence
    return str(result.module_path), result.operator_name, result.occurrence


def report(results: list[Result]) -> None:
    print("| area | mutants | killed | score |\n| --- | --- | --- | --- |")
    for area in [*AREAS, "memexp"]:
        rows = [r for r in results if r.module.startswith(area)]
        if rows:
            killed = sum(r.killed for r in rows)
            print(f"| {area if area != 'memexp' else 'all'} | {len(rows)} | {killed} | {killed / len(rows):.1%} |")
    for r in results:
        if not r.killed:
            print(f"\n{r.module}:{r.line} {r.operator}\n{r.diff}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="do not try survivors with the slow tests")
    parser.add_argument("--only", default="", help="only modules whose path this expression matches")
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"), help="one JSON line a mutant; continued")
    given = parser.parse_args()
    out = given.out.resolve()
    os.chdir(ROOT)
    lines = out.read_text().splitlines() if out.exists() else []
    done = {key(result): result for result in (Result(**json.loads(line)) for line in lines)}
    record_reached()
    specs = [spec for spec in sample(given.sample, given.seed) if re.search(given.only, str(spec.module_path))]
    for slow in (False,) if given.quick else (False, True):
        left = [s for s in specs if key(s) not in done or (slow and not (r := done[key(s)]).killed and not r.slow)]
        print(f"{len(specs)} mutants, {len(left)} to try with {'slow' if slow else 'quick'} tests", file=sys.stderr)
        began = time.monotonic()
        with ProcessPoolExecutor(given.jobs, initializer=enter_worktree) as pool, out.open("a") as file:
            for number, future in enumerate(as_completed([pool.submit(try_mutant, s, slow) for s in left]), 1):
                result = future.result()
                done[key(result)] = result
                print(json.dumps(asdict(result)), file=file, flush=True)
                minutes = (time.monotonic() - began) / 60 / number * (len(left) - number)
                told = (
                    f"{'killed' if result.killed else 'SURVIVED'} {result.module}:{result.line} {result.seconds:.0f} s"
                )
                print(f"{number}/{len(left)} {told}; {minutes:.0f} min left", file=sys.stderr)
    report(list(done.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
