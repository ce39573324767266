"""Code that nodes cannot fetch is sent along: what git knows, as it is here, with the changes on record."""

import json
import stat
from pathlib import Path

import pytest
from helpers.checkouts import checkout_at, commit, git

from memexp.launch.cloud.code import find_code, with_snapshot
from memexp.runs.provenance import CODE_FILE
from memexp.runs.provenance import code as code_of


@pytest.fixture
def checkout(tmp_path):
    return checkout_at(tmp_path)


def snapshot(checkout, ref=None):
    return Path(with_snapshot(find_code(ref, checkout), ref, checkout).workdir)


def test_a_snapshot_holds_the_changed_files_and_the_provenance_names_the_change(checkout):
    (checkout / "a.txt").write_text("two\n")
    (checkout / "new.bin").write_bytes(bytes(range(256)))
    git(checkout, "add", "new.bin")
    folder = snapshot(checkout)
    assert (folder / "a.txt").read_text() == "two\n"
    assert (folder / "new.bin").read_bytes() == bytes(range(256))
    record = code_of(folder)
    assert record["commit"] == git(checkout, "rev-parse", "HEAD").strip()
    assert record["dirty"]
    assert "+two" in record["diff"]
    assert stat.S_IMODE((folder / CODE_FILE).stat().st_mode) == 0o600
    assert not (folder / ".git").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("diff.noprefix", "true"), ("color.ui", "always"), ("diff.external", "cat")]
)
def test_the_users_own_settings_of_git_change_no_snapshot(checkout, key, value):
    git(checkout, "config", key, value)
    (checkout / "a.txt").write_text("two\n")
    assert (snapshot(checkout) / "a.txt").read_text() == "two\n"


def test_what_git_does_not_know_stays_here(checkout):
    (checkout / ".env").write_text("KEY=s3cr3t")
    (checkout / "a.txt").write_text("two\n")
    folder = snapshot(checkout)
    assert not (folder / ".env").exists()
    assert "s3cr3t" not in (folder / CODE_FILE).read_text()


def test_the_same_code_is_the_same_snapshot_and_other_code_another(checkout):
    (checkout / "a.txt").write_text("two\n")
    first = snapshot(checkout)
    assert snapshot(checkout) == first
    (checkout / "a.txt").write_text("three\n")
    assert snapshot(checkout) != first
    assert (first / "a.txt").read_text() == "two\n"
    assert {folder.name for folder in first.parent.iterdir()} == {first.name, snapshot(checkout).name}


def test_an_unpushed_ref_is_sent_as_it_was_committed(checkout):
    (checkout / "a.txt").write_text("two\n")
    commit(checkout)
    (checkout / "a.txt").write_text("three\n")
    folder = snapshot(checkout, "HEAD")
    assert (folder / "a.txt").read_text() == "two\n"
    assert json.loads((folder / CODE_FILE).read_text())["dirty"] is False
