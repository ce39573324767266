"""`memexp init` writes a project that can be launched at once, and overwrites nothing."""

import sys

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


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_there_is_kept_and_named(tmp_path, capsys, name):
    (tmp_path / name).write_text("mine\n")
    typed = type_command(capsys, "init")
    assert (typed.code, typed.out) == (2, "")
    assert typed.err == f"memexp: {name} exists already: nothing was written; name another folder\n"
    assert set(files_below(tmp_path)) == {name}
