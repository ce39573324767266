"""A damaged file of one run is named in one line, and hides nothing else."""

import json
import os

import pytest
from helpers.commands import type_command
from helpers.synthetic_runs import write_matrix

from memexp.runs.reading import DamagedError, read_json, read_yaml

DEEP = "[" * 100_000


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path):
    path.unlink()
    path.mkdir()


def sparse(path):
    with open(path, "r+b") as file:
        file.truncate(20 << 30)


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b'\n{"'),
    "empty": lambda path: path.write_bytes(b""),
    "NUL": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "not text": lambda path: path.write_bytes(b"\xff\xfe{"),
    "null": lambda path: path.write_text("null"),
    "a list": lambda path: path.write_text("[1, 2]"),
    "deep": lambda path: path.write_text(DEEP),
    "5,000 digits": lambda path: path.write_text(f'{{"seed": 1{"0" * 5000}}}'),
    "a pipe": fifo,
    "a device": endless,
    "a directory": folder,
    "huge": sparse,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_whatever_is_wrong_with_a_file_is_one_line(tmp_path, read, damage):
    file = tmp_path / "file"
    file.write_text('{"a": [1, 2, {"b": "text"}]}')
    assert read(file) == {"a": [1, 2, {"b": "text"}]}
    damage(file)
    with pytest.raises(DamagedError, match=r"^file cannot be read: [^\n]{5,200}$"):
        read(file)


def test_a_few_aliases_cannot_become_gigabytes(tmp_path):
    lines = ["a: &a [x, x]", *(f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefg", "bcdefgh", strict=True))]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(DamagedError, match="it has an alias"):
        read_yaml(tmp_path / "config.yaml")


def ask_all(capsys):
    """What status, monitor and report say about the matrix 'test', as JSON."""
    shown = []
    for words in (["status"], ["monitor", "test"], ["report", "test"]):
        typed = type_command(capsys, *words, "--json")
        assert (typed.code, typed.err.strip()) == (0, ""), words
        shown.append(json.loads(typed.out))
    status, monitor, report = shown
    return status, monitor["runs"], report


def change(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


FILES = ["run.json", "exit.json", "config.yaml", "provenance.json", "metrics.jsonl", "lock"]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_of_one_run_hides_no_other_run_and_is_named(capsys, home, damage):
    runs = write_matrix(home / "runs", {"S": [0.9] * len(FILES), "S~": [0.1, 0.2]})
    for run, name in zip(runs, FILES, strict=False):
        run.write_provenance({"commit": "x" * 40})
        run.lock.touch()
        damage(run.path / name)
    status, monitor, report = ask_all(capsys)
    names = {run.name for run in runs}
    assert ({row["run"] for row in status}, {row["run"] for row in monitor}) == (names, names)
    assert [row["state"] for row in status if row["run"] in (runs[-1].name, runs[-2].name)] == ["completed"] * 2
    assert report["environments"]["world"]["arms"]["S~"]["seeds"] == 2
    for run, name in zip(runs, FILES[:4], strict=False):
        start = f"{name} cannot be read: "
        assert [note for note in report["notes"] if note.startswith(f"{run.name}: {start}")]
        if name != "provenance.json":  # which status and monitor do not need
            shown = [row for row in [*status, *monitor] if row["run"] == run.name]
            assert len(shown) == 2
            assert all([line for line in row["problems"] if line.startswith(start)] for row in shown)


def test_metrics_that_end_before_the_run_did_are_named(capsys, home):
    runs = write_matrix(home / "runs", {"S": [0.9] * 4, "S~": [0.1]})
    for run, share in zip(runs, (0.5, 0), strict=False):
        text = (run.path / "metrics.jsonl").read_bytes()
        (run.path / "metrics.jsonl").write_bytes(text[: int(share * len(text))])
    (runs[2].path / "metrics.jsonl").write_bytes(b"\0" * 5000)
    status, monitor, report = ask_all(capsys)
    for rows in (status, monitor):
        named = [row["run"] for row in rows if any("metrics.jsonl ends at" in line for line in row["problems"])]
        assert named == [run.name for run in runs[:3]]
    assert len([note for note in report["notes"] if "metrics.jsonl ends at" in note]) == 3


@pytest.mark.parametrize("reason", ["x" * 3_000_000, "\n" * 3_000_000, "x y\n" * 100_000, "eyJaaaaaaaaaa-" * 100_000])
def test_a_reason_without_end_floods_nothing(capsys, home, reason):
    runs = write_matrix(home / "runs", {"S": [0.9], "S~": [0.1]})
    change(runs[0].path / "exit.json", status="failed", reason=f"first {reason} token=CANARYx7Q2")
    for words in (["status"], ["monitor", "test", "--once"], ["report", "test", "--json"]):
        typed = type_command(capsys, *words)
        assert typed.code == 0
        assert "first" in typed.out
        assert "CANARY" not in typed.out
        assert len(typed.out) < 200_000


OPTIONAL = ["matrix", "pattern", "mem_len", "memory", "recipe", "hardware", "price_per_hour", "random_return"]
OPTIONAL += ["ceiling_return", "num_actions", "random_funnel", "memory_span", "solved_return", "solved_by", "partner"]


def test_a_field_of_run_json_that_is_null_is_not_known_and_the_run_counts(capsys, home):
    runs = write_matrix(home / "runs", {"X": [0.9] * len(OPTIONAL), "X~": [0.1] * len(OPTIONAL)}, pattern="X")
    for number, run in enumerate(runs):
        change(run.path / "run.json", **{OPTIONAL[number % len(OPTIONAL)]: None})
    status, monitor, report = ask_all(capsys)
    counted = len(OPTIONAL) - 1  # a run without a matrix is in none
    arms = report["environments"]["world"]["arms"]
    assert {arm: one["seeds"] for arm, one in arms.items()} == {"X": counted, "X~": counted}
    assert [row["problems"] for row in [*status, *monitor]] == [[]] * 2 * (len(status) - 1)


WRONG = [
    {"env": None},
    {"seed": None},
    {"total_timesteps": None},
    {"num_actions": -5},
    {"random_return": 1e308},
    {"mem_len": "x"},
    {"seed": 10**30},
    {"total_timesteps": 0},
    {"price_per_hour": -1},
    {"random_funnel": {"a": "b"}},
]


def test_a_wrong_field_of_run_json_is_named(capsys, home):
    runs = write_matrix(home / "runs", {"S": [0.9] * len(WRONG), "S~": [0.1]})
    for run, fields in zip(runs, WRONG, strict=False):
        change(run.path / "run.json", **fields)
    notes = ask_all(capsys)[2]["notes"]
    for run, fields in zip(runs, WRONG, strict=False):
        assert [note for note in notes if note.startswith(f"{run.name}: run.json cannot be read: {next(iter(fields))}")]


ODD = ["text", None, [1], {"a": 1}, True, -3, 1e999, 10**400, float("nan")]
METRICS = ["agent_steps", "wall_s", "sps", "episode/return", "episode/count", "policy/entropy", "env/x"]


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[:9])
@pytest.mark.filterwarnings("error")
def test_metrics_that_are_no_numbers_hide_no_run(capsys, home, value):
    for run, name in zip(write_matrix(home / "runs", {"S": [0.9] * 7, "S~": [0.1]}), METRICS, strict=False):
        lines = run.metrics()
        text = [json.dumps(line | ({name: value} if number > 30 else {})) for number, line in enumerate(lines)]
        (run.path / "metrics.jsonl").write_text("\n".join(text) + "\n")
    status, monitor, report = ask_all(capsys)
    assert len(status) == len(monitor) == 8
    assert report["environments"]["world"]["arms"]["S~"]["seeds"] == 1
    for words in (["status"], ["monitor", "test", "--once"]):  # as text, too
        assert type_command(capsys, *words).code == 0
