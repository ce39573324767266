"""`memexp init` writes a project that can be launched at once, and overwrites nothing."""

import os
import sys
from pathlib import Path

import pytest
from helpers.commands import files_below, type_command

from memexp.project import ProjectFinder

FILES = {"pyproject.toml", "experiments.yaml", "envs.py", "cells.py", "recipes.py", "README.md", ".gitignore"}


def forget():
    """Let modules with the names of the template's be found anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("cells", "envs", "recipes")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])
    forget()
    yield
    forget()


def test_the_project_can_be_planned_where_it_was_written(tmp_path, monkeypatch, capsys):
    typed = type_command(capsys, "init", "My Task")
    assert (typed.code, typed.err) == (0, "")
    assert typed.out.endswith("cd 'My Task' && memexp launch experiments.yaml --local\n")
    assert set(files_below(tmp_path / "My Task")) == FILES
    assert 'name = "my-task"' in (tmp_path / "My Task" / "pyproject.toml").read_text()
    monkeypatch.chdir(tmp_path / "My Task")
    typed = type_command(capsys, "launch", "experiments.yaml", "--local", "--dry-run")
    assert (typed.code, typed.err) == (0, "")
    assert "30 runs: 30 new" in typed.out


@pytest.mark.parametrize("target", [".", "mine"])
@pytest.mark.parametrize("names", [["README.md"], ["README.md", "LICENSE", ".gitignore", ".git/config"], ["src/a.py"]])
def test_a_fresh_clone_gets_what_is_missing_and_keeps_the_rest(tmp_path, capsys, target, names):
    for name in names:
        (tmp_path / target / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / target / name).write_text("mine\n")
    typed = type_command(capsys, "init", target)
    assert (typed.code, typed.err) == (0, "")
    files = files_below(tmp_path / target)
    assert set(files) >= {*FILES, *names}
    assert {files[name] for name in names} == {b"mine\n"}
    kept = [Path(line.split(" is kept")[0]).name for line in typed.out.splitlines() if "is kept as it is" in line]
    assert kept == sorted(FILES & {*names})
    assert ("memexp_home/ belongs in it" in typed.out) == (".gitignore" in names)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
@pytest.mark.parametrize("name", sorted(FILES - {"README.md", ".gitignore"}))
def test_a_needed_file_that_is_there_is_kept_and_named(tmp_path, capsys, name, kind):
    place = tmp_path / name
    {"file": place.touch, "folder": place.mkdir, "link": lambda: place.symlink_to("nowhere")}[kind]()
    typed = type_command(capsys, "init")
    assert (typed.code, typed.out) == (2, "")
    assert typed.err == f"memexp: {name} exists already: nothing was written; name another folder\n"
    assert os.listdir(tmp_path) == [name]


def test_memexps_own_matrix_files_can_be_had_by_name_and_planned(tmp_path, capsys):
    names = [line.split()[0] for line in type_command(capsys, "list", "matrices").out.splitlines()]
    assert {"demo", "minigrid"} <= {*names}
    typed = type_command(capsys, "init", "mine", "--matrix", "demo")
    assert (typed.code, typed.err) == (0, "")
    assert typed.out.endswith("cd mine && memexp launch experiments/demo.yaml --local\n")
    assert set(files_below(tmp_path / "mine")) == {"experiments", "experiments/demo.yaml"}
    typed = type_command(capsys, "launch", "mine/experiments/demo.yaml", "--local", "--dry-run", "--no-build")
    assert "40 runs: 40 new" in typed.out
    typed = type_command(capsys, "init", "mine", "--matrix", "demo")
    assert (typed.code, "nothing was written" in typed.err) == (2, True)
    typed = type_command(capsys, "init", "mine", "--matrix", "demos")
    assert (typed.code, typed.err) == (2, "memexp: --matrix: memexp has no 'demos'; did you mean 'demo'?\n")
