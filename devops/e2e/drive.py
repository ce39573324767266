"""What a user types, typed for real: launch, interrupt, launch again, status, logs, kill, recovery, cancel.

drive.py BASE SITE_PACKAGES: e2e.sh has started cluster and API server. Prints a time line; any difference from what is
expected ends it with exit code 1.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from memexp.config import count_name

BASE, PACKAGES = Path(sys.argv[1]), sys.argv[2]
MEMEXP = [sys.executable, "-m", "memexp"]
HOME = BASE / "memexp_home"
SECRET = uuid.uuid4().hex
ENVIRONMENT = {
    **os.environ,
    "MEMEXP_HOME": str(HOME),
    "WANDB_API_KEY": f"{SECRET}01234567",
    "MEMEXP_WEBHOOK_URL": f"http://127.0.0.1:9/hooks/{SECRET}",
}
REGISTRY = {name: os.environ[name] for name in ("UV_FIND_LINKS", "UV_DEFAULT_INDEX") if os.environ[name].strip()}
"""From where nodes install, beside PyPI or in its place."""
BEGUN = time.monotonic()
STEPS = int(os.environ.get("E2E_STEPS", "300000"))  # so many that a run is seen while it trains
MATRIX = {
    "name": "e2e",
    "environments": {"maze": {"recipe": "tmaze", "args": {"length": 2}}},
    "architectures": {"S": {"pattern": "S"}},
    "steps": [STEPS, 100 * STEPS],  # the third run is so long that it cannot end before it is cancelled
    "seeds": 2,
    "exclude": [{"steps": 100 * STEPS, "seed": 0}],
    "twins": False,
    "resources": {
        "gpus": 8,
        "accelerators": ["L4"],
        "infra": "slurm/loop",
        "home": str(HOME),
        "envs": {  # stand-ins for GPUs: two processes train on the CPU, and what is missing is said, not refused
            "MEMEXP_PYTHON": os.environ["NODE_PYTHON"],
            "PYTHONPATH": PACKAGES,
            "MEMEXP_PROCESSES": "2",
            "MEMEXP_PREFLIGHT": "warn",
            "MEMEXP_WATCH_SECONDS": "2",
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "disabled",
            **REGISTRY,
        },
    },
    "overrides": {
        "trainer.num_envs": 32,  # a minibatch of each of 8 ranks has one
        "trainer.horizon": 16,
        "trainer.checkpoint_minutes": 0.05,
        "evaluation.random_episodes": 8,
    },
}
RUNS = [f"e2e.maze_S_{count_name(steps)}.s{seed}" for steps, seed in ((STEPS, 0), (STEPS, 1), (100 * STEPS, 1))]


def say(line: str) -> None:
    print(f"{time.monotonic() - BEGUN:6.1f} s  {line}", flush=True)


def expect(truth: Any, what: str) -> None:
    if not truth:
        raise SystemExit(f"e2e: expected {what}")
    say(what)


def memexp(*words: str) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run([*MEMEXP, *words], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"e2e: memexp {' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def rows(matrix: str) -> dict[str, dict[str, Any]]:
    return {row["run"]: row for row in json.loads(memexp("status", matrix, "--json"))}


def wait_for(what: str, happened: Callable[[], Any], seconds: float = 900, every: float = 1) -> Any:
    """What `happened` gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happened():
            say(what)
            return found
        time.sleep(every)
    raise SystemExit(f"e2e: waited {seconds} s for: {what}")


def state_is(run: str, *states: str) -> Callable[[], Any]:
    """Whether `memexp status` says so; a change is told."""
    before = {}

    def look() -> dict[str, Any] | None:
        row = rows(run.partition(".")[0])[run]
        word = f"{row['state']}, {row['agent_steps']} steps, {row['recoveries']} recoveries, job {row['job']}"
        if before.get(run) != word:
            say(f"  status of {run}: {word}")
            before[run] = word
        return row if row["state"] in states else None

    return look


def steps(run: str) -> int:
    """Agent steps that the run's directory shows."""
    try:
        lines = (HOME / "runs" / run / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["agent_steps"] if lines else 0
    except (OSError, ValueError):
        return 0


def launch_and_interrupt() -> None:
    """Ctrl-C, twice, after the first submission: others are under way; then the same command."""
    command = [*MEMEXP, "launch", "e2e.yaml", "--skip-git-check"]
    stopped = False
    environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as launch:
        assert launch.stdout is not None
        for line in launch.stdout:
            if "submitted" in line:
                say(f"  | {line.rstrip()}")
            if ": submitted (1 of 3)" in line:
                stopped = True
                for _ in range(2):
                    launch.send_signal(signal.SIGINT)
                    time.sleep(0.2)
                say("Ctrl-C, twice")
    expect(stopped and launch.returncode == 1, f"the interrupted launch ended with {launch.returncode}")
    for line in memexp("launch", "e2e.yaml", "--skip-git-check").splitlines():
        if "submi" in line or "already" in line:
            say(f"  | {line}")
    listed = (
        "import json, sky, sky.jobs as jobs; print(json.dumps([r.job_name for r in sky.get(jobs.queue_v2(False))[0]]))"
    )
    done = subprocess.run([sys.executable, "-c", listed], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    queue = json.loads(done.stdout.splitlines()[-1])
    expect(sorted(queue) == RUNS, "the queue holds every run exactly once")


def kill_a_rank(run: str) -> None:
    """Kill -9 of one rank of the run's trainer, as a fault of the machine would."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    ranks = [line.split()[0] for line in listed.splitlines() if f"run={run}" in line and "torch.distributed" not in line
             and "-m memexp train" in line]  # fmt: skip
    expect(ranks, f"{run} has {len(ranks)} ranks; one is killed")
    os.kill(int(ranks[0]), signal.SIGKILL)


def search_for_secrets() -> None:
    """In everything that memexp wrote; and, for the record, in what SkyPilot keeps for itself."""

    def holds(file: Path) -> bool:
        try:
            return SECRET.encode() in file.read_bytes()
        except FileNotFoundError:  # SkyPilot removes a node's files meanwhile
            return False

    def hits(folder: Path) -> tuple[int, list[Path]]:
        inside = (file for file in folder.rglob("*") if ".venv" not in file.parts)
        files = [file for file in inside if file.is_file() and not file.is_symlink()]
        return len(files), [file for file in files if holds(file)]

    number, found = hits(HOME)
    expect(not found, f"the secrets are in none of {number} files of memexp")
    for place in ("skyhome", "home"):
        number, found = hits(BASE / place)
        names = sorted({file.name for file in found})[:6]
        say(f"  SkyPilot's own files ({place}): {len(found)} of {number} hold a secret {names}")


def make_home() -> None:
    """The nodes' user writes here, as on a shared file system."""
    for folder in (HOME, HOME / "runs"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)


def main() -> None:
    make_home()
    (BASE / "e2e.yaml").write_text(yaml.safe_dump(MATRIX))
    say(next(line for line in memexp("launch", "e2e.yaml", "--dry-run").splitlines() if "hours" in line))
    launch_and_interrupt()
    first, second, third = RUNS
    memexp("cancel", third)
    wait_for("the third run is cancelled while it waits", state_is(third, "cancelled"))
    wait_for("the first run trains", lambda: steps(first) > 2000)
    row = wait_for("status says so", state_is(first, "running"))
    expect(row["job"], f"it is job {row['job']}")
    expect("== start" in memexp("logs", first), "its log can be read")
    kill_a_rank(first)
    follow_the_recovery(first, second, third)


def follow_the_recovery(first: str, second: str, third: str) -> None:
    """One run recovers, one ends by itself, and the cancelled one is launched again and cancelled while it trains."""
    again = memexp("launch", "e2e.yaml", "--skip-git-check").splitlines()[-1]
    expect(again.startswith("1 of "), f"launched again: {again}")
    wait_for("the third run trains", lambda: steps(third) > 0)
    memexp("cancel", third)
    wait_for("the third run is cancelled", state_is(third, "cancelled"))
    wait_for("the first run starts again", lambda: (HOME / "runs" / first / "starts" / "001.json").exists())
    wait_for("the first run has all its steps", lambda: steps(first) >= STEPS)
    row = wait_for("status says completed", state_is(first, "completed"))
    expect(row["recoveries"] >= 1, f"SkyPilot counts {row['recoveries']} recoveries")
    wait_for("the second run is done", state_is(second, "completed"))
    check_the_run(first, row)
    search_for_secrets()
    print(memexp("status", "e2e"))


def check_the_run(run: str, row: dict[str, Any]) -> None:
    folder = HOME / "runs" / run
    starts = [json.loads(file.read_text()) for file in sorted((folder / "starts").glob("[0-9][0-9][0-9].json"))]
    expect(
        len(starts) >= 2 and starts[-1]["agent_steps"] > 0,
        f"{len(starts)} starts, the last from {starts[-1]['agent_steps']} steps on",
    )
    reached = [json.loads(line)["agent_steps"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    expect(
        reached == sorted(set(reached)) and reached[-1] >= STEPS,
        f"{len(reached)} updates in order up to {reached[-1]} agent steps",
    )
    provenance = json.loads((folder / "provenance.json").read_text())
    head = subprocess.run(
        ["git", "-C", str(BASE / "src"), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    expect(provenance["commit"] == head.strip(), "the provenance names the commit that was sent")
    expect(row["hours"] > 0, f"{row['hours'] * 60:.1f} machine minutes over all starts")
    follow = memexp("logs", run, "--follow").splitlines()
    expect("done; exit code 0" in follow[-1], f"logs --follow ends with the run: {follow[-1]}")


if __name__ == "__main__":
    main()
