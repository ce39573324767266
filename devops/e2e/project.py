"""A project of the user's own on the nodes: its environment, its cell and a package from the registry.

project.py BASE SITE_PACKAGES: e2e.sh has started cluster and API server, and installed memexp's wheel. `memexp init`
writes the project, nodes get its files from git and install its packages and the wheel with uv. A run is killed and
recovers, and the report has both arms.
"""

import json
import os
import re
import subprocess

import yaml
from drive import BASE, HOME, REGISTRY, expect, kill_a_rank, make_home, memexp, say, state_is, steps, wait_for

FOLDER = BASE / "project"
STEPS = 200_000  # so many that a run is seen while it trains
RUNS = ["project.hidden_minGRU_200k.s0", "project.hidden_minGRU-off_200k.s0"]


def write_the_project() -> None:
    memexp("init", str(FOLDER))
    os.chdir(FOLDER)
    environment = FOLDER / "envs.py"
    environment.write_text("import minigrid  # a package that memexp does not need\n" + environment.read_text())
    (pin,) = re.findall(r"^torch==.*", (BASE / "src" / "constraints.txt").read_text(), re.M)  # the newest is for GPUs
    project = FOLDER / "pyproject.toml"
    project.write_text(project.read_text().replace('"memexp",', f'"memexp", "{pin}",'))
    matrix = yaml.safe_load((FOLDER / "experiments.yaml").read_text())
    del (
        matrix["exclude"],
        matrix["environments"]["shown"],
        matrix["environments"]["hidden"]["partner"],
        matrix["architectures"]["S"],
    )
    variables = {
        "MEMEXP_PREFLIGHT": "warn",  # of GPUs that are none
        "MEMEXP_PROCESSES": "1",
        "MEMEXP_WATCH_SECONDS": "2",
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "disabled",
        **REGISTRY,
    }
    node = {"gpus": 8, "accelerators": ["L4"], "infra": "slurm/loop", "home": str(HOME), "envs": variables}
    matrix |= {"steps": [STEPS], "seeds": 1, "resources": node, "overrides": {"trainer.checkpoint_minutes": 0.05}}
    (FOLDER / "experiments.yaml").write_text(yaml.safe_dump(matrix))
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "A task"]):
        subprocess.run(["git", "-c", "user.name=e2e", "-c", "user.email=e2e@localhost", *words], check=True)


def main() -> None:
    make_home()
    write_the_project()
    for line in memexp("launch", "experiments.yaml", "--dry-run").splitlines():
        if "nodes get" in line or "they in" in line:
            say(f"  | {line.strip()}")
    say(memexp("launch", "experiments.yaml", "--skip-git-check").splitlines()[-1])
    run = RUNS[0]
    wait_for("the run trains", lambda: steps(run) > 2000)
    kill_a_rank(run)
    wait_for("it starts again", lambda: (HOME / "runs" / run / "starts" / "001.json").exists())
    for one in RUNS:
        wait_for(f"{one} is done", state_is(one, "completed"))
    second = json.loads((HOME / "runs" / run / "starts" / "001.json").read_text())
    expect(second["agent_steps"] > 0, f"the second start continues at {second['agent_steps']} steps")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    recorded = json.loads((HOME / "runs" / run / "provenance.json").read_text())["project"]
    expect(recorded["commit"] == head, "the provenance names the project's commit")
    memexp("report", "experiments.yaml", "--out", "report.html", "--md", "report.md")
    report = (FOLDER / "report.md").read_text()
    expect("minGRU" in report and "hidden" in report, "the report is about the project's cell and environment")
    say(next(line for line in report.splitlines() if "minGRU" in line and "hidden" in line))


if __name__ == "__main__":
    main()
