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
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b'"{'),
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


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["run.json", "exit.json", "config.yaml", "provenance.json", "metrics.jsonl", "lock"])
def test_one_damaged_file_hides_no_other_run_and_is_named(capsys, home, name, damage):
    run, *_ = write_matrix(home / "runs", {"S": [0.9, 0.8], "S~": [0.1, 0.2]})
    run.write_provenance({"commit": "x" * 40})
    run.lock.touch()
    damage(run.path / name)
    shown = {}
    for words in (["status", "--json"], ["monitor", "test", "--json"], ["report", "test", "--json"]):
        typed = type_command(capsys, *words)
        assert (typed.code, typed.err) == (0, ""), words
        shown[words[0]] = json.loads(typed.out)
    assert {row["run"] for row in shown["status"] if row["state"] == "completed"} >= {
        "world_S.s1",
        "world_S_off.s0",
        "world_S_off.s1",
    }
    seeds = {arm: one["seeds"] for arm, one in shown["report"]["environments"]["world"]["arms"].items()}
    assert (seeds["S"] >= 1, seeds["S~"]) == (True, 2)
    named = [note for note in shown["report"]["notes"] if note.startswith(f"{run.name}: {name} cannot be read: ")]
    rows = [*shown["status"], *shown["monitor"]]
    alarms = [line for row in rows if row["run"] == run.name for line in row["problems"]]
    if name in ("run.json", "exit.json", "config.yaml", "provenance.json"):
        assert len(named) == 1
        assert name == "provenance.json" or any(line.startswith(f"{name} cannot be read: ") for line in alarms)


FIELDS = ["matrix", "pattern", "mem_len", "memory", "recipe", "hardware", "price_per_hour", "random_return"]
FIELDS += ["ceiling_return", "num_actions", "random_funnel", "memory_span"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_run_json_that_is_null_is_not_known_and_the_run_counts(capsys, home, field):
    for run in write_matrix(home / "runs", {"X": [0.9, 0.8], "X~": [0.1, 0.2]}, pattern="X"):
        fields = json.loads((run.path / "run.json").read_text())
        (run.path / "run.json").write_text(json.dumps({**fields, field: None}))
    report = json.loads(type_command(capsys, "report", str(home), "--json").out)
    assert {arm: one["seeds"] for arm, one in report["environments"]["world"]["arms"].items()} == {"X": 2, "X~": 2}
    rows = json.loads(type_command(capsys, "monitor", str(home), "--json").out)
    assert [row["problems"] for row in rows] == [[]] * 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("env", None),
        ("seed", None),
        ("total_timesteps", None),
        ("num_actions", -5),
        ("random_return", 1e308),
        ("mem_len", "x"),
        ("seed", 10**30),
        ("total_timesteps", 0),
        ("price_per_hour", -1),
        ("random_funnel", {"a": "b"}),
    ],
)
def test_a_wrong_field_of_run_json_is_named(capsys, home, field, value):
    run, *_ = write_matrix(home / "runs", {"S": [0.9, 0.8]})
    fields = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**fields, field: value}))
    (note,) = [n for n in json.loads(type_command(capsys, "report", "test", "--json").out)["notes"] if run.name in n]
    assert note.startswith(f"{run.name}: run.json cannot be read: {field}")


ODD = ["text", None, [1], {"a": 1}, True, -3, 1e999, 10**400, float("nan")]


@pytest.mark.parametrize("value", ODD, ids=str)
def test_numbers_of_metrics_that_are_none_hide_no_run(capsys, home, value):
    run, *_ = write_matrix(home / "runs", {"S": [0.9, 0.8], "S~": [0.1, 0.2]})
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    for name in ("agent_steps", "wall_s", "sps", "episode/return", "episode/count", "policy/entropy", "env/x"):
        text = "".join(json.dumps(line | ({name: value} if n > 30 else {})) + "\n" for n, line in enumerate(lines))
        (run.path / "metrics.jsonl").write_text(text)
        for words in (["status"], ["monitor", "test", "--once"], ["report", "test", "--json"]):
            typed = type_command(capsys, *words)
            assert (typed.code, typed.err) == (0, ""), (words, name)
            assert "S" in typed.out
