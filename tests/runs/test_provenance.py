"""Where a run came from."""

import json
import subprocess

from memexp.runs import provenance


def test_code_without_its_history_says_what_the_launch_wrote_and_a_long_diff_is_cut(tmp_path):
    sent = {"commit": "abc", "dirty": True, "diff": "x" * 1_000_001}
    (tmp_path / provenance.CODE_FILE).write_text(json.dumps(sent))
    assert provenance.code(tmp_path) == {**sent, "diff": "x" * 1_000_000}


def test_a_change_that_is_not_utf_8_is_kept(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], cwd=tmp_path, check=True)

    file = tmp_path / "latin.txt"
    git("init", "-q")
    file.write_bytes(b"caf\xe9\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    file.write_bytes(b"caf\xe9s\n")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "code.py"))
    record = provenance.provenance([], "cpu", 1)
    assert record["dirty"]
    assert "+caf\ufffds" in record["diff"]
