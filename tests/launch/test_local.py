"""Runs on this machine are real processes: they finish, resume, fail and stop as the run directory says."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
import yaml
from helpers.commands import files_below, type_command
from helpers.synthetic_runs import write_run
from rich.console import Console

from memexp import machine
from memexp.config import CORES
from memexp.envs.origin import origin_of
from memexp.launch import local, waiting
from memexp.launch.local import default_jobs, last_line, run_here
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.run_spec import recipe_specs
from memexp.project import ProjectFinder
from memexp.runs import Exit, Run
from memexp.runs.status import log_lines, state_of

FAST = {"trainer.num_envs": "16", "trainer.horizon": "8", "evaluation.random_episodes": "4"}
CONSOLE = Console(file=sys.stdout)


def spec(run: str, **words: str):
    return recipe_specs(find_recipe("tmaze"), {"run": run, "length": "2", **FAST, **words})[0]


@pytest.mark.slow
def test_a_matrix_is_trained_here_and_launching_it_again_runs_nothing(tmp_path, home, monkeypatch, capsys):
    matrix = {
        "name": "tiny",
        "environments": {"maze": {"recipe": "tmaze", "args": {"length": 2}}},
        "architectures": {"S": {"pattern": "S"}},
        "steps": ["1k"],
        "seeds": 1,
        "overrides": FAST,
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(matrix))
    command = ["launch", "tiny.yaml", "--local", "--jobs", "2"]
    typed = type_command(capsys, *command)
    assert (typed.code, typed.err) == (0, "")
    assert "2 done" in typed.out

    rows = json.loads(type_command(capsys, "status", "tiny", "--json").out)
    assert {row["arm"]: (row["state"], row["agent_steps"]) for row in rows} == {
        "S": ("completed", 1024),
        "S~": ("completed", 1024),
    }
    assert Run.named("tiny.maze_S-off_1k.s0").info.memory == "off"
    log = type_command(capsys, "logs", "tiny.maze_S_1k.s0").out
    assert log.startswith("$ ")
    assert "1,024/1k steps" in log

    before = files_below(home)
    typed = type_command(capsys, *command)
    assert typed.code == 0
    assert "2 runs: 2 completed; 0 to launch" in typed.out
    assert files_below(home) == before


def test_a_launch_says_that_the_environment_has_changed_since_runs_of_the_matrix_trained(
    tmp_path, home, monkeypatch, capsys
):
    """Also for other seeds than it launches; nothing of the environment is imported for it."""
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])
    (tmp_path / "my_world.py").write_text("raise SystemExit\n")
    now = origin_of(["my_world", "gymnasium"])
    matrix = {"name": "tiny", "environments": {"maze": {"recipe": "tmaze"}}, "architectures": {"S": {"pattern": "S"}}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(matrix | {"steps": ["1k"]}))
    for seed in (0, 1):
        write_run(home / "runs", "S", seed, [0.5], env="maze", matrix="tiny", environment=now)
    write_run(home / "runs", "S", 0, [0.5], env="maze", matrix="other", name="other", environment={"my_world": "0"})
    command = ["launch", str(tmp_path / "tiny.yaml"), "--local", "--dry-run", "--seeds", "7,"]
    assert type_command(capsys, *command).err == ""
    (tmp_path / "my_world.py").write_text("raise SystemExit(1)\n")
    changed = f"my_world {now['my_world']}, now {origin_of(['my_world'])['my_world']}; the report does not pool"
    write_run(home / "runs", "S", 2, [0.5], env="maze", matrix="tiny", environment={}, cells=now)
    line, cells = type_command(capsys, *command).err.splitlines()
    assert cells.startswith(f"cells of 'S' changed since 1 run trained: {changed}")
    assert line.startswith(f"'maze' changed since 2 runs trained: {changed}")
    (tmp_path / "my_world.py").unlink()
    assert "my_world " + now["my_world"] + ", now absent" in type_command(capsys, *command).err
    assert "my_world" not in sys.modules


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_no_file_of_the_current_folder_takes_the_place_of_a_package(processes, tmp_path, monkeypatch):
    """What a user calls queue.py, typer.py or recipes/ is not imported; an environment of that folder is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])  # as any command does
    for name in ("queue", "typer", "yaml", "torch/__init__", "recipes/__init__", "memexp/__init__", "gymnasium"):
        (tmp_path / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("open('CANARY', 'w')\n")
    wrapper = "def same(env):\n    open('IMPORTED', 'w')\n    return env\n"
    (tmp_path / "mine.py").write_text(wrapper)
    words = {"env": "gym:CartPole-v1", "wrappers": "['mine:same']", "trainer.total_timesteps": "256"}
    (asked,) = recipe_specs(find_recipe("any"), {"run": "shadowed", **FAST, **words})
    outcome = run_here([asked], jobs=1, processes=processes, console=CONSOLE)
    assert outcome.done == ["shadowed"], outcome.lines
    assert (tmp_path / "IMPORTED").exists()
    assert not (tmp_path / "CANARY").exists()


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_writes_a_checkpoint_and_the_same_command_carries_on(monkeypatch, capsys):
    long = spec("long", **{"trainer.total_timesteps": "20k", "trainer.num_envs": "64"})
    show = local._Launch.show

    def interrupt_once_it_trains(launch):
        show(launch)
        if any(job.steps for job in launch.jobs) and not launch.asked:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(local, "SHOW_S", 0.0)
    monkeypatch.setattr(local._Launch, "show", interrupt_once_it_trains)
    outcome = run_here([long, spec("other")], jobs=1, processes=1, console=CONSOLE)
    assert (outcome.stopped, outcome.left, outcome.ok) == (["long"], ["other"], False)
    assert state_of(Run.named("long")) == "preempted"
    assert state_of(Run.named("other")) == "new"
    reached = Run.named("long").metrics()[-1]["agent_steps"]
    assert 0 < reached < 20_000

    monkeypatch.setattr(local._Launch, "show", show)
    assert run_here([long], jobs=1, processes=1, console=CONSOLE).done == ["long"]
    steps = [line["agent_steps"] for line in Run.named("long").metrics()]
    assert steps == sorted(set(steps))
    assert reached in steps
    assert steps[-1] >= 20_000


@pytest.mark.slow
def test_a_run_that_fails_is_listed_with_its_last_words_and_the_others_go_on(capsys):
    words = [f"{key}={value}" for key, value in {**FAST, "trainer.total_timesteps": "1k"}.items()]
    typed = type_command(capsys, "launch", "tmaze", "run=bad", "trainer.device=abacus", *words, "--local")
    assert typed.code == 1
    (line,) = [line for line in typed.out.splitlines() if line.startswith("failed: bad: ")]
    assert "abacus" in line
    assert last_line(Run.named("bad")) in line


@pytest.mark.parametrize("reason", ["update 5: the worker died", None])
def test_the_last_words_of_several_processes_are_the_runs_own_reason_or_what_killed_one(reason):
    run = Run.named("ranks")
    run.path.mkdir(parents=True)
    (run.path / "log.txt").write_text(f"memexp FAILED\n  traceback : Signal 9 (SIGKILL)\n{'=' * 60}\n")
    if reason:
        (run.path / "exit.json").write_text(json.dumps({"status": "failed", "reason": reason}))
    assert last_line(run) == (reason or "killed by signal 9 (out of memory?)")


def test_a_run_that_resumes_from_an_earlier_checkpoint_gives_no_negative_rate():
    one = spec("a", **{"trainer.total_timesteps": "2000"})
    run = Run.named("a")
    run.path.mkdir(parents=True)
    (run.path / "metrics.jsonl").write_text('{"update": 1, "agent_steps": 600}\n')
    told = io.StringIO()
    launch = local._Launch([one], 1, 1, Console(file=told))
    launch.started, launch.said = -1e4, -1e4
    launch.jobs.append(local.Job(one, run, None, None, 0, launch.progress.add_task("a", note=""), 1000, 1000, None))  # type: ignore[arg-type]
    launch.show()
    assert "0 of 1 runs, 0 agent steps/s, ? left" in told.getvalue()


def test_a_run_that_another_process_works_on_is_left_to_it(monkeypatch, capsys):
    import fcntl

    def refuse(*_, **__):
        raise AssertionError("a second process was started")

    monkeypatch.setattr(local.subprocess, "Popen", refuse)
    run = Run.named("busy")
    run.path.mkdir(parents=True)
    monkeypatch.setattr(local, "ORPHAN_S", 0.0)
    for name, who in (("lock", "another process trains it"), ("launch.lock", "another launch is running it")):
        with open(run.path / name, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            outcome = run_here([spec("busy")], jobs=1, processes=1, console=Console(file=sys.stdout))
        assert (outcome.left, outcome.ok) == (["busy"], False)
        assert f"busy: {who}" in capsys.readouterr().out
    assert not (run.path / "log.txt").exists()


def test_a_run_that_another_launch_has_completed_is_done_and_told_once(monkeypatch, capsys):
    told = []
    monkeypatch.setattr(local, "notify", lambda *words, **_: told.append(words))
    run = Run.named("theirs")
    run.finish(Exit(status="completed"))
    outcome = run_here([spec("theirs")], jobs=1, processes=1, console=CONSOLE)
    assert (outcome.done, outcome.ok, told) == (["theirs"], True, [])
    assert run.exit == Exit(status="completed")


@pytest.mark.parametrize("damaged", [b"", b"{", b"\0\0"])
def test_a_damaged_exit_json_is_left_to_the_trainer(monkeypatch, damaged):
    run = Run.named("a")
    run.path.mkdir(parents=True)
    (run.path / "exit.json").write_bytes(damaged)
    monkeypatch.setattr(local, "_command", lambda spec, processes: ["true"])
    outcome = run_here([spec("a")], jobs=1, processes=1, console=CONSOLE)
    # Only exit.json can say that it is done.
    assert outcome.failed == [("a", "its process ended without a word: its log is empty")]
    assert (run.path / "exit.json").read_bytes() == damaged


@pytest.mark.parametrize("place", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_at_the_place_of_a_log_is_set_aside(monkeypatch, place):
    run = Run.named("a")
    run.path.mkdir(parents=True)
    place(run.path / "log.txt")
    monkeypatch.setattr(local, "_command", lambda spec, processes: ["echo", "last words"])
    outcome = run_here([spec("a")], jobs=1, processes=1, console=CONSOLE)
    assert outcome.failed == [("a", "last words")]
    assert os.path.lexists(run.path / "log.txt.damaged")


@pytest.mark.parametrize(("number", "words"), [(9, "killed by signal 9 (out of memory?)"), (11, "killed by signal 11")])
def test_a_run_that_was_killed_says_so_in_plain_words(monkeypatch, capsys, number, words):
    monkeypatch.setattr(local, "_command", lambda spec, processes: ["sh", "-c", f"kill -{number} $$"])
    outcome = run_here([spec("a")], jobs=1, processes=1, console=CONSOLE)
    assert outcome.failed == [("a", words)]
    assert log_lines(Run.named("a")) == [words]


def test_a_launch_that_is_killed_leaves_no_run_behind(tmp_path):
    program = (
        "import sys; from memexp.launch import local; from memexp.launch.plan.recipe import find_recipe;"
        "from memexp.launch.plan.run_spec import recipe_specs; from rich.console import Console;"
        "real = local.subprocess.Popen;"
        "local.subprocess.Popen = lambda *a, **k: real(*a, **k, pass_fds=[int(sys.argv[1])]);"
        "local._command = lambda *_: ['sh', '-c', f'echo begun > /dev/fd/{sys.argv[1]}; exec sleep 600'];"
        "local.run_here(recipe_specs(find_recipe('tmaze'), {'run': 'a'}), 1, 1, Console())"
    )
    reader, writer = os.pipe()
    launch = subprocess.Popen([sys.executable, "-c", program, str(writer)], pass_fds=[writer])
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.readline() == "begun\n"
        launch.kill()
        launch.wait()
        assert pipe.read() == ""  # ends when the run's process has ended


@pytest.mark.parametrize("status", ["preempted", "cancelled"])
def test_a_run_that_was_told_to_stop_by_somebody_else_is_stopped_and_has_not_failed(status, monkeypatch):
    script = f"""echo '{{"status": "{status}"}}' > '{Run.named("told").path}/exit.json'; exit 75"""
    monkeypatch.setattr(local, "_command", lambda spec, processes: ["sh", "-c", script])
    outcome = run_here([spec("told")], jobs=1, processes=1, console=CONSOLE)
    assert (outcome.stopped, outcome.failed) == (["told"], [])


TRAINER = """
import fcntl, json, pathlib, signal, sys
run = pathlib.Path(sys.argv[1])
lock = open(run / "lock", "a")
def stop(number, frame):
    (run / "exit.json").write_text(json.dumps({"status": "preempted"}))
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
fcntl.flock(lock, fcntl.LOCK_EX)
signal.pause()
"""


@pytest.mark.parametrize(
    ("targets", "stopped", "left", "told"),
    [
        (["m"], ["a"], ["b", "c"], "1 run cancelled, 2 that waited are not started; launching again resumes\n"),
        (["a", "c"], ["a"], ["c"], "1 run cancelled, 1 that waited is not started; launching again resumes\n"),
        (["c"], [], ["c"], "0 runs cancelled, 1 that waited is not started; launching again resumes\n"),
    ],
)
def test_cancelling_reaches_runs_that_wait_and_launching_again_starts_them(
    targets, stopped, left, told, monkeypatch, capsys
):
    def cancel_once(launch):
        if not outputs:
            outputs.append("")
            outputs.append(type_command(capsys, "cancel", *targets).out)

    def command(spec, processes):
        path = Run.named(spec.run).path
        if spec.run == "a" and "a" in stopped:
            return [sys.executable, "-c", TRAINER, str(path)]
        return ["sh", "-c", f"""echo '{{"status": "completed"}}' > '{path}/exit.json'"""]

    outputs: list[str] = []
    monkeypatch.setattr(local, "_command", command)
    monkeypatch.setattr(local._Launch, "show", cancel_once)
    specs = [spec(run, **{"labels.matrix": "m"}) for run in "abc"]
    outcome = run_here(specs, jobs=1, processes=1, console=CONSOLE)
    assert (outcome.stopped, outcome.left) == (stopped, left)
    assert outputs[1].endswith(told)
    stopped = []
    again = run_here(specs, jobs=1, processes=1, console=CONSOLE)
    assert set(again.done) == {"a", "b", "c"}
    assert type_command(capsys, "cancel", "m").code == 2


def test_a_launch_that_was_killed_has_no_runs_that_wait(home):
    old = home / "waiting" / "old"
    (old / "waiting").mkdir(parents=True)
    (old / "lock").touch()
    (old / "waiting" / "a").write_text("m")
    assert waiting.matrices() == {}
    assert waiting.drop(["a"]) == set()
    with waiting.Waiting([spec("b")]):
        assert waiting.matrices() == {"b": None}
        assert not old.exists()


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_is_stopped_before_it_began_leaves_nothing(begun, monkeypatch):
    run = Run.named("a")
    writes = f"touch '{run.path}/config.yaml'; " if begun else ""
    monkeypatch.setattr(local, "_command", lambda *_: ["sh", "-c", f"{writes}echo bye; kill -TERM $$"])
    outcome = run_here([spec("a")], jobs=1, processes=1, console=CONSOLE)
    assert outcome.stopped == ["a"]
    assert run.path.exists() == begun


@pytest.mark.parametrize("written", ["", '{"status": "failed", "reason": "no licence"}', '{"status":'])
def test_a_run_is_done_only_if_its_exit_json_says_so(written, monkeypatch):
    script = f"echo no licence; echo '{written}' > '{Run.named('quiet').path}/exit.json'; exit 0"
    monkeypatch.setattr(local, "_command", lambda spec, processes: ["sh", "-c", script])
    outcome = run_here([spec("quiet")], jobs=1, processes=1, console=CONSOLE)
    assert (outcome.done, outcome.failed) == ([], [("quiet", "no licence")])


def test_an_error_of_the_launch_itself_leaves_no_process_behind(monkeypatch):
    started = []

    def start(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    def fail(launch):
        raise BrokenPipeError

    popen = local.subprocess.Popen
    monkeypatch.setattr(local.subprocess, "Popen", start)
    monkeypatch.setattr(local, "_command", lambda spec, processes: ["sleep", "60"])
    monkeypatch.setattr(local._Launch, "show", fail)
    with pytest.raises(BrokenPipeError):
        run_here([spec("a")], jobs=1, processes=1, console=CONSOLE)
    assert started[0].wait(10) == -signal.SIGTERM


def test_killing_reaches_processes_in_sessions_of_their_own():
    child = "import time; print('ready', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], start_new_session=True)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        local.kill_tree(process.pid)
        assert process.stdout.read() == ""  # ends when the last process that could write has ended
        assert process.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_termination_and_a_closed_terminal_ask_to_stop(number):
    launch = local._Launch([], 1, 1, CONSOLE)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup a closed terminal is to be ignored
    try:
        with local._signals(launch):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert launch.asked == 1


def test_nohup_outlives_the_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    launch = local._Launch([], 1, 1, CONSOLE)
    with local._signals(launch):
        signal.raise_signal(signal.SIGHUP)
    assert signal.signal(signal.SIGHUP, before) is signal.SIG_IGN
    assert launch.asked == 0


def test_jobs_share_cores_and_gpus(monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setattr(local, "free_memory", lambda: 1 << 40)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.visible_gpus() == []
    assert (default_jobs(1), default_jobs(2), default_jobs(99)) == (8, 4, 1)
    environment = local.environment_of(slot=0, jobs=4, processes=1)
    assert (environment["OMP_NUM_THREADS"], environment[CORES]) == ("2", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert local.environment_of(slot=0, jobs=4, processes=1)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    "name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "PET_NNODES"]
)
def test_variables_of_ranks_are_not_handed_to_runs(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MY_RANK", "3")
    environment = local.environment_of(slot=0, jobs=1, processes=1)
    assert name not in environment
    assert environment["MY_RANK"] == "3"

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert default_jobs(2) == 2
    devices = [local.environment_of(slot, jobs=2, processes=2)["CUDA_VISIBLE_DEVICES"] for slot in range(2)]
    assert devices == ["4,5", "6,7"]


def test_several_processes_run_under_torchrun():
    command = local._command(spec("a"), processes=2)
    torchrun = ["-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    assert command[1:7] == torchrun
    assert command[7:12] == [sys.executable, "-P", "-m", "memexp", "train"]
    assert "torch.distributed.run" not in local._command(spec("a"), processes=1)
