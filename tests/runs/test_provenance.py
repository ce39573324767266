"""Where a run came from: memexp's own commit only if memexp runs from its checkout, and the project around it."""

import hashlib
import json
import shutil
import stat
from pathlib import Path

import pytest
from helpers.checkouts import commit, git

from memexp.launch.cloud.code import find_code
from memexp.project import ProjectFinder
from memexp.runs import Run, provenance

SECRET = "CANARYUSERDIFF"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Somebody's own git repository, which is the current folder."""
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text(".venv\n")
    (tmp_path / "app.py").write_text("X = 1\n")
    git(tmp_path, "remote", "add", "origin", "https://example.invalid/me/private.git")
    commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])
    return tmp_path


def test_code_without_its_history_says_what_the_launch_wrote_and_a_long_diff_is_cut(tmp_path):
    sent = {"commit": "abc", "dirty": True, "diff": "x " * 500_001}
    (tmp_path / provenance.CODE_FILE).write_text(json.dumps(sent))
    assert provenance.code(tmp_path) == {**sent, "diff": "x " * 500_000}


@pytest.mark.parametrize("place", [".venv/lib/python3.12/site-packages", "third_party/memexp", "src"])
def test_the_repository_around_an_installed_or_a_copied_package_is_not_memexps(place, repository, monkeypatch):
    package = repository / place
    (package / "memexp/runs").mkdir(parents=True)
    shutil.copy(provenance.__file__, package / "memexp/runs")
    (package / "pyproject.toml").touch()
    git(repository, "add", ".")
    git(repository, "commit", "-q", "--allow-empty", "-m", "with memexp")
    (repository / "app.py").write_text(f'PASSWORD="{SECRET}"\n')
    monkeypatch.setattr("memexp.launch.cloud.code.CHECKOUT", package)
    assert provenance.code(package) == {"commit": None, "dirty": False, "diff": None}
    code = find_code(checkout=package)
    assert (code.commit, code.repository) == ("", "")
    assert "no git checkout of its own" in code.problems[0]


def test_memexps_own_checkout_is_its_code_and_no_project():
    root = Path(__file__).parents[2]
    assert root == provenance.CHECKOUT
    assert provenance.code()["commit"] == git(root, "rev-parse", "HEAD").strip()
    assert provenance.project(root / "tests") is None


def test_the_users_project_is_recorded_apart_with_its_changes(repository):
    (repository / "app.py").write_text("X = 2\n")
    (repository / "deep").mkdir()
    record = provenance.project(repository / "deep")
    head = git(repository, "rev-parse", "HEAD").strip()
    assert record
    assert "private.git" not in json.dumps(record)
    assert (record["name"], record["commit"], record["dirty"]) == (repository.name, head, True)
    assert "+X = 2" in record["diff"]


@pytest.mark.parametrize(
    "line",
    [
        f'PASSWORD="{SECRET}"',
        f"db_password: {SECRET}",
        f"API_KEY={SECRET}",
        f"url = 'https://me:{SECRET}@example.invalid/'",
        f"call(ghp_{SECRET}123456)",
        f"x = '{SECRET}0123456789abcdefghijklmnop'",
    ],
)
def test_a_diff_that_may_hold_a_secret_is_kept_as_a_hash(line, repository):
    (repository / "app.py").write_text(f"{line}\n")
    record = provenance.provenance(["memexp", "train", "x", line], "cpu", 1)
    assert SECRET not in json.dumps(record["project"])
    diff = git(repository, "diff", "HEAD").rstrip("\n")
    assert record["project"]["diff_sha256"] == hashlib.sha256(diff.encode()).hexdigest()


def test_outside_of_git_and_before_the_first_commit_there_is_nothing_to_record(tmp_path):
    assert provenance.project(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert provenance.project(tmp_path) == {"name": tmp_path.name, "commit": None, "dirty": False, "diff": None}


def test_a_change_that_is_not_utf_8_is_kept(repository):
    (repository / "app.py").write_bytes(b"caf\xe9\n")
    commit(repository)
    (repository / "app.py").write_bytes(b"caf\xe9s\n")
    assert "+caf\ufffds" in provenance.project(repository)["diff"]


def test_a_repository_that_wants_to_start_a_program_starts_none(repository):
    git(repository, "config", "core.fsmonitor", "touch CANARY")
    git(repository, "config", "diff.external", "touch CANARY")
    provenance.project(repository)
    assert not (repository / "CANARY").exists()


def test_files_with_commands_diffs_or_configs_are_for_their_owner_alone():
    run = Run.named("private")
    run.write_config({"run": "private"})
    run.write_provenance({"argv": ["memexp"]})
    run.write_provenance({"argv": ["memexp"]})
    assert {stat.S_IMODE((run.path / name).stat().st_mode) for name in ("config.yaml", "provenance.json")} == {0o600}
