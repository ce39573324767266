"""Secrets are nowhere but in the environment of the trainer, and no text that a user gives becomes a command."""

import os
import re
import shutil
import stat
import string
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import yaml
from helpers.commands import type_command
from helpers.sky import FakeSky
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from memexp.config import UsageError
from memexp.launch.cloud.code import Code
from memexp.launch.cloud.install import SCRIPTS, Install
from memexp.launch.cloud.sky_task import dump, make_task
from memexp.launch.plan.matrix import Matrix
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import recipe_specs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SkyPilot's imports
ROOT = Path(__file__).parents[2]
CODE = Install(Code("c0ffee", "https://github.com/a/b", ()))

# Injection.

NASTY = [
    "$(touch CANARY)", "`touch CANARY`", "; touch CANARY", "| touch CANARY", "&& touch CANARY", "\ntouch CANARY\n",
    "'; touch CANARY; '", '"; touch CANARY; "', "\\'; touch CANARY #", "${IFS}touch${IFS}CANARY", "<(touch CANARY)",
    ">CANARY", "{arguments}", "{{x}}", "${MEMEXP_RUN}", "$HOME", "~", "*", "?", "--", "-rf", "!!", "#", "%s", "\t",
    "\r\n",
    "!!python/object/apply:os.system ['touch CANARY']", "&anchor", "*alias", ": ", "- ", "---", "|", ">", "@", "%YAML",
    "\x1b[2J", "\x85", "\u2028", "é", "\U0001f4a5",
]  # fmt: skip
TEXT = st.lists(
    st.sampled_from(NASTY) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    max_size=6,
).map("".join)
EXAMPLES = 200


def typed_on_the_node(task: dict, folder: Path) -> list[str]:
    """What run.sh is given when the task's YAML is read back and its command is run by bash."""
    (data,) = yaml.safe_load_all(dump([task], "yaml"))
    python = folder / ".venv" / "bin" / "python"
    if not python.exists():
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
        python.chmod(0o755)
    env = {**data["envs"], "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", data["run"]], cwd=folder, env=env, capture_output=True, check=True)
    module, node, run, *words = done.stdout.decode().removesuffix("\0").split("\0")
    assert (module, node, run) == ("-m", "memexp.launch.cloud.node", "run")
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(TEXT, TEXT, TEXT)
@example("$(touch CANARY)", "`touch CANARY`", "'; touch CANARY; '")
def test_no_text_becomes_a_command(folder, hardware: str, arm: str, env: str):
    """Every word arrives on the node as it was typed, and nothing else happens there."""
    words = {"labels.hardware": hardware, "labels.arm": arm, "labels.env": env}
    try:
        asked = recipe_specs(find_recipe("tmaze"), {"run": "a", **words})[0]
    except UsageError:  # what begins with { or [ is read as YAML
        reject()
    assert typed_on_the_node(make_task(asked, Resources(gpus=0), CODE), folder) == asked.arguments
    assert {file.name for file in folder.iterdir()} == {".venv"}


@settings(max_examples=EXAMPLES)
@given(TEXT)
def test_no_text_that_is_no_name_becomes_a_run_or_a_recipe(text: str):
    """A run's name holds letters, digits, '-', '_' and '.' alone; a recipe is one that exists."""
    safe = set(string.ascii_letters + string.digits + "-_.")
    try:
        asked = recipe_specs(find_recipe("tmaze"), {"run": text})[0]
    except UsageError:
        pass
    else:
        assert set(asked.run) <= safe
        assert asked.run[0].isalpha()
    with pytest.raises(UsageError):
        find_recipe(f"tmaze{text}" if text.strip(".") else "nothing")


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(TEXT, TEXT)
def test_no_text_of_a_matrix_file_becomes_a_command(folder, name: str, hardware: str):
    from memexp.launch.plan.expand import expand

    data = {
        "name": name,
        "run": "a.s{seed}",
        "environments": {"maze": {"recipe": "tmaze", "args": {"labels.hardware": hardware}}},
        "architectures": {"S": {"pattern": "S"}},
        "steps": ["1k"],
        "seeds": 1,
        "twins": False,
    }
    try:
        (asked,) = expand(Matrix.parse(data))
    except UsageError:
        return
    assert typed_on_the_node(make_task(asked, Resources(gpus=0), CODE), folder) == asked.arguments
    assert {file.name for file in folder.iterdir()} == {".venv"}


@pytest.mark.parametrize("document", ["!!python/object/apply:os.system ['touch CANARY']", "!!python/name:os.system"])
def test_a_matrix_file_cannot_make_python_objects(document: str, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(f"name: {document}\n")
    typed = type_command(capsys, "launch", "m.yaml", "--dry-run")
    assert typed.code == 2
    assert not (tmp_path / "CANARY").exists()


def test_yaml_is_loaded_safely_everywhere():
    sources = [*(ROOT / "memexp").rglob("*.py"), *(ROOT / "recipes").rglob("*.py"), *(ROOT / "devops").rglob("*.py")]
    unsafe = ("yaml.unsafe_load", "yaml.full_load", "yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader")
    assert len(sources) > 50
    for source in sources:
        text = source.read_text()
        assert not any(word in text for word in unsafe), source
        for line in text.splitlines():
            safe = re.search(r"Loader=_(Reader|WithoutAliases|SafeLoader)\b", line)  # all are SafeLoaders
            assert "yaml.load(" not in line or safe, source


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "MEMEXP_WEBHOOK_URL",
        "GITHUB_TOKEN",
        "aws_secret_access_key",
        "DB_PASSWD",
        "SLACK_WEBHOOK",
        "a b",
        "A;B",
    ],
)
def test_a_secret_among_the_variables_of_a_matrix_file_is_refused(name: str):
    with pytest.raises(UsageError, match=r"looks like a secret|is no name"):
        Resources.parse({"envs": {name: "x"}})


def test_a_secret_among_the_values_of_variables_is_refused():
    with pytest.raises(UsageError, match="'PROXY' looks like a secret"):
        Resources.parse({"envs": {"PROXY": "http://me:s3cr3t@proxy:80"}})


def test_a_secret_among_the_arguments_of_a_run_gets_into_no_task():
    (spec,) = recipe_specs(find_recipe("any"), {"run": "a", "options": "{token: s3cr3t}"})
    with pytest.raises(UsageError, match=r"token: \*\*\*.* looks like a secret"):
        make_task(spec, Resources(gpus=0), CODE)


def test_a_run_that_is_named_after_its_overrides_is_not_named_after_a_secret():
    (spec,) = recipe_specs(find_recipe("any"), {"options": "{token: s3cr3t, size: 3}"})
    assert spec.run == "any.options-token-size-3"


def test_a_variable_that_the_task_sets_itself_is_refused():
    with pytest.raises(UsageError, match="'MEMEXP_RUN' is set by the launcher itself"):
        Resources.parse({"envs": {"MEMEXP_RUN": "another"}})


@pytest.mark.parametrize("bucket", ["s3://id:s3cr3t@bucket/runs", "https://account.blob.core.windows.net/c?sig=s3cr3t"])
def test_a_bucket_with_credentials_in_its_address_is_refused(bucket: str):
    with pytest.raises(UsageError, match="bucket"):
        Resources.parse({"bucket": bucket})


# Secrets.

SECRET = uuid.uuid4().hex
"""Stands nowhere before the test: neither in this file nor in a snapshot of the code."""


@pytest.mark.slow
def test_no_secret_is_in_anything_that_was_written_printed_or_listed_as_a_process(tmp_path, home, monkeypatch, capsys):
    """Dump, render, plan, submission, a run here, and one as on a node; then every byte below the home is searched."""
    monkeypatch.setenv("WANDB_API_KEY", f"{SECRET}01234567")
    monkeypatch.setenv("MEMEXP_WEBHOOK_URL", f"http://127.0.0.1:9/hooks/{SECRET}")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    sky = FakeSky()
    monkeypatch.setattr("memexp.launch.cloud.job_queue._import_sky", lambda instead: sky)
    words = ["tmaze", "pattern=S", "trainer.total_timesteps=1k", "trainer.num_envs=16", "trainer.horizon=8"]
    words += ["evaluation.random_episodes=4", "run=a"]
    said = ""
    for options in (["--dump-config", "yaml"], ["--dump-config", "json"], ["--dry-run"], ["--dry-run", "--json"],
                    ["--render", "tasks"], ["--skip-git-check"], ["--local"]):  # fmt: skip
        typed = type_command(capsys, "launch", *words, *options)
        assert typed.code == 0, typed.err
        said += typed.out + typed.err
    lines: list[bytes] = []
    stop = threading.Event()
    watcher = threading.Thread(target=_watch_processes, args=(stop, lines))
    watcher.start()
    said += _run_as_on_a_node([*words[:-1], "run=b"], home)
    stop.set()
    watcher.join()
    said += type_command(capsys, "status").out + type_command(capsys, "logs", "b").out

    assert any(b"memexp.launch.cloud.node" in line or b"memexp" in line for line in lines)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    hits = [file for file in files if SECRET.encode() in file.read_bytes()]
    assert {"run.json", "config.yaml", "provenance.json", "metrics.jsonl", "log.txt", "launches.jsonl"} <= {
        file.name for file in files
    }
    assert hits == []
    assert SECRET not in said
    assert not any(SECRET.encode() in line for line in lines)
    assert (home / "runs" / "b" / "provenance.json").exists()
    assert stat.S_IMODE((home / "launches.jsonl").stat().st_mode) == 0o600
    print(f"{len(files)} files and {len(lines)} command lines searched")


def _run_as_on_a_node(words: list[str], home: Path) -> str:
    variables = {"MEMEXP_PYTHON": sys.executable, "MEMEXP_HOME": str(home), "MEMEXP_RUN": "b", "PYTHONPATH": str(ROOT)}
    command = ["bash", str(SCRIPTS / "run.sh"), *words]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    assert "done; exit code 0" in done.stdout + done.stderr
    return done.stdout + done.stderr


def _watch_processes(stop: threading.Event, lines: list[bytes]) -> None:
    """Collect the command lines of all processes until told to stop."""
    if shutil.which("ps") is None:
        pytest.fail("the list of processes cannot be read")
    seen: set[bytes] = set()
    while not stop.wait(0.05):
        for line in subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, check=True).stdout.splitlines():
            if line not in seen:
                seen.add(line)
                lines.append(line)
