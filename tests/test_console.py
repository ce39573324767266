"""What commands print: no control character from outside reaches the terminal, any terminal and any reader will do."""

import io
import json
import os
import re
from pathlib import Path

import pytest
from helpers.commands import type_command
from helpers.synthetic_runs import rising, write_run

from memexp.cli import main
from memexp.formatting import printable

ESCAPES = "\x1b]52;c;ZXZpbA==\x1b\\\x1b]0;owned\a\x9b31m\r\u202e\u2066"
"""Sets the clipboard and the title, turns red, overwrites its line, and writes from right to left."""
FOREIGN = ESCAPES + "<img src=x onerror=alert(1)>[red](javascript:alert(1))![](http://x)[bold]|"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\udc80-\udcff]")
FROM_RUNS = ["status", "list runs", "logs r0", "monitor r0 --once", "monitor foreign --once", "report foreign"]


@pytest.fixture
def foreign(home, tmp_path, monkeypatch):
    """Two runs of the matrix `foreign`, in which an attacker chose every text that a user need not type."""
    monkeypatch.chdir(tmp_path)
    columns = {f"env/funnel/{FOREIGN}": 0.5, f"env/{FOREIGN}": 1.0}
    for seed, (name, arm) in enumerate({"r0": FOREIGN, f"r1{ESCAPES}\udcff": f"{FOREIGN}~"}.items()):
        run = write_run(home / "runs", arm, seed, rising(1.0), name=name, matrix="foreign", columns=columns)
        info = json.loads((run.path / "run.json").read_text())
        info |= dict.fromkeys(("env", "hardware", "recipe"), FOREIGN) | {"arm": arm, "random_funnel": {FOREIGN: 0.1}}
        (run.path / "run.json").write_text(json.dumps(info))
        (run.path / "exit.json").write_text(json.dumps({"status": "failed", "reason": FOREIGN}))
        run.write_provenance({"commit": FOREIGN, "argv": [FOREIGN], "host": FOREIGN, "packages": {FOREIGN: FOREIGN}})
        (run.path / "log.txt").write_text(f"{FOREIGN}\n")
    return home / "runs"


@pytest.mark.parametrize("command", FROM_RUNS)
def test_control_characters_of_runs_are_shown_as_text(foreign, capsys, command):
    typed = type_command(capsys, *command.split())
    assert typed.code == 0, typed.err
    assert "␛" in typed.out
    assert CONTROL.search(typed.out + typed.err) is None


def test_pages_about_runs_hold_neither_control_characters_nor_foreign_html(foreign, capsys):
    assert type_command(capsys, "report", "foreign", "--md", "a.md", "--out", "a.html").code == 0
    for page in (Path(name).read_text() for name in ("a.md", "a.html")):
        assert "␛" in page
        assert "src=x onerror" in page
        assert CONTROL.search(page) is None
        assert "<img" not in page
    assert re.search(r"\]\(|!\[", Path("a.md").read_text()) is None


@pytest.mark.parametrize("word", [ESCAPES, f"a{ESCAPES}=1", f"a{ESCAPES}.yaml"])
@pytest.mark.parametrize("command", ["launch", "status", "list", "logs", "launch tmaze"])
def test_control_characters_of_wrong_words_are_shown_as_text(capsys, command, word):
    typed = type_command(capsys, *command.split(), word)
    assert (typed.code, typed.out) == (2, "")
    assert CONTROL.search(typed.err) is None


@pytest.mark.parametrize("command", [["status"], ["launch", "m.yaml", "--local", "--dry-run"]])
def test_a_pipe_gets_one_line_a_row_whatever_its_length(home, tmp_path, monkeypatch, capsys, command):
    """`memexp status | grep NAME` finds the name; a terminal folds it."""
    monkeypatch.chdir(tmp_path)
    env = "a_long_name" * 9
    matrix = {"name": "m", "environments": {env: {"recipe": "recipes.controls.tmaze"}}, "steps": ["1k"], "seeds": 1}
    Path("m.yaml").write_text(json.dumps(matrix | {"architectures": {"S": {"pattern": "S"}}}))
    write_run(home / "runs", "S", 0, rising(1.0), env=env)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert f"\n {env}" in type_command(capsys, *command).out
    monkeypatch.setenv("COLUMNS", "80")
    assert f"\n {env}" not in type_command(capsys, *command).out


@pytest.mark.parametrize("text", ["plain", "tab\tand\nline", "ünïcödé 日本語\u3000 👩\u200d💻", "– ━ █"])
def test_other_text_is_printed_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("command", [*FROM_RUNS, "list envs --knobs", "list patterns", "launch --help", "lunch"])
def test_any_encoding_of_the_terminal_will_do(foreign, monkeypatch, encoding, command):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert main(command.split()) == (2 if command == "lunch" else 0)
    err.flush()
    out.flush()
    shown = out.buffer.getvalue() + err.buffer.getvalue()
    assert shown
    if command.startswith("monitor"):
        assert ("━" if encoding == "utf-8" else "=").encode(encoding) * 5 in shown  # the bar remains a bar


@pytest.fixture(params=["unbuffered", "buffered"])
def print_to(request, monkeypatch):
    """Have standard output go to a file descriptor."""

    opened: list[io.TextIOWrapper] = []

    def redirect(descriptor: int) -> None:
        raw = open(descriptor, "wb", buffering=0 if request.param == "unbuffered" else -1)  # noqa: SIM115
        opened.append(io.TextIOWrapper(raw, write_through=request.param == "unbuffered"))
        monkeypatch.setattr("sys.stdout", opened[-1])

    yield redirect
    for stream in opened:
        stream.close()


PRINTING = [
    "--help",
    "launch --help",
    "status",
    "list runs",
    "list envs --json",
    "monitor foreign --once",
    "logs r0",
    "report foreign --json",
]


@pytest.mark.parametrize("command", PRINTING)
def test_without_a_reader_a_command_ends_in_silence_with_the_exit_code_of_unix_tools(
    foreign, capsys, print_to, command
):
    read, write = os.pipe()
    os.close(read)
    print_to(write)
    assert main(command.split()) == 128 + 13
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", PRINTING)
def test_output_that_is_full_is_one_line(foreign, capsys, print_to, command):
    print_to(os.open("/dev/full", os.O_WRONLY))
    assert main(command.split()) == 1
    assert capsys.readouterr().err == "memexp: No space left on device\n"


USES_HOME = [
    *("status", "monitor a --once", "logs a", "cancel a", "report a", "funnel tmaze --episodes 1"),
    "launch tmaze run=a --local",
    "train tmaze run=a trainer.total_timesteps=1k trainer.num_envs=4",
]


@pytest.mark.parametrize("command", USES_HOME)
def test_a_home_that_is_a_file_is_named_in_one_line(tmp_path, monkeypatch, capsys, command):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEMEXP_HOME", str(tmp_path / "file"))
    typed = type_command(capsys, *command.split())
    assert typed.code == 1
    lines = [line for line in typed.err.splitlines() if line]
    assert len(lines) == 1
    assert str(tmp_path / "file") in lines[0]
    assert "Not a directory" in lines[0]


@pytest.mark.parametrize("place", ["/sys", "/proc/1"], ids=str)
def test_a_home_that_cannot_be_written_is_named_in_one_line(monkeypatch, capsys, place):
    monkeypatch.setenv("MEMEXP_HOME", f"{place}/home")
    typed = type_command(capsys, "launch", "tmaze", "run=a", "--local")
    assert typed.code == 1
    assert re.fullmatch(rf"memexp: {place}/home\S*: .*\n", typed.err)
