"""What runs on a node: torchrun over SkyPilot's nodes and GPUs, and an exit code that says whether to restart."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "devops" / "skypilot"


@pytest.fixture
def node(tmp_path):
    """Types run.sh with a stand-in for Python that records its words, writes exit.json and ends with a code."""
    python = tmp_path / "python"

    def run(code: int = 0, status: str = "completed", before: str = "", **environment: str) -> tuple[int, list[str]]:
        run_dir = tmp_path / "home" / "runs" / "a.run"
        record = json.dumps({"status": status})
        python.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/words\n{before}\n"
            + (f"echo {shlex.quote(record)} > {run_dir}/exit.json\n" if status else "")
            + f"exit {code}\n"
        )
        python.chmod(0o755)
        variables = {"MEMEXP_PYTHON": str(python), "MEMEXP_HOME": str(tmp_path / "home"), "MEMEXP_RUN": "a.run"}
        done = subprocess.run(
            ["bash", str(SCRIPTS / "run.sh"), "recipes.controls.tmaze", "pattern=[S, X]"],
            env={**os.environ, **variables, **environment},
            check=False,
        )
        return done.returncode, (tmp_path / "words").read_text().splitlines()

    return run


def test_one_gpu_needs_no_torchrun(node):
    code, words = node(SKYPILOT_NUM_GPUS_PER_NODE="1")
    assert (code, words) == (0, ["-m", "memexp", "train", "recipes.controls.tmaze", "pattern=[S, X]"])


def test_torchrun_spans_the_nodes_and_gpus_that_skypilot_names(node):
    _, words = node(
        SKYPILOT_NUM_GPUS_PER_NODE="8",
        SKYPILOT_NUM_NODES="2",
        SKYPILOT_NODE_RANK="1",
        SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2",
    )
    assert words[:2] == ["-m", "torch.distributed.run"]
    assert {"--nnodes=2", "--node-rank=1", "--nproc-per-node=8", "--master-addr=10.0.0.1"} <= set(words)
    assert words[-5:] == ["-m", "memexp", "train", "recipes.controls.tmaze", "pattern=[S, X]"]


def test_jobs_that_share_a_node_use_different_ports(node):
    gpus = {"SKYPILOT_NUM_GPUS_PER_NODE": "2"}
    ports = [
        next(word for word in node(**gpus, SLURM_JOB_ID=job)[1] if word.startswith("--master-port")) for job in "12"
    ]
    assert ports[0] != ports[1]


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [(0, "completed", 0), (75, "preempted", 75), (1, "preempted", 75), (1, "failed", 1), (2, "", 2)],
)
def test_the_exit_code_says_whether_the_job_is_to_be_restarted(node, code: int, status: str, exit_code: int):
    assert node(code, status)[0] == exit_code


def test_how_an_earlier_start_ended_is_not_taken_for_how_this_one_did(node):
    assert node(75, "preempted")[0] == 75
    assert node(1, "")[0] == 1


def test_a_run_whose_time_is_up_is_not_restarted(node, tmp_path):
    wait = "trap 'exit 75' TERM; while :; do read -r _ < /dev/null; done"
    limits = {"MEMEXP_MAX_RUNTIME_HOURS": "0.0003", "MEMEXP_WATCH_SECONDS": "0"}
    assert node(75, "", before=wait, **limits)[0] == 0
    assert (tmp_path / "home" / "runs" / "a.run" / "time_is_up").exists()


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda script: script.name)
def test_scripts_are_valid_and_executable(script: Path):
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)
