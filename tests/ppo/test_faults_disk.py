"""Disks and buckets that stall, fail, fill up or lose bits: real file systems, real processes."""

import hashlib
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from helpers import flaky_fs
from helpers.training import NEVER_URGENT, output_of, start_process, tiny, wait_for

from memexp.ppo.checkpoint import Checkpoint, CheckpointError, load_latest, name_of
from memexp.ppo.distributed import Ranks
from memexp.ppo.saver import Saver
from memexp.ppo.session import Session
from memexp.ppo.shutdown import write_exit
from memexp.ppo.train import train
from memexp.runs import RESTART, Exit, Run
from memexp.runs.writer import Writer

ENDLESS = {"trainer__total_timesteps": 10**8, "evaluation__random_episodes": 0}
SOON = "from memexp.ppo import saver; saver.STUCK_S = 0.5"


def unmount(place):
    subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)


class Bucket:
    """A home on a file system that stalls and fails when told to; `below` shows what it holds, whatever it does."""

    def __init__(self, folder):
        self.below, self.mount, self._control = (folder / name for name in ("below", "mount", "control"))
        self.below.mkdir()
        self.mount.mkdir()
        self.behave("ok")

    def behave(self, how):
        self._control.with_suffix(".new").write_text(how)
        self._control.with_suffix(".new").replace(self._control)

    def run(self, name):
        return Run(self.below / "runs" / name)


@pytest.fixture
def bucket(tmp_path):
    """Skips where there is no FUSE; fails there if MEMEXP_REQUIRE_FUSE is set, as CI sets it."""
    if not os.access("/dev/fuse", os.W_OK) or not flaky_fs.available():
        (pytest.fail if os.environ.get("MEMEXP_REQUIRE_FUSE") else pytest.skip)("needs /dev/fuse, libfuse3 and mfusepy")
    bucket = Bucket(tmp_path)
    arguments = [bucket.below, bucket.mount, bucket._control]
    process = subprocess.Popen([sys.executable, flaky_fs.__file__, *arguments], stderr=subprocess.PIPE)
    wait_for(lambda: os.path.ismount(bucket.mount), process, process.stderr)
    yield bucket
    bucket.behave("ok")
    unmount(bucket.mount)
    process.kill()
    process.wait()


def started(bucket, config, before=""):
    """A run in the bucket that has written a checkpoint."""
    process = start_process(config, before=before, MEMEXP_HOME=str(bucket.mount))
    run = bucket.run(config.run)
    wait_for(lambda: any(run.checkpoints.glob("*/manifest.json")), process)
    return process, run


def read_until(process, words):
    """What the process says, up to a line with `words`."""
    lines = []
    for line in process.stdout:
        lines.append(line.decode())
        if words in lines[-1]:
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.slow
def test_training_goes_on_while_a_bucket_stalls_and_nothing_is_lost_when_it_comes_back(bucket):
    process, run = started(bucket, tiny(run="stalls", trainer__checkpoint_minutes=0, **NEVER_URGENT, **ENDLESS), SOON)
    bucket.behave("stall")
    read_until(process, "has not answered for")
    before = len(run.metrics())
    bucket.behave("ok")
    wait_for(lambda: len(run.metrics()) > before + 50, process)
    assert [line["agent_steps"] for line in run.metrics()][: before + 50] == [128 * (i + 1) for i in range(before + 50)]
    assert max(line["checkpoint/age_minutes"] for line in run.metrics()) > 0.5 / 60
    process.terminate()
    output_of(process)
    assert process.returncode == RESTART
    assert run.exit.agent_steps == max(int(path.name) for path in run.checkpoints.iterdir())


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_ends_though_its_bucket_never_answers(bucket):
    config = tiny(run="stuck", trainer__checkpoint_minutes=0, trainer__preemption_seconds=4, **ENDLESS)
    process, run = started(bucket, config)
    bucket.behave("stall")
    process.terminate()
    output_of(process)
    assert process.returncode == RESTART
    assert run.exit is None


@pytest.mark.slow
def test_errors_of_a_bucket_are_said_and_counted_and_tried_again(bucket):
    process, run = started(bucket, tiny(run="fails", trainer__checkpoint_minutes=0, **NEVER_URGENT, **ENDLESS))
    bucket.behave("fail")
    assert "Input/output error" in read_until(process, "it is tried again, training goes on")[-1]
    before = len(run.metrics())
    bucket.behave("ok")
    wait_for(lambda: len(run.metrics()) > before + 50, process)
    lines = run.metrics()
    assert [line["agent_steps"] for line in lines] == [128 * (i + 1) for i in range(len(lines))]
    assert max(line["checkpoint/failed"] for line in lines) >= 1
    process.send_signal(signal.SIGTERM)
    output_of(process)
    assert process.returncode == RESTART


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB. Skips where nothing may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    unmount(place)


def fill(place, leave, process):
    """Leave so many bytes free, then return the file that takes the rest; the trainer writes nothing meanwhile."""
    writing = [process, *psutil.Process(process.pid).children(recursive=True)]
    for one in writing:
        one.send_signal(signal.SIGSTOP)
    filler = place / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(place).free - leave))
    for one in writing:
        one.send_signal(signal.SIGCONT)
    return filler


@pytest.mark.slow
@pytest.mark.parametrize(("leave", "minutes", "file"), [(20_000, 0, "checkpoints"), (0, 9, "metrics.jsonl")])
def test_a_full_disk_ends_the_run_with_a_clear_error_and_the_last_checkpoint_whole(
    leave, minutes, file, small_disk, monkeypatch
):
    monkeypatch.setenv("MEMEXP_HOME", str(small_disk))
    config = tiny(run="full", trainer__checkpoint_minutes=minutes, **NEVER_URGENT, **ENDLESS)
    run = Run.named("full")
    process = start_process(config)
    wait_for(lambda: len(run.metrics()) >= 3, process)
    filler = fill(small_disk, leave, process)
    output = output_of(process)
    assert process.returncode == 1, output
    said = re.findall(r"no space is left for (\S+): it needs [\d,]+ bytes, [\d,]+ are free", output)
    assert any(file in path for path in said), output
    lines = [line["agent_steps"] for line in run.metrics()]
    assert lines == [128 * (i + 1) for i in range(len(lines))]
    assert (run.path / "metrics.jsonl").read_text().endswith("}\n")
    if file == "checkpoints":
        point, problems = load_latest(run.checkpoints, Ranks(0, 1, torch.device("cpu")))
        assert point is not None
        assert lines[-1] - 20 * 128 < point.agent_steps <= lines[-1]
        assert problems == []
    filler.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def unfinish(folder):
    (folder / "manifest.json").unlink()
    (folder / "unfinished").touch()


def barely_begin(folder):
    empty(folder)
    (folder / ".unfinished.17.tmp").touch()


def pickled(folder):
    data = pickle.dumps(os.system)
    (folder / "shared.pt").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["shared.pt"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


DAMAGE = {
    "weights cut": (lambda c: cut(c / "weights.safetensors"), "weights.safetensors is damaged"),
    "a bit flipped": (lambda c: flip(c / "rank-00000.pt"), "rank-00000.pt is damaged"),
    "a file gone": (lambda c: (c / "shared.pt").unlink(), "No such file"),
    "the manifest gone": (lambda c: (c / "manifest.json").unlink(), "No such file"),
    "the manifest torn": (lambda c: cut(c / "manifest.json"), "cannot be used"),
    "the manifest null": (lambda c: (c / "manifest.json").write_text("null"), "manifest.json cannot be read"),
    "the manifest of other types": (lambda c: (c / "manifest.json").write_text('{"files": 3}'), "cannot be used"),
    "a pickle of code": (pickled, "cannot be used"),
    "a pipe": (lambda c: ((c / "shared.pt").unlink(), os.mkfifo(c / "shared.pt")), "shared.pt cannot be read"),
    "an empty directory": (empty, "was not finished"),
    "a crash while it was written": (unfinish, "was not finished"),
}


@pytest.fixture
def two_checkpoints():
    config = tiny(run="damaged", trainer__checkpoint_minutes=0)
    train(config)
    (Run.named("damaged").path / "exit.json").unlink()
    return config, sorted(Run.named("damaged").checkpoints.iterdir())


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_checkpoint_that_is_not_whole_is_named_and_the_one_before_is_used(damage, said, two_checkpoints, capsys):
    config, (older, newest) = two_checkpoints
    damage(newest)
    assert train(config).status == "completed"
    output = capsys.readouterr().out
    assert f"checkpoint {newest}" in output
    assert said in output
    assert f"going on from {int(older.name)} agent steps" in output
    assert [line["agent_steps"] for line in Run.named("damaged").metrics()] == [128 * (i + 1) for i in range(6)]


def test_a_run_resumes_beside_damaged_files_and_keeps_them(two_checkpoints, capsys):
    config, _ = two_checkpoints
    run = Run.named("damaged")
    lines = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    damaged = {"exit.json": b'{"sta', "config.yaml": b"\0" * 9, "run.json": b"", "provenance.json": b"[1]"}
    damaged["metrics.jsonl"] = b"".join([lines[0], b"\0\0\0\n", *lines[3:]])
    strays = [run.path / "episodes.parquet" / "notes.parquet", run.checkpoints / "9notes"]
    for name, data in damaged.items():
        (run.path / name).write_bytes(data)
    for stray in strays:
        stray.write_bytes(b"x")
    assert train(config).status == "completed"
    said = capsys.readouterr().out
    for name, data in damaged.items():
        assert (run.path / f"{name}.damaged").read_bytes() == data
        assert name == "metrics.jsonl" or f"{name} cannot be read: " in said
    assert "metrics.jsonl lacks 2 of the 6 lines before this start" in said
    assert all(path.read_bytes() == b"x" for path in strays)
    assert (run.info.arm, run.config["run"], run.exit.status) == ("S", "damaged", "completed")
    assert run.provenance["commit"]
    assert len(run.metrics()) == 4
    assert run.episodes().height > 0


def test_a_run_resumes_though_its_files_are_pipes(two_checkpoints):
    config, _ = two_checkpoints
    run = Run.named("damaged")
    lost = ["exit.json", "config.yaml", "run.json", "provenance.json", "metrics.jsonl"]
    last_part = max(run.path.glob("episodes.parquet/*"))
    for path in [*(run.path / name for name in lost), last_part, *run.checkpoints.glob("*768/*")]:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    assert train(config).status == "completed"
    assert (run.info.arm, run.exit.status, run.episodes().height > 0) == ("S", "completed", True)


def test_a_run_whose_directory_is_deleted_stops_with_one_line_and_writes_nothing_more(monkeypatch, capsys):
    real, run = Session.update_and_measure, Run.named("deleted")

    def delete_the_directory(self: Session):
        while self.trainer.updates == 2 and run.path.exists():
            shutil.rmtree(run.path, ignore_errors=True)  # the scribe may be writing into it
        return real(self)

    monkeypatch.setattr(Session, "update_and_measure", delete_the_directory)
    outcome = train(tiny(run="deleted", trainer__total_timesteps=128 * 10_000))
    assert outcome.status == "failed"
    assert f"{run.path} was deleted or moved" in outcome.reason
    assert "Traceback" not in capsys.readouterr().err
    assert not run.path.exists()


def test_exit_json_is_not_blamed_for_a_checkpoint_that_was_given_up(tmp_path, capsys):
    (tmp_path / "no-folder").touch()
    writer = Writer(patience=0.1)
    group = writer.new_group()
    for name in "ab":
        writer.order("replace", tmp_path / "no-folder" / name, group=group)
    run = Run(tmp_path, writer)
    write_exit(run, writer, Exit(status="failed"))
    writer.leave()
    assert capsys.readouterr().err == ""
    assert run.exit.status == "failed"


def test_a_run_whose_writer_was_killed_has_failed_and_says_so(monkeypatch):
    real = Session.update_and_measure

    def lose_the_writer(self: Session):
        if self.trainer.updates == 2:
            self.writer._process.kill()
            self.writer._process.wait()
        return real(self)

    monkeypatch.setattr(Session, "update_and_measure", lose_the_writer)
    with pytest.raises(RuntimeError, match="the process that writes files ended"):
        train(tiny(run="silenced"))
    outcome = Run.named("silenced").exit
    assert outcome.status == "failed"
    assert "the process that writes files ended (-9)" in outcome.reason


def test_where_no_checkpoint_can_be_read_the_run_fails_and_nothing_is_deleted(two_checkpoints):
    config, (older, newest) = two_checkpoints
    (older / "manifest.json").unlink()
    flip(newest / "shared.pt")
    before = [path for folder in (Run.named("damaged").path, older, newest) for path in sorted(folder.iterdir())]
    metrics = Run.named("damaged").metrics()
    with pytest.raises(CheckpointError, match=r"shared\.pt is damaged.*manifest\.json"):
        train(config)
    assert all(path.exists() for path in before)
    assert Run.named("damaged").metrics() == metrics


@pytest.mark.parametrize("leave", [unfinish, barely_begin])
def test_a_run_whose_first_checkpoint_was_not_finished_begins_anew(leave, two_checkpoints, capsys):
    config, folders = two_checkpoints
    for folder in folders:
        leave(folder)
    assert train(config).status == "completed"
    assert "going on from 0 agent steps" in capsys.readouterr().out
    assert sum(1 for _ in itertools.chain(*(Path(f).glob("unfinished") for f in folders))) == 0


def test_a_checkpoint_that_was_given_up_can_be_written_once_the_disk_is_well_again(tmp_path):
    """The run's last state has no later checkpoint to stand in for it."""
    ranks, writer, said = Ranks(0, 1, torch.device("cpu")), Writer(patience=0.1), []
    saver, point = Saver(tmp_path, ranks, writer, said.append), Checkpoint(10, {"w": torch.zeros(1)}, {}, {})
    (tmp_path / name_of(10) / "shared.pt").mkdir(parents=True)  # in the way
    saver.begin(point)
    assert saver.wait(60)
    assert (saver.busy, saver.saved) == (False, None)
    (tmp_path / name_of(10) / "shared.pt").rmdir()
    saver.begin(point)
    assert saver.wait(60)
    assert (saver.busy, saver.saved) == (False, 10)
    writer.leave()
    assert load_latest(tmp_path, ranks)[1] == []
