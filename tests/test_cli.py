"""The command line: exit codes, one clear line for every mistake, nothing written by a wrong or dry command."""

import csv
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from helpers.commands import files_below, type_command
from helpers.synthetic_runs import rising, write_matrix, write_run
from typer.main import get_command
from typer.testing import CliRunner

import memexp
from memexp.cli import app, main
from memexp.cortex.cost import TOKEN_COSTS
from memexp.envs import BUILDERS
from memexp.pattern import TOKENS
from memexp.ppo.distributed import join
from memexp.runs import Exit, Run, RunInfo

ROOT = Path(__file__).parents[1]
MATRIX = {
    "name": "small",
    "environments": {"maze": {"recipe": "tmaze"}},
    "architectures": {"S": {"pattern": "S"}},
    "steps": ["1k"],
    "seeds": 1,
}
HEAVY = {"torch", "numba", "matplotlib", "polars", "wandb", "scipy", "pufferlib"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: a good matrix file in it, and a few bad ones."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "good.yaml").write_text(yaml.safe_dump(MATRIX))
    (here / "unknown.yaml").write_text(yaml.safe_dump({**MATRIX, "seed": 1}))
    (here / "duplicate.yaml").write_text(yaml.safe_dump({**MATRIX, "run": "{name}.{env}"}))
    (here / "empty.yaml").write_text("")
    for name in ("folder.yaml", "other", "train", "tmaze"):
        (here / name).mkdir()
    (here / "broken.yaml").write_text("name: [")
    monkeypatch.chdir(here)
    return tmp_path


WRONG = {
    "recipe": ("launch tmase", "did you mean 'recipes.controls.tmaze'"),
    "recipe in two words": ("launch train cvc_random_map_train", "did you mean 'recipes.experiment.cortex_paper"),
    "ambiguous recipe": ("launch train", "recipe .train. is ambiguous: recipes.any"),
    "no target": ("launch", "memexp list recipes"),
    "argument": ("launch tmaze patern=S", "unknown argument 'patern'.*did you mean 'pattern'"),
    "dotted key": ("launch tmaze trainer.horizn=8", "did you mean 'horizon'"),
    "argument value": ("launch tmaze length=long", "length: .*whole number"),
    "pattern": ("launch tmaze pattern=AgZA", "no token at 'Z'"),
    "run name": ("launch tmaze --run=a/b", "run name 'a/b' contains '/'; did you mean 'a-b'"),
    "run name as a word": ("launch tmaze run=a/b", "run name 'a/b' contains '/'; did you mean 'a-b'"),
    "run name that SkyPilot refuses": ("launch tmaze --run=a...b", "did you mean 'a.b'"),
    "two run names": ("launch tmaze --run=a run=b", "--run a and run=b contradict"),
    "negative steps": ("launch tmaze trainer.total_timesteps=-5", "trainer.total_timesteps: .*greater than 0"),
    "negative --steps": ("launch good.yaml --steps -5", "--steps: .*greater than 0.*-5"),
    "negative gpus": ("launch tmaze --gpus=-1", "'--gpus'.*greater than or equal to 0"),
    "a logger": ("launch good.yaml loggers=csv,tensorbord", "'tensorbord' is no logger; did you mean 'tensorboard'"),
    "seeds as a setting": ("launch good.yaml seeds=3", "'seeds=3' is no setting of a matrix's runs; type --seeds 3"),
    "seed as a setting": ("launch good.yaml seed=3", "'seed=3' is no setting .* type --seeds 3,"),
    "steps as a setting": ("launch good.yaml steps=3k", "'steps=3k' is no setting .* type --steps 3k"),
    "total steps as a setting": ("launch good.yaml trainer.total_timesteps=3k", "is no setting .* type --steps 3k"),
    "gpus as a setting": ("launch good.yaml gpus=0", "'gpus=0' is no setting .* type --gpus 0"),
    "hours as a setting": ("launch good.yaml max_runtime_hours=2", "type --max-runtime-hours 2"),
    "a key of the matrix as a setting": ("launch good.yaml twins=false", "'twins' cannot be typed: it stands in the"),
    "steps of a recipe": ("launch tmaze steps=3k", "did you mean 'trainer.total_timesteps'"),
    "a setting as an option": (
        "launch good.yaml --pattern=S",
        "option '--pattern'; a setting is typed .*: pattern=VALUE",
    ),
    "a setting as an option of train": ("train tmaze --length 4", "option '--length'; a setting .*: length=VALUE"),
    "an option of a list": ("list runs --bogus", "unknown option '--bogus'; known: --arm, --csv, .*--sort, --status"),
    "an option of a list, misspelt": (
        "list runs --statsu failed",
        "unknown option '--statsu'; did you mean '--status'",
    ),
    "a setting as an option of a list": (
        "list patterns --d_hidden 8",
        "option '--d_hidden'; a setting .*: d_hidden=VALUE",
    ),
    "an option for a folder": ("launch good.yaml --render --skip-git-check", "--render needs a value, but '--skip-git"),
    "an option for a number": ("launch good.yaml --seeds --dry-run", "--seeds needs a value, but '--dry-run' follows"),
    "an option for hours": ("launch good.yaml -t --hb=5", "-t needs a value, but '--hb=5' follows"),
    "an option for a file": ("play tmaze --out --greedy", "--out needs a value, but '--greedy' follows"),
    "an environment of any that is unknown": ("play any env=gim:X", "did you mean 'gym'"),
    "gpus that are no number": ("launch tmaze --gpus eight", "'--gpus'.*whole number"),
    "option": ("launch tmaze --gpu=8", "unknown option '--gpu'; did you mean '--gpus'"),
    "option without value": ("launch tmaze --gpus", "'--gpus' requires an argument"),
    "negative hours": ("launch tmaze -t -1", "max_runtime_hours: .*greater than 0"),
    "infrastructure": ("launch tmaze --infra awz", "did you mean 'aws'"),
    "infrastructure of a matrix": ("launch good.yaml --infra awz", "memexp: infra: unknown .*did you mean 'aws'"),
    "spot on a cluster": ("launch tmaze --infra slurm/a --spot", "slurm/a has no spot"),
    "dump format": ("launch tmaze --dump-config xml", "json or yaml"),
    "worlds that eight ranks cannot share": (
        "launch tmaze --gpus 8 --dry-run trainer.num_envs=16",
        "trainer.num_envs=16 does not give 8 ranks x trainer.num_minibatches=4 equal shares",
    ),
    "json without a plan": ("launch tmaze --json", "--json needs --dry-run"),
    "cloud option here": ("launch tmaze --local --infra aws", "--infra has no meaning with --local"),
    "local option there": ("launch tmaze --jobs 2", "--jobs needs --local"),
    "matrix option for a recipe": ("launch tmaze --seeds 3", "--seeds is for a matrix file"),
    "recipe option for a matrix": ("launch good.yaml --run a", "--run is for a recipe"),
    "missing matrix": ("launch god.yaml", "there is no matrix file god.yaml; did you mean 'good.yaml'"),
    "matrix with an unknown key": ("launch unknown.yaml", "unknown.yaml: unknown key 'seed'; did you mean 'seeds'"),
    "matrix with duplicate names": ("launch duplicate.yaml", "duplicate.yaml: run: two runs are called 'small.maze'"),
    "matrix without its ending": ("launch ./good", "no matrix file good; did you mean 'good.yaml'"),
    "folder of matrices": ("launch ../here", "here is a folder; matrix files in it: .*good.yaml"),
    "folder beside": ("launch other", "other is a folder; matrix files in it: none"),
    "folder called like a matrix": ("launch folder.yaml", "folder.yaml is a folder; matrix files in it: none"),
    "pattern that does not end": ("launch tmaze pattern=[S", "pattern: .*expected"),
    "endless steps": ("launch tmaze --steps 1e400", "--steps: .*1e400"),
    "endless hours": ("launch tmaze -t inf", "max_runtime_hours: .*finite"),
    "empty matrix": ("launch empty.yaml", "empty.yaml is no matrix"),
    "broken matrix": ("launch broken.yaml", "broken.yaml: expected"),
    "word beside a matrix": ("launch good.yaml fast", "'fast' is not KEY=VALUE"),
    "seeds": ("launch good.yaml --seeds many", "--seeds: .*many"),
    "no seeds": (
        "launch good.yaml --seeds 0",
        r"--seeds: 0 seeds give no run; 1 is seed 0 alone, and so is the list \[0\]",
    ),
    "a seed of 5,000 digits": (f"launch good.yaml --seeds {'9' * 5000}", "--seeds: .*5,000 digits; 30 is the most"),
    "a seed with a leading zero": ("launch good.yaml --seeds 010", "--seeds: .*'010' is ambiguous"),
    "many copies": ("launch tmaze --copies 1000000000", "'--copies'.*2000"),
    "selection": ("launch good.yaml --select arch=SS", "--select arch=SS: there is no arch 'SS'; did you mean 'S'"),
    "scale": ("launch good.yaml --scale tiny", "has no scales"),
    "command": ("lunch tmaze", "unknown command 'lunch'; did you mean 'launch'"),
    "train without recipe": ("train", "missing argument"),
    "train a wrong recipe": ("train tmase", "did you mean 'recipes.controls.tmaze'"),
    "doctor of a wrong pattern": ("doctor tmaze pattern=Q", "no token at 'Q'"),
    "status of nothing": ("status nothing", "no run and no matrix is called 'nothing'"),
    "logs of nothing": ("logs nothing", "no run and no matrix is called 'nothing'"),
    "report of nothing": ("report nothing", "no run and no matrix is called 'nothing'"),
    "report of a matrix that never ran": ("report good.yaml", "no run of good.yaml has started"),
    "list": ("list recipe", "did you mean 'recipes'"),
    "size of patterns": ("list patterns d_hiden=64", "unknown argument 'd_hiden'; did you mean 'd_hidden'"),
    "size that is no number": ("list patterns mem_len=long", "mem_len: .*whole number"),
    "heads that do not fit": ("list patterns n_heads=3", "n_heads=3 does not divide d_hidden=128"),
    "pattern that does not fit": ("list patterns d_hidden=12 pattern=AgS", "heads of Ag do not divide d_hidden=12"),
    "unknown pattern": ("list patterns pattern=AgZA", "no token at 'Z'"),
    "pattern without its key": ("list patterns AgSA", "'AgSA' is not KEY=VALUE"),
    "sizes of another list": ("list envs d_hidden=64", "'d_hidden=64' means nothing to the list of envs"),
}


@pytest.mark.parametrize(("command", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_command_is_one_clear_line_with_exit_code_2_and_writes_nothing(folder, capsys, command, named):
    before = files_below(folder)
    typed = type_command(capsys, *command.split())
    assert (typed.code, typed.out) == (2, "")
    assert len(typed.err.splitlines()) == 1
    assert len(typed.err) < 1100
    assert typed.err.startswith("memexp: ")
    assert re.search(named, typed.err), typed.err
    assert files_below(folder) == before


@pytest.mark.parametrize("options", [["--local"], ["--local", "--json"]], ids=" ".join)
def test_a_dry_run_writes_nothing(folder, capsys, options):
    before = files_below(folder)
    assert type_command(capsys, "launch", "good.yaml", "--dry-run", *options).code == 0
    assert files_below(folder) == before


def test_options_may_stand_before_and_after_the_words(folder, capsys):
    orders = [
        "launch --gpus 2 tmaze pattern=L --run a",
        "launch tmaze --gpus=2 --run=a pattern=L",
        "launch tmaze run=a pattern=L --gpus 2",
    ]
    plans = [json.loads(type_command(capsys, *order.split(), "--dry-run", "--json", "--local").out) for order in orders]
    assert plans[0]["runs"][0]["run"] == "a"
    assert [plan["runs"][0]["arm"] for plan in plans] == ["L"] * 3
    assert [plan["due"] for plan in plans] == [1] * 3


def test_steps_and_seeds_override_the_file(folder, capsys):
    def runs(*options: str) -> set[tuple[int, int]]:
        typed = type_command(capsys, "launch", "good.yaml", "--dry-run", "--json", "--local", *options)
        return {(run["agent_steps"], run["seed"]) for run in json.loads(typed.out)["runs"]}

    assert runs() == {(1000, 0)}
    assert runs("--seeds", "3") == {(1000, 0), (1000, 1), (1000, 2)}
    assert runs("--seeds", "4,7", "--steps", "2m") == {(2_000_000, 4), (2_000_000, 7)}


def test_the_app_behaves_the_same_under_typers_own_runner(folder):
    assert CliRunner().invoke(app, ["launch", "tmase"]).exit_code == 2
    assert CliRunner().invoke(app, ["list", "patterns"]).exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["launch", "--help"],
        ["launch", "experiments.yaml", "--dry-run", "--local", "--select", "env=assembly_lines"],
        ["list", "envs"],
        ["list", "patterns", "pattern=AgSA"],
    ],
    ids=" ".join,
)
def test_planning_starts_fast_because_nothing_heavy_is_imported(command):
    code = "import sys; from memexp.cli import main; main(sys.argv[1:]); print('LOADED', *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stderr.partition("LOADED")[2].split()
    assert not (HEAVY | {"sky"}) & set(loaded)


def test_planning_for_the_cloud_imports_skypilot_and_nothing_else_that_is_heavy():
    code = "import sys; from memexp.cli import main; main(sys.argv[1:]); print('LOADED', *sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, "launch", "experiments.yaml", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "70 runs: " in done.stdout
    assert not HEAVY & set(done.stderr.partition("LOADED")[2].split())


def test_a_checkout_that_is_not_installed_finds_its_recipes():
    """As on a node. `-S` leaves out what is installed as editable."""
    packages = str(Path(pytest.__file__).parents[1])
    command = [sys.executable, "-S", "-m", "memexp", "list", "recipes"]
    environment = os.environ | {"PYTHONPATH": packages}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "recipes.controls.tmaze" in done.stdout


def test_python_m_memexp_and_the_launch_script_are_the_same_command():
    script = [str(ROOT / "devops" / "skypilot" / "launch.py"), "tmase"]
    for command in ([sys.executable, "-m", "memexp", "launch", "tmase"], [sys.executable, *script]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "memexp: unknown recipe 'tmase'; did you mean 'recipes.controls.tmaze'?\n"
    assert os.access(script[0], os.X_OK)


def test_the_version_is_that_of_the_package(capsys):
    typed = type_command(capsys, "--version")
    assert (typed.code, typed.out, typed.err) == (0, f"memexp {version('memexp')}\n", "")
    assert version("memexp") == memexp.__version__


def test_without_a_command_the_help_is_shown(capsys):
    typed = type_command(capsys)
    assert typed.code == 0
    assert "launch" in typed.out


# What runs leave behind is shown.


def make_run(name: str, steps: int, status: str | None = None, matrix: str = "m") -> Run:
    run = Run.named(name)
    run.write_info(
        RunInfo(
            run=name,
            matrix=matrix,
            env="tmaze",
            arm="S",
            pattern="S",
            mem_len=0,
            memory="on",
            seed=0,
            total_timesteps=1000,
        )
    )
    run.append_metrics({"agent_steps": steps // 2, "sps": 90.0, "episode/return": 0.25})
    run.append_metrics({"agent_steps": steps, "sps": 100.0, "episode/count": 0})
    if status:
        run.finish(Exit(status=status, reason="because"))  # type: ignore[arg-type]
    return run


def test_status_reads_state_steps_return_and_rate_from_the_run_directories(capsys):
    make_run("one", 400)
    make_run("two", 1000, "completed", matrix="other")
    rows = {row["run"]: row for row in json.loads(type_command(capsys, "status", "--json").out)}
    assert (rows["one"]["state"], rows["one"]["agent_steps"], rows["one"]["sps"]) == ("interrupted", 400, 100.0)
    assert rows["one"]["episode_return"] == 0.25
    assert (rows["two"]["state"], rows["two"]["reason"]) == ("completed", "because")
    assert [row["run"] for row in json.loads(type_command(capsys, "status", "other", "--json").out)] == ["two"]
    table = type_command(capsys, "status", "one").out
    assert "400 / 1k" in table
    assert "two" not in table


def test_status_of_a_matrix_file_shows_runs_that_have_not_started(folder, capsys):
    rows = json.loads(type_command(capsys, "status", "good.yaml", "--json").out)
    assert {row["run"]: row["state"] for row in rows} == {"small.maze_S_1k.s0": "new", "small.maze_S-off_1k.s0": "new"}


@pytest.mark.parametrize(
    ("file", "content"),
    [("run.json", b"{"), ("run.json", b"\xff"), ("exit.json", b""), ("config.yaml", b"{"), ("config.yaml", None)],
)
def test_a_damaged_run_directory_stops_neither_status_nor_report_and_is_named(capsys, home, file, content):
    write_matrix(home / "runs", {"S": [1.0, 1.0]})
    damaged = home / "runs" / "world_S.s1" / file
    damaged.unlink() if content is None else damaged.write_bytes(content)
    rows = {row["run"]: row for row in json.loads(type_command(capsys, "status", "--json").out)}
    assert rows["world_S.s0"]["state"] == "completed"
    problems = rows["world_S.s1"]["problems"]
    assert [problem.split(" cannot be read: ")[0] for problem in problems] == [file] * (content is not None)
    assert type_command(capsys, "list", "runs").code == 0
    typed = type_command(capsys, "report", "test", "--json")
    assert (typed.code, typed.err) == (0, "")
    assert any("world_S.s1: run.json cannot" in note for note in json.loads(typed.out)["notes"]) == (file == "run.json")
    typed = type_command(capsys, "launch", "tmaze", "--run", "world_S.s1", "--dry-run", "--local")
    assert (typed.code, len(typed.err.splitlines())) == (2, 1)


@pytest.fixture
def listed(home):
    """Runs of two matrices, and one of none."""
    for matrix, arm, seed, top, status in (
        ("a", "S", 0, 0.9, "completed"),
        ("a", "S~", 0, 0.2, "failed"),
        ("b", "S", 1, 0.5, "completed"),
        (None, "X", 0, 0.7, "failed"),
    ):
        name = f"{matrix}.{arm[0]}{len(arm)}.s{seed}"
        write_run(home / "runs", arm, seed, rising(top), env=f"e{seed}", name=name, matrix=matrix, status=status)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", "None.X1.s0 a.S1.s0 a.S2.s0 b.S1.s1"),
        ("--matrix a", "a.S1.s0 a.S2.s0"),
        ("--matrix a --matrix b --arm S", "a.S1.s0 b.S1.s1"),
        ("--arm S~ --status failed", "a.S2.s0"),
        ("--status running", ""),
        ("--env e1", "b.S1.s1"),
        ("--sort return", "a.S2.s0 b.S1.s1 None.X1.s0 a.S1.s0"),
        ("--sort=-return --status completed", "a.S1.s0 b.S1.s1"),
        ("--sort -matrix", "b.S1.s1 a.S1.s0 a.S2.s0 None.X1.s0"),  # a run of no matrix is last
    ],
)
def test_runs_are_listed_as_asked_for(listed, capsys, words, names):
    rows = json.loads(type_command(capsys, "list", "runs", *words.split(), "--json").out)
    assert [row["run"] for row in rows] == names.split()
    table = list(csv.DictReader(type_command(capsys, "list", "runs", *words.split(), "--csv").out.splitlines()))
    assert table == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    shown = type_command(capsys, "list", "runs", *words.split()).out.splitlines()
    assert [line.split()[0] for line in shown if ".s" in line] == names.split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("runs --matrix c", "--matrix: there is no run with matrix 'c'; known: a, b"),
        ("runs --arm s", "--arm: there is no run with arm 's'; did you mean 'S'?"),
        ("runs --env e2", "--env: there is no run with env 'e2'; known: e0, e1"),
        ("runs --status fialed", "--status: there is no run with state 'fialed'; did you mean 'failed'?"),
        ("runs --sort steps", "--sort: runs have no 'steps'; did you mean 'sps'?"),
        ("runs --sort=-retrun", "--sort: runs have no 'retrun'; did you mean 'return'?"),
        ("runs --csv --json", "--csv and --json: take one"),
        ("recipes --arm S", "are for the list of runs, not of recipes"),
    ],
)
def test_a_wrong_word_to_list_runs_is_named(listed, capsys, words, said):
    typed = type_command(capsys, "list", *words.split())
    assert (typed.code, typed.out, len(typed.err.splitlines())) == (2, "", 1)
    assert said in typed.err


def judged(capsys, *targets):
    (environment,) = json.loads(type_command(capsys, "report", *targets, "--json").out)["environments"].values()
    return {name: arm["runs"] for name, arm in environment["arms"].items()}


@pytest.mark.parametrize(
    ("targets", "arms"),
    [
        ("a b", {"S of a": ["a.S.s0"], "S of a~": ["a.S_off.s0"], "S of b": ["b.S.s0"], "S of b~": ["b.S_off.s0"]}),
        ("a.S.s0 b.S.s0", {"S of a.S.s0": ["a.S.s0"], "S of b.S.s0": ["b.S.s0"]}),
        ("a alone", {"S": ["a.S.s0"], "S~": ["a.S_off.s0"], "X": ["alone"]}),
        ("alone b.S.s0", {"S": ["b.S.s0"], "X": ["alone"]}),
        ("a a.S.s0", {"S": ["a.S.s0"], "S~": ["a.S_off.s0"]}),  # it is in both
    ],
)
def test_a_report_compares_several_targets(home, capsys, targets, arms):
    for matrix in ("a", "b"):
        write_matrix(home / "runs", {"S": [1.0], "S~": [0.2]}, matrix=matrix)
        for run in (home / "runs").glob("world_*"):
            run.rename(run.with_name(run.name.replace("world_", f"{matrix}.")))
    write_run(home / "runs", "X", 0, rising(0.5), name="alone", matrix=None)
    assert judged(capsys, *targets.split()) == arms
    shown = type_command(capsys, "monitor", *targets.split(), "--once").out
    assert [line.split()[0] for line in shown.splitlines() if re.match(r" {9}[a-h] ", line)] == [
        *"abcdefgh"[: len(arms)]
    ]
    for arm in arms:
        assert re.search(rf" [a-h] {re.escape(arm)}  seed 0", shown), arm
    assert type_command(capsys, "report", *targets.split()).code == 0
    assert type_command(capsys, "report", *targets.split(), "--watch").code == 2


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "theirs"):
        write_run(tmp_path / folder / "runs", "S", 0, rising(0.5), name="same")
    assert judged(capsys, "mine/runs", "theirs/runs") == {"S of mine/runs": ["same"], "S of theirs/runs": ["same"]}
    shown = type_command(capsys, "monitor", "mine/runs", "theirs/runs").out
    assert shown.count("S of mine/runs") == shown.count("S of theirs/runs") == 2  # below the chart, and in the table


def test_a_report_may_be_about_one_run(capsys, home):
    write_matrix(home / "runs", {"S": [1.0, 1.0]})
    (environment,) = json.loads(type_command(capsys, "report", "world_S.s0", "--json").out)["environments"].values()
    assert environment["arms"]["S"]["runs"] == ["world_S.s0"]


def test_a_report_is_about_the_matrix_where_a_run_has_the_same_name(capsys, home):
    write_matrix(home / "runs", {"S": [1.0, 1.0]})
    write_run(home / "runs", "S", 0, rising(1.0), name="test", matrix=None)
    (environment,) = json.loads(type_command(capsys, "report", "test", "--json").out)["environments"].values()
    assert environment["arms"]["S"]["runs"] == ["world_S.s0", "world_S.s1"]


@pytest.mark.parametrize("matrix", ["../../outside", "/outside", "a/b", "..."])
def test_a_report_stays_in_its_folder_whatever_the_matrix_is_called(capsys, tmp_path, home, matrix):
    write_matrix(home / "runs", {"S": [1.0]}, matrix=matrix)
    assert type_command(capsys, "report", matrix).code == 0
    pages = list(tmp_path.rglob("*.html"))
    assert [page.parent for page in pages] == [home / "reports"]


def test_a_report_that_cannot_be_written_is_one_line(capsys, home):
    write_matrix(home / "runs", {"S": [1.0]})
    typed = type_command(capsys, "report", "test", "--out", "/proc/nowhere/report.html")
    assert typed.code == 1
    assert re.fullmatch("memexp: cannot write /proc/nowhere/report.html: .*\n", typed.err)


def test_logs_prints_what_the_run_printed(capsys):
    run = make_run("one", 400, "completed")
    typed = type_command(capsys, "logs", "one")
    assert (typed.code, typed.err) == (
        2,
        "memexp: run 'one' has no log: it was not started by `memexp launch --local`\n",
    )
    (run.path / "log.txt").write_text("first\nlast\n")
    assert type_command(capsys, "logs", "one").out == "first\nlast\n"
    assert type_command(capsys, "logs", "one", "--follow").out == "first\nlast\n"


def test_every_environment_that_is_listed_can_be_built(capsys):
    rows = json.loads(type_command(capsys, "list", "envs", "--json").out)
    assert {row["env"] for row in rows} == set(BUILDERS)


@pytest.mark.parametrize("what", ["recipes", "envs"])
def test_lists_are_readable_by_people_and_by_scripts(what: str, capsys):
    rows = json.loads(type_command(capsys, "list", what, "--json").out)
    lines = type_command(capsys, "list", what).out.splitlines()
    assert [line.split()[0] for line in lines] == [next(iter(row.values())) for row in rows]


def test_the_list_of_patterns_says_what_each_token_costs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = type_command(capsys, "list", "patterns", "pattern=Ag,S,A").out.splitlines()
    assert "num_layers=4 d_hidden=128 n_heads=4 mem_len=128" in lines[0]
    rows = {line.split()[0]: line.split() for line in lines[3:-1] if line.strip()}
    assert [row for row in rows if row in TOKENS] == list(TOKENS)
    assert rows["S"][-5:] == ["1,122,816", "16.4", "kB", "2.23", "M"]
    assert rows["Ag,S,A"][-5] == "4,490,248"
    assert len({len(line.rstrip()) for line in lines[3:-1] if line.rstrip().endswith("M")}) == 1


def test_the_costs_of_patterns_are_plain_numbers_for_scripts(capsys):
    words = ["d_hidden=12", "num_layers=2", "mem_len=0", "pattern=[S,CX]"]
    *rows, asked = json.loads(type_command(capsys, "list", "patterns", *words, "--json").out)
    assert [row["token"] for row in rows] == list(TOKENS)
    assert {(row["d_hidden"], row["num_layers"], row["n_heads"], row["mem_len"]) for row in rows} == {(12, 2, 4, 0)}
    costs = {row["token"]: (row["parameters"], row["state_bytes"], row["step_flops"]) for row in rows}
    assert costs["C"] == (2 * 5 * 12 + 2 * 12, 2 * 4 * 4 * 12, 0)
    assert costs["Ag"] == (None, None, None)
    assert [row["reason"] for row in rows if "reason" in row] == ["the 8 heads of Ag do not divide d_hidden=12"]
    assert (asked["token"], asked["state_bytes"]) == ("[S, CX]", 4 * 8 * 12 + 4 * 4 * 12)
    assert "cost unknown: the 8 heads" in " ".join(type_command(capsys, "list", "patterns", *words).out.split())


def test_a_token_without_a_formula_for_its_cost_is_listed_without_one(capsys, monkeypatch):
    monkeypatch.delitem(TOKEN_COSTS, "C")
    typed = type_command(capsys, "list", "patterns")
    assert (typed.code, typed.err) == (0, "")
    assert "cost unknown: there is no formula for C" in " ".join(typed.out.split())
    assert type_command(capsys, "list", "patterns", "pattern=SC").code == 2


STALE = [
    {"WORLD_SIZE": "2"}, {"RANK": "1"}, {"LOCAL_WORLD_SIZE": "4"}, {"LOCAL_RANK": "3"}, {"RANK": "one"},
    {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"},
    {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}, {"WORLD_SIZE": ""},
]  # fmt: skip


@pytest.mark.parametrize("variables", STALE, ids=str)
@pytest.mark.parametrize("command", ["train tmaze run=a", "doctor tmaze", "bench tmaze"])
def test_variables_of_ranks_that_are_left_in_the_shell_are_named_in_one_line(
    capsys, home, monkeypatch, command, variables
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    typed = type_command(capsys, *command.split())
    assert (typed.code, typed.out, len(typed.err.splitlines())) == (2, "", 1)
    assert re.search(r"^memexp: (\w+=\S*, )*\w+=\S*: this shell .* `unset [A-Z_ ]+`", typed.err)
    assert not (home / "runs" / "a").exists()


@pytest.mark.parametrize("harmless", [{"RANK": "0", "WORLD_SIZE": "1"}, {"MASTER_ADDR": "node-0"}], ids=str)
def test_variables_of_a_single_rank_do_no_harm(capsys, monkeypatch, harmless):
    for name, value in harmless.items():
        monkeypatch.setenv(name, value)
    assert join("cpu").world_size == 1


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_help_cuts_a_word_and_every_option_stands_in_it(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    commands = get_command(app).commands  # type: ignore[attr-defined]
    overview = type_command(capsys, "--help").out
    for name, command in commands.items():
        shown = type_command(capsys, name, "--help").out
        assert not re.search(r"…|[a-z,]\.\.\.", shown + overview), name
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert not option.startswith("-") or re.search(rf"(^|[ ,/]){option}\b", shown, re.M), (name, option)


def test_main_returns_the_exit_code():
    assert main(["launch", "tmase"]) == 2


def test_doctor_says_what_an_environment_did_wrong_without_a_traceback_of_its_own(capsys):
    words = ["env=module:helpers.third_party:Careless", "options={how: old step}", "run=wrong"]
    typed = type_command(capsys, "doctor", "any", *words)
    assert (typed.code, typed.out) == (1, "")
    assert re.fullmatch("memexp: .*step\\(\\) returned 4 values, .*\n", typed.err)


SHOP = """
import gymnasium
class Shop(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Discrete(2)
    def __init__(self, token): self.token = token
    def reset(self, **how):
        print(self.token) if how.get("seed") is not None else None
        raise RuntimeError(f"{self.token} is refused")
"""


@pytest.mark.parametrize("command", ["doctor", "bench", "play", "funnel", "train"])
def test_every_command_masks_a_typed_secret_in_the_error_of_an_environment(tmp_path, monkeypatch, capsys, command):
    (tmp_path / "shop17.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("memexp.credentials._typed", set())
    words = ["any", "env=module:shop17:Shop", "options={token: CANARYx7Q2}"]
    words += {"play": ["--ascii"], "train": ["run=shop", "wandb.mode=disabled"]}.get(command, [])
    typed = type_command(capsys, command, *words)
    assert typed.code in (1, 2)
    assert "*** is refused" in typed.err
    assert "CANARY" not in typed.err + (typed.out if command in ("doctor", "bench", "train") else "")


@pytest.mark.parametrize("command", [("train", "tmaze"), ("doctor", "tmaze"), ("launch", "tmaze", "--dry-run")])
@pytest.mark.parametrize("code", [0, None, "no licence"])
def test_a_recipe_that_ends_the_interpreter_is_a_failure_with_its_words(capsys, monkeypatch, command, code):
    monkeypatch.setattr("memexp.launch.plan.recipe.Recipe.load", lambda self: sys.exit(code))
    typed = type_command(capsys, *command)
    assert typed.code == 1
    assert typed.err.startswith(f"memexp: sys.exit({code!r}) was called (")
    assert typed.err.count("\n") == 1


@pytest.mark.parametrize("words", ["any env=gym:CartPole-v1", "any id=gym:CartPole-v1", "gym:CartPole-v1"])
def test_play_and_funnel_name_any_environment_as_launch_does(capsys, words: str):
    played = type_command(capsys, "play", *words.split(), "--ascii", "--max-steps", "2")
    assert (played.code, played.err) == (0, "")
    assert "after 2 steps" in played.out
    assert type_command(capsys, "funnel", *words.split(), "--episodes", "2").code == 0


def test_no_gpus_are_cpu_machines(folder, capsys):
    for target in ("tmaze", "good.yaml"):
        typed = type_command(capsys, "launch", target, "--gpus", "0", "--dry-run")
        assert typed.code == 0
        assert "each on CPUs" in typed.out
