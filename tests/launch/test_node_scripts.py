"""What runs on a node, run here: checks, torchrun, the watch, and an exit code that says whether to restart."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memexp.launch.cloud.install import SCRIPTS
from memexp.launch.status.attempts import End, add_end, add_start, end_of_start, spent, starts_of
from memexp.runs import Run

DEVOPS = Path(__file__).parents[2] / "devops"
WORDS = ["recipes.controls.tmaze", "pattern=[S, X]", "num_layers=2", "run=a.run"]
STAND_IN = """#!/bin/sh
case "$2" in memexp.launch.cloud.node) exec {python} "$@" ;; esac
case "$*" in *memexp.ppo.all_reduce) exit {all_reduce} ;; esac
printf '%s\\n' "$@" > {folder}/words
{before}
{record}
exit {code}
"""
"""Python, as far as run.sh calls it: node.py is real, training is what the test says."""


class Node:
    """Types run.sh on a node whose trainer is a stand-in."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.run = Run(folder / "home" / "runs" / "a.run")
        (folder / "bin").mkdir()

    def prepare(self, code=0, status="completed", reason="", before=":", all_reduce=0) -> None:
        record = json.dumps({"status": status, "reason": reason})
        record = f"echo {shlex.quote(record)} > {self.run.path}/exit.json" if status else ":"
        python = self.folder / "python"
        text = STAND_IN.format(
            python=sys.executable, folder=self.folder, before=before, record=record, code=code, all_reduce=all_reduce
        )
        python.write_text(text)
        python.chmod(0o755)

    def environment(self, **variables: str) -> dict[str, str]:
        mine = {
            "MEMEXP_PYTHON": str(self.folder / "python"),
            "MEMEXP_HOME": str(self.folder / "home"),
            "MEMEXP_RUN": "a.run",
            "MEMEXP_WATCH_SECONDS": "0.1",
            "MEMEXP_METADATA": "http://127.0.0.1:9",
            "HOME": str(self.folder),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }
        return {**os.environ, **mine, **variables}

    def type(self, *words: str, code=0, status="completed", reason="", before=":", all_reduce=0, **variables: str):
        """Exit code, the trainer's words, and what was said."""
        self.prepare(code, status, reason, before, all_reduce)
        (self.folder / "words").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", str(SCRIPTS / "run.sh"), *(words or WORDS)],
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )
        file = self.folder / "words"
        return done.returncode, file.read_text().splitlines() if file.exists() else [], done.stdout + done.stderr

    def end(self, number: int) -> End:
        """How start `number` ended."""
        end = end_of_start(self.run, number)
        assert end is not None
        return end

    def has_gpus(self, name: str, count: int) -> None:
        """An nvidia-smi that names so many."""
        tool = self.folder / "bin" / "nvidia-smi"
        listed = "".join(f"echo 'GPU {at}: {name}'; " for at in range(count))
        named = "".join(f"echo '{name}'; " for _ in range(count))
        tool.write_text(f'#!/bin/sh\ncase "$1" in --list-gpus) {listed}:;; *) {named}:;; esac\n')
        tool.chmod(0o755)


@pytest.fixture
def node(tmp_path) -> Node:
    return Node(tmp_path)


def test_one_process_needs_no_torchrun(node):
    code, words, said = node.type()
    assert (code, words) == (0, ["-m", "memexp", "train", *WORDS]), said


@pytest.mark.parametrize("typed", ["~/home", "$PLACE/home", "${PLACE}/home"])
def test_the_home_may_be_named_with_the_nodes_own_variables(node, typed: str):
    code, _, said = node.type(MEMEXP_HOME=typed, PLACE=str(node.folder))
    assert code == 0, said
    assert (node.run.path / "log.txt").exists()


def test_a_home_of_an_unknown_variable_is_one_line(node):
    code, words, said = node.type(MEMEXP_HOME="$NOT_SET_HERE/home")
    assert (code, words) == (2, [])
    assert said.strip() == "memexp: MEMEXP_HOME=$NOT_SET_HERE/home: $NOT_SET_HERE is not known on this machine"


def test_torchrun_spans_the_nodes_and_gpus_that_skypilot_names(node):
    _, words, _ = node.type(
        SKYPILOT_NUM_GPUS_PER_NODE="8",
        SKYPILOT_NUM_NODES="2",
        SKYPILOT_NODE_RANK="1",
        SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2",
        MEMEXP_PREFLIGHT="off",
    )
    assert words[:2] == ["-m", "torch.distributed.run"]
    assert {"--nnodes=2", "--node-rank=1", "--nproc-per-node=8", "--master-addr=10.0.0.1"} <= set(words)
    assert words[-7:] == ["-m", "memexp", "train", *WORDS]


def test_jobs_that_share_a_node_use_different_ports(node):
    ports = [
        next(w for w in node.type(MEMEXP_PROCESSES="2", SLURM_JOB_ID=job)[1] if w.startswith("--master-port"))
        for job in ("1", "2")
    ]
    assert ports[0] != ports[1]


# The exit code says whether another start is worth it.


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [
        (0, "completed", 0),
        (75, "preempted", 75),
        (1, "preempted", 75),  # torchrun turns every failure into 1
        (1, "cancelled", 1),
        (1, "failed", 75),  # an error that the next start may not meet
        (1, "", 75),
        (137, "", 75),
        (2, "", 2),
    ],
)
def test_the_exit_code_says_whether_another_start_is_worth_it(node, code: int, status: str, exit_code: int):
    assert node.type(code=code, status=status)[0] == exit_code


def test_wrong_words_end_the_job_before_anything_starts(node):
    code, words, said = node.type("recipes.controls.tmaze", "patern=S", "run=a.run", SKYPILOT_NUM_GPUS_PER_NODE="8")
    assert (code, words) == (2, [])
    assert "did you mean 'pattern'" in said
    assert starts_of(node.run) == []


def test_a_diverged_run_is_not_restarted(node):
    assert node.type(code=1, status="failed", reason="update 3: FloatingPointError: loss is nan")[0] == 1


def test_a_run_that_fails_again_and_again_without_progress_is_given_up_after_three_restarts(node):
    codes = [node.type(code=1, status="failed", reason="update 1: OSError: gone")[0] for _ in range(4)]
    assert codes == [75, 75, 75, 1]
    ends = [node.end(number) for number in range(4)]
    assert [end.word for end in ends] == ["error", "error", "error", "failed"]
    assert ends[3].reason == "update 1: OSError: gone"


def test_progress_between_failures_starts_the_count_anew(node):
    node.run.path.mkdir(parents=True)
    codes = []
    for steps in range(5):
        line = json.dumps({"agent_steps": steps})
        before = f"echo '{line}' >> {node.run.path}/metrics.jsonl"
        codes.append(node.type(code=1, status="failed", reason="update 1: OSError: gone", before=before)[0])
    assert codes == [75] * 5


def test_how_an_earlier_start_ended_is_not_taken_for_how_this_one_did(node):
    assert node.type(code=75, status="preempted")[0] == 75
    (node.run.path / "time_is_up").touch()
    assert node.type(code=1, status="")[0] == 75
    assert node.end(1).word == "error"


# Preflight.


def test_a_node_that_lacks_gpus_is_left_for_another(node):
    node.has_gpus("NVIDIA L4", 7)
    code, words, said = node.type(SKYPILOT_NUM_GPUS_PER_NODE="8")
    assert (code, words) == (75, [])
    assert "7 of 8 GPUs answer" in said
    node.has_gpus("NVIDIA L4", 8)
    assert node.type(SKYPILOT_NUM_GPUS_PER_NODE="8")[0] == 0


def test_ranks_that_cannot_reach_one_another_end_the_start(node):
    code, words, said = node.type(MEMEXP_PROCESSES="2", all_reduce=1)
    assert (code, words) == (75, [])
    assert "preflight: the ranks cannot reach one another" in said


def test_a_full_disk_is_no_reason_to_restart(node):
    code, words, said = node.type(MEMEXP_MIN_DISK_GB="99999999")
    assert (code, words) == (1, [])
    assert "GB free, less than" in said


def test_wandb_that_does_not_answer_is_a_warning(node):
    unreachable = {"WANDB_API_KEY": "k", "WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    code, words, said = node.type(**unreachable)
    assert (code, bool(words)) == (0, True)
    assert "warning: http://127.0.0.1:9 does not answer" in said


@pytest.mark.slow
def test_the_all_reduce_is_a_real_one():
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "memexp.ppo.all_reduce"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    assert "2 ranks summed 16 MiB through gloo" in done.stdout


# The watch.

PATIENT = "trap 'exit 75' TERM; touch {0}/ready; while :; do sleep 0.05; done"
"""A trainer that trains until it is told to stop."""


def test_a_run_whose_time_is_up_is_not_restarted(node, tmp_path):
    assert node.type(code=75, status="", before=PATIENT.format(tmp_path), MEMEXP_MAX_RUNTIME_HOURS="0.0003")[0] == 0
    assert node.end(0).word == "time is up"


def test_the_longest_time_counts_over_all_starts(node, tmp_path):
    for number, seconds in enumerate((3000, 500)):
        add_start(node.run, 0)
        (node.run.path / "starts" / f"{number:03d}.seconds").write_text(str(seconds))
    limit = {"MEMEXP_MAX_RUNTIME_HOURS": "0.9725"}  # 3,501 s
    code, _, said = node.type(code=75, status="", before=PATIENT.format(tmp_path), **limit)
    assert code == 0
    assert "over all starts" in said
    assert [start.number for start in starts_of(node.run)] == [0, 1, 2]


def test_a_silent_run_is_stopped_and_restarted(node, tmp_path):
    deaf = f"trap '' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    code, _, said = node.type(code=0, status="", before=deaf, MEMEXP_HEARTBEAT_SECONDS="1", MEMEXP_GRACE_SECONDS="1")
    assert code == 75
    assert "no metrics for" in said
    assert node.end(0).word == "hung"


def test_a_signal_to_the_job_reaches_the_trainer_and_the_checkpoint_is_waited_for(node, tmp_path):
    os.mkfifo(tmp_path / "ready")
    trap = f"trap 'sleep 0.3; touch {tmp_path}/saved; exit 75' TERM; echo ready > {tmp_path}/ready"
    node.prepare(status="", before=f"{trap}; while :; do sleep 0.05; done")
    with subprocess.Popen(
        ["bash", str(SCRIPTS / "run.sh"), *WORDS], env=node.environment(), start_new_session=True
    ) as job:
        (tmp_path / "ready").read_text()  # once the trainer has opened it
        os.killpg(job.pid, signal.SIGTERM)
        assert job.wait(30) == 75
    assert (tmp_path / "saved").exists()
    assert "preempted" in (node.run.path / "log.txt").read_text()


# What a start costs.


def test_price_and_hardware_of_the_machine_become_words_of_the_run(node):
    node.has_gpus("NVIDIA L4", 8)
    prices = json.dumps({"L4": {"spot": 3.0, "on_demand": 10.0}, "A10G": {"spot": 5.0}})
    node.folder.joinpath(".memexp_node_since").write_text(str(int(time.time()) - 3600))
    said = node.type(SKYPILOT_NUM_GPUS_PER_NODE="8", MEMEXP_PRICES=prices)
    assert {"labels.price_per_hour=10.0", "labels.hardware=8x NVIDIA L4"} <= set(said[1])  # market unknown: never less
    hours, dollars = spent(node.run)
    assert hours == pytest.approx(1.0, abs=0.02)  # setup included
    assert dollars == pytest.approx(10 * hours)


def test_what_a_run_has_spent_is_summed_over_its_recoveries():
    run = Run.named("a")
    for number, (seconds, price) in enumerate([(3600, 3.0), (1800, 10.0)]):
        add_start(run, 0, price_per_hour=price)
        (run.path / "starts" / f"{number:03d}.seconds").write_text(str(seconds))
    add_end(run, 0, End(code=75, word="preempted", agent_steps=5))
    assert spent(run) == (1.5, 8.0)
    add_start(run, 5)
    assert spent(run) == (1.5, None)


@pytest.mark.parametrize(
    "script", [*sorted(DEVOPS.glob("*/*.sh")), *sorted(SCRIPTS.glob("*.sh"))], ids=lambda script: script.name
)
def test_scripts_pass_shellcheck_and_are_executable(script: Path):
    done = subprocess.run(
        [str(Path(sys.executable).with_name("shellcheck")), str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK)
