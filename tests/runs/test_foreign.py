"""Logs of other programs get the verdicts that run directories with the same numbers get; bad logs are named."""

import json
import sys

import pytest
from helpers.commands import type_command
from helpers.synthetic_runs import write_matrix
from helpers.wandb_server import Server

from memexp.runs import find_runs

ARMS = {"S": [0.9, 0.95, 0.92, 0.97, 0.9], "S~": [0.5, 0.52, 0.49, 0.5, 0.5]}
MAP = """\
name: theirs
path: "{arm}/{env}_s{seed}"
return: ep_rew_mean
step: steps
twin: {lstm: mlp}
random_return: 0
ceiling_return: 1
"""
THEIR = {"S": "lstm", "S~": "mlp"}


@pytest.fixture
def ours(tmp_path):
    """Run directories with a known truth."""
    return write_matrix(tmp_path / "ours", ARMS)


def rows_of(run):
    return [(line["agent_steps"], line["episode/return"]) for line in run.metrics()]


def write_csv(file, rows, header="steps,ep_rew_mean"):
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def theirs(tmp_path, ours):
    """The same numbers in one CSV file a run, and the mapping of them."""
    for run in ours:
        write_csv(tmp_path / "logs" / THEIR[run.info.arm] / f"world_s{run.info.seed}" / "progress.csv", rows_of(run))
    (tmp_path / "map.yaml").write_text(MAP)
    return tmp_path / "logs"


def report(capsys, source, *words):
    return type_command(capsys, "report", "--from", str(source), *words, "--json")


def answer_of(capsys, source, *words):
    typed = report(capsys, source, *words)
    assert typed.code == 0, typed.err
    return json.loads(typed.out)


def memory(answer, env="world"):
    return {key: answer["environments"][env]["memory"][key] for key in ("verdict", "effect", "ci", "p_improvement")}


def mapped(theirs):
    return "--map", str(theirs.parent / "map.yaml")


def known(capsys, theirs):
    """The verdict on the run directories."""
    typed = type_command(capsys, "report", str(theirs.parent / "ours"), "--json")
    return memory(json.loads(typed.out))


def test_csv_files_get_the_verdict_of_run_directories(theirs, capsys):
    found = answer_of(capsys, theirs, *mapped(theirs))
    assert found["matrix"] == "theirs"
    assert memory(found) == known(capsys, theirs)
    assert memory(found)["verdict"] == "required"
    assert "whether acting and learning agree is unknown" in found["notes"][0]
    assert found["environments"]["world"]["arms"]["S~".replace("S", "lstm")]["consistent"] is None
    assert answer_of(capsys, theirs / "**" / "*.csv", *mapped(theirs)) == found


def test_one_csv_file_with_all_runs_gets_it_too(theirs, ours, tmp_path, capsys):
    rows = [(THEIR[run.info.arm], run.info.seed, *row) for run in ours for row in rows_of(run)]
    write_csv(tmp_path / "all.csv", rows[::-1], "algo,number,steps,ep_rew_mean")  # and steps in any order
    columns = ["path=null", "arm=algo", "seed=number", "env==world"]
    words = [word for column in columns for word in ("--column", column)]
    found = answer_of(capsys, tmp_path / "all.csv", *mapped(theirs), *words)
    assert memory(found) == known(capsys, theirs)


def test_event_files_get_it_too(theirs, ours, tmp_path, capsys):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    for run in ours:
        with SummaryWriter(str(tmp_path / "events" / THEIR[run.info.arm] / f"world_s{run.info.seed}")) as writer:
            for step, value in rows_of(run):
                writer.add_scalar("ep_rew_mean", value, step)
                writer.add_scalar("loss", 1.0, step)
    words = *mapped(theirs), "--column", "step=null"
    found, expected = memory(answer_of(capsys, tmp_path / "events", *words)), known(capsys, theirs)
    assert found["verdict"] == expected["verdict"]
    assert found["effect"] == pytest.approx(expected["effect"], abs=1e-4)  # event files hold float32
    typed = report(capsys, tmp_path / "events", *words, "--column", "return=ep_rew")
    assert typed.code == 2
    assert "no column or tag is called 'ep_rew'; did you mean 'ep_rew_mean'?" in typed.err


def test_event_files_without_tensorboard_say_what_to_install(tmp_path, capsys, monkeypatch):
    for module in ("tensorboard", "tensorboard.backend.event_processing.event_accumulator"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "events.out.tfevents.1").write_bytes(b"")
    typed = report(capsys, tmp_path, "--column", "return=r", "--column", "arm==a")
    assert (typed.code, typed.err) == (2, "memexp: event files need TensorBoard: pip install 'memexp[tensorboard]'\n")


def test_a_foreign_project_of_wandb_gets_it_too(theirs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("wandb.Api", Server(find_runs(tmp_path / "ours"), with_info=False).api)
    columns = ["path={env}_{arm}.s{seed}", "return=episode/return", "step=null", "twin={S: S_off}"]
    words = [word for column in columns for word in ("--column", column)]
    found = answer_of(capsys, "wandb:they/maze", *mapped(theirs), *words)
    assert memory(found) == known(capsys, theirs)
    typed = report(capsys, "wandb:they/maze", *mapped(theirs), *words, "--column", "arm=trainer.precison")
    assert "no column or tag is called 'trainer.precison'; did you mean 'trainer.precision'?" in typed.err


DAMAGE = {
    "empty": ("", "the file is empty"),
    "only a header": ("steps,ep_rew_mean\n", "no row has a number in both 'ep_rew_mean' and its step"),
    "another table": ("a,b\n1,2\n", "no column or tag is called 'ep_rew_mean'; known: a, b"),
    "no number": ("steps,ep_rew_mean\n1,nan\n2,\n3,x\n", "no row has a number in both 'ep_rew_mean' and its step"),
    "no text": (b"\xff\xfe\x00\x01", "steps"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_file_is_named_and_the_others_count(theirs, capsys, damage):
    content, why = DAMAGE[damage]
    bad = theirs / "lstm" / "world_s5" / "progress.csv"
    bad.parent.mkdir()
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = answer_of(capsys, theirs, *mapped(theirs))
    assert memory(found)["verdict"] == "required"
    note = found["notes"][-1]
    assert note.startswith("lstm/world_s5/progress.csv: ")
    assert why in note or damage == "no text"


def test_rows_without_numbers_comments_and_repeated_steps_do_no_harm(theirs, capsys):
    for file in theirs.rglob("*.csv"):
        head, *rows = file.read_text().splitlines()
        more = ["", "10,nan", "nan,0.1", "10,inf", rows[-1].split(",")[0] + ",-5"]  # the last row of a step counts
        file.write_text("\n".join(["# made by them", head, *more, *rows[::-1]]))
    assert memory(answer_of(capsys, theirs, *mapped(theirs)))["effect"] == known(capsys, theirs)["effect"]


def test_a_run_that_is_shorter_counts_as_unfinished(theirs, capsys):
    file = theirs / "lstm" / "world_s4" / "progress.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:20]))
    found = answer_of(capsys, theirs, *mapped(theirs))["environments"]["world"]
    assert found["arms"]["lstm"]["seeds"] == 4
    assert any("1 completed (world.lstm.s4" in note and "not counted" in note for note in found["notes"])


def test_two_runs_of_one_seed_are_named(theirs, capsys):
    first = theirs / "lstm" / "world_s0" / "progress.csv"
    (theirs / "lstm" / "world_s00").mkdir()
    (theirs / "lstm" / "world_s00" / "progress.csv").write_text(first.read_text())
    notes = answer_of(capsys, theirs, *mapped(theirs))["environments"]["world"]["notes"]
    assert any("lstm seed 0 stands twice" in note for note in notes)


def test_repeated_steps_of_a_run_are_counted_in_a_note(theirs, capsys):
    file = theirs / "lstm" / "world_s0" / "progress.csv"
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head, *rows, *rows]))
    assert any(
        f"lstm, seed 0: {len(rows)} rows repeat a step" in n
        for n in answer_of(capsys, theirs, *mapped(theirs))["notes"]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("algo,seed,steps,r\nlstm,0,1,1\nlstm,,1,1\n", "rows of arm 'lstm' have no 'seed'"),
        ("algo,seed,steps,r\nlstm\xe9,0,1,1\n", "byte 22 is no UTF-8"),
        ("algo,seed,steps,r\nlstm,0,9e18,1\n", "9e+18 agent steps are no number of steps"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path, capsys, content, message):
    (tmp_path / "all.csv").write_bytes(content.encode("latin-1"))
    columns = [part for word in ("arm=algo", "seed=seed", "step=steps", "return=r") for part in ("--column", word)]
    typed = report(capsys, tmp_path / "all.csv", *columns)
    assert (typed.code, message in typed.err) == (2, True), typed.err


def test_without_seeds_the_runs_of_an_arm_are_numbered(theirs, capsys):
    found = answer_of(capsys, theirs, *mapped(theirs), "--column", "path={arm}/{env}_*")
    assert found["environments"]["world"]["arms"]["lstm"]["seeds"] == 5


def test_without_a_random_return_nothing_is_claimed(theirs, capsys):
    found = answer_of(capsys, theirs, *mapped(theirs), "--column", "random_return=null")
    assert memory(found)["verdict"] == "undecided"
    assert "random_return" in found["environments"]["world"]["arms"]["lstm"]["learning"]["reason"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("return=ep_rew_men",), "lstm/world_s0/progress.csv: no column or tag is called 'ep_rew_men'; did you mean"),
        (("step=step",), "no column or tag is called 'step'; did you mean 'steps'?"),
        (("step=null",), "say which column has the agent steps (step: COLUMN); known: steps, ep_rew_mean"),
        (("retrun=x",), "unknown key 'retrun'; did you mean 'return"),
        (("path={arm}-{env}",), "lstm/world_s0/progress.csv: the path does not look like '{arm}-{env}'"),
        (("path={army}/{env}",), "path: unknown name '{army}'; did you mean 'arm'?"),
        (("path={run}/{env}_s{seed}",), "say where the arm stands"),
        (("twin={lstm: mpl}",), "twin: no arm is called 'mpl'; did you mean 'mlp'?"),
        (("random_return=low",), "random_return"),
        (("solved_return=1.5",), "solved_return 1.5 is above ceiling_return 1"),
        (("ceiling_return=-1e9",), "random_return 0 is above ceiling_return -1000000000"),
        (("random_return=-1e200",), "lstm/world_s0/progress.csv: random_return: must be greater than -1"),
        (("solved_return=0",), "random_return 0 equals solved_return 0"),
        (("path={arm}_{arm}",), "path: '{arm}' stands twice"),
        (("twin={lstm: lstm}",), "twin: 'lstm' is the twin of 'lstm' and has one itself"),
    ],
)
def test_a_wrong_mapping_is_named_with_the_nearest_right_one(theirs, capsys, words, message):
    columns = [part for word in words for part in ("--column", word)]
    typed = report(capsys, theirs, *mapped(theirs), *columns)
    assert typed.code == 2
    assert message in typed.err
    assert typed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report"], "name a matrix, a folder of runs, or --from LOGS"),
        (["report", "demo", "--from", "logs"], "not both"),
        (["report", "demo", "--column", "return=x"], "--map and --column describe the logs of --from"),
        (["report", "--from", "logs", "--watch"], "--watch is for runs of memexp"),
        (["report", "--from", "logs"], "say which column has the return"),
        (["report", "--from", "nowhere", "--column", "return=x"], "nowhere does not exist"),
        (["report", "--from", "x", "--map", "nothing.yaml"], "cannot read nothing.yaml"),
    ],
)
def test_wrong_options_are_named(capsys, words, message):
    typed = type_command(capsys, *words)
    assert typed.code == 2
    assert message in typed.err


def test_the_page_says_how_it_was_made(theirs, tmp_path, capsys):
    page = tmp_path / "page.html"
    words = ["report", "--from", str(theirs), *mapped(theirs), "--out", str(page)]
    assert type_command(capsys, *words).code == 0
    assert f"memexp report --from {theirs} --map" in page.read_text()
    assert "whether acting and learning agree is unknown" in page.read_text()
