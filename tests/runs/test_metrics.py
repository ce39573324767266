"""metrics.jsonl: the same records and columns however they are read."""

import json
import math

import pytest

from memexp.runs import Run
from memexp.runs.metrics import (
    columns_of_records,
    episode_means,
    last_records,
    latest,
    rate_over,
    recent_means,
    scored_records,
    tail,
)

LINES = [
    {"agent_steps": 30, "x": 3.0, "env/a": 1},
    {"agent_steps": 10, "x": 1, "env/b": 2.0},
    {"agent_steps": 30, "x": 4.0},
    {"agent_steps": 20, "x": True},
    {"agent_steps": 40, "x": "text"},
    {"agent_steps": 50, "x": 1e999},
    {"x": 9.0},
]
COLUMNS = {
    "agent_steps": [10, 20, 30, 40, 50],  # sorted; of the two lines at 30 steps the last counts
    "x": [1, None, 4, None, None],
    "env/a": [None] * 5,
    "env/b": [2, None, None, None, None],
}


def as_lists(columns) -> dict:
    return {name: [None if math.isnan(v) else v for v in column] for name, column in columns.items()}


def test_columns_are_sorted_by_agent_steps_and_hold_numbers_or_nan():
    assert as_lists(columns_of_records(LINES, ["x"], "env/")) == COLUMNS


@pytest.mark.parametrize("plain", [True, False], ids=["numbers alone", "with other values"])
@pytest.mark.parametrize("torn", [b"", b'{"agent_steps": 60, "x"', b'{"agent_steps": 60, "x": 6.0}'])
def test_a_file_gives_the_columns_of_its_records_and_a_torn_last_line_is_left_out(plain, torn):
    run = Run.named("it")
    run.path.mkdir(parents=True)
    lines = LINES[:3] if plain else LINES
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + torn
    (run.path / "metrics.jsonl").write_bytes(text)
    records = [*lines, {"agent_steps": 60, "x": 6.0}] if torn.endswith(b"}") else lines
    others = ("text", 1e999)
    numbers = [{n: v for n, v in line.items() if v not in others and v is not True} for line in records]
    assert run.metrics() == numbers
    found = run.columns(["x"], "env/")
    assert as_lists(found) == as_lists(columns_of_records(records, ["x"], "env/"))
    assert found["agent_steps"][-1] == (60 if torn.endswith(b"}") else 30 if plain else 50)


def test_a_run_without_metrics_has_empty_columns():
    assert as_lists(Run.named("none").columns(["x"])) == {"agent_steps": [], "x": []}


def test_the_last_records_come_from_the_end_of_the_file(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b"".join(b'{"agent_steps": %d}\n' % n for n in range(10_000)))
    assert last_records(file)[-1] == {"agent_steps": 9999}
    assert len(last_records(file)) == 65536 // 22  # lines of 22 bytes; the first one is cut
    assert tail(file, 5) == b"999}\n"
    assert (last_records(tmp_path / "none"), tail(tmp_path / "none", 5)) == ([], b"")


def test_means_are_over_episodes_and_not_over_updates():
    records = [
        {"episode/return": 1.0, "episode/count": 3, "env/x": 4.0, "loss/value": 9.0},
        {"episode/return": 5.0, "episode/count": 1, "env/x": True},
        {"episode/return": 3.0},  # without a count it is one episode
    ]
    assert episode_means(records) == {"episode/return": (3 * 1 + 5 + 3) / 5, "env/x": 4.0}


def test_means_leave_out_the_episodes_that_lack_a_statistic():
    records = [
        {"episode/return": 1.0, "episode/count": 9, "env/x": 4.0, "lacking/x": 8},
        {"episode/return": 1.0, "episode/count": 3, "env/x": 8.0},
        {"episode/return": 1.0, "episode/count": 5, "lacking/x": 5},
    ]
    assert episode_means(records) == {"episode/return": 1.0, "env/x": (4 + 3 * 8) / 4}


@pytest.mark.parametrize(("updates", "last"), [(1, 1), (9, 1), (15, 2), (100, 11), (500, 20)])
def test_the_recent_mean_is_over_the_last_tenth_of_the_run_and_at_most_20_updates(updates, last, tmp_path):
    file = tmp_path / "metrics.jsonl"
    lines = [
        json.dumps({"agent_steps": 64 * n, "episode/return": float(n > updates - last)}) for n in range(updates + 1)
    ]
    file.write_text("".join(f"{line}\n" for line in lines))
    assert recent_means(scored_records(file)) == {"episode/return": 1.0}
    lines[updates + 1 - last] = json.dumps({"agent_steps": 64 * (updates + 1 - last), "episode/return": 0.0})
    file.write_text("".join(f"{line}\n" for line in lines))
    assert recent_means(scored_records(file))["episode/return"] == pytest.approx(1 - 1 / last)
    assert recent_means([]) == {}


def test_the_rate_is_steps_by_time_from_the_first_to_the_last_line():
    lines = [{"agent_steps": s, "wall_s": t, "sps": 7.0} for s, t in [(100, 1.0), (900, 2.0), (1100, 5.0)]]
    assert rate_over(lines) == 250.0
    assert rate_over(lines[:1]) == 7.0
    assert rate_over([lines[0], lines[0]]) == 7.0
    assert rate_over([{"agent_steps": 1}, {"agent_steps": 2}]) is None
    assert latest([{"x": 1}, {"x": 2}, {"x": None}], "x") == 2
