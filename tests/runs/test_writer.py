"""Files written by another process: in order, whole or not at all, tried again, never waited for."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from memexp.launch.cloud.install import SCRIPTS
from memexp.runs import RESTART, scribe
from memexp.runs.directory import write_atomically
from memexp.runs.writer import LockedError, Writer

WHOLE: dict = {"needs": {"part": 4}, "marker": "unfinished", "keep": []}


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "lock", patience=0.6)
    yield writer
    writer.leave()


def answers(writer):
    found = list(writer.finish(60))
    assert writer.idle
    return found


def test_orders_are_carried_out_one_after_the_other(writer, tmp_path):
    for number in range(100):
        writer.append(tmp_path / "lines", f"{number}\n".encode())
        writer.replace(tmp_path / "latest", str(number).encode())
    writer.sync(tmp_path / "lines")
    assert [answer.number for answer in answers(writer)] == list(range(1, 202))
    assert (tmp_path / "lines").read_text().split() == [str(number) for number in range(100)]
    assert (tmp_path / "latest").read_text() == "99"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "lines", "lock"]


def test_large_files_arrive_whole(writer, tmp_path):
    data = os.urandom(5_000_000)
    writer.replace(tmp_path / "deep" / "large", data)
    answers(writer)
    assert (tmp_path / "deep" / "large").read_bytes() == data


def test_one_process_holds_the_lock_until_it_leaves(writer, tmp_path):
    with pytest.raises(LockedError, match="held by another process"):
        Writer(tmp_path / "lock")
    writer.leave()
    Writer(tmp_path / "lock").leave()


@pytest.mark.parametrize("how", ["deleted", "moved", "deleted and made again"])
def test_nothing_is_written_after_the_directory_is_gone(tmp_path, how):
    folder = tmp_path / "run"
    writer = Writer(folder / "lock", patience=0.6)
    writer.append(folder / "lines", b"1\n")
    assert [answer.error for answer in answers(writer)] == [None]
    shutil.move(folder, tmp_path / "other") if how == "moved" else shutil.rmtree(folder)
    if how == "deleted and made again":
        folder.mkdir()
        (folder / "lock").touch()
    writer.append(folder / "lines", b"2\n")
    writer.replace(folder / "deep" / "latest", b"2")
    assert [(answer.gone, answer.error) for answer in answers(writer)] == [(True, f"{folder} was deleted or moved")] * 2
    writer.leave()
    assert not (folder / "lines").exists()
    assert not (folder / "deep").exists()


def test_a_link_or_a_device_at_the_place_of_a_file_stays(tmp_path):
    (tmp_path / "link").symlink_to("target")
    for data in (b"one", b"two"):
        write_atomically(tmp_path / "link", data)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"two"
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR), "rb", buffering=0) as pipe:
        write_atomically(tmp_path / "pipe", b"three")
        assert pipe.read(9) == b"three"
    assert (tmp_path / "pipe").is_fifo()


def test_a_pipe_at_the_place_of_a_runs_file_does_not_stop_the_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    scribe.sync(tmp_path / "pipe")
    scribe.replace(tmp_path / "pipe", b"data")
    assert (tmp_path / "pipe").read_bytes() == b"data"


def refuse_locks(monkeypatch, code):
    def flock(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(scribe.fcntl, "flock", flock)
    monkeypatch.setattr(scribe, "SETTLE_S", 0.0)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_where_there_are_no_locks_a_lease_takes_their_place(tmp_path, monkeypatch, code):
    refuse_locks(monkeypatch, code)
    path = tmp_path / "lock"
    assert not scribe.is_held(path)
    lock = scribe.take(path)
    assert lock is not None
    assert lock.is_lease
    assert scribe.is_held(path)
    assert scribe.take(path) is None
    lock.check()
    (tmp_path / "lock.lease").write_text("elsewhere 1 x")
    with pytest.raises(scribe.GoneError, match="another process has taken"):
        lock.check()
    lock.release()
    assert not scribe.is_held(path)


@pytest.mark.parametrize(
    ("holder", "age", "held"),
    [
        ("elsewhere 1 x", 0, True),
        ("elsewhere 1 x", 100, False),
        ("here PID x", 0, True),
        ("here 99999999 x", 0, False),
        ("", 0, False),
        ("torn", 0, False),
        ("here 99999999999999999999 x", 0, False),
    ],
)
def test_a_lease_ends_when_it_is_not_renewed_or_its_process_has_ended(tmp_path, monkeypatch, holder, age, held):
    refuse_locks(monkeypatch, errno.ENOLCK)
    monkeypatch.setattr(scribe.socket, "gethostname", lambda: "here")
    path, lease = tmp_path / "lock", tmp_path / "lock.lease"
    path.touch()
    lease.write_text(holder.replace("PID", str(os.getpid())))
    os.utime(lease, (time.time() - age, time.time() - age))
    assert scribe.is_held(path) == held
    lock = scribe.take(path)
    assert (lock is None) == held
    if lock:
        lock.release()


@pytest.mark.parametrize("place", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_at_the_place_of_a_lease_is_nobodys_and_stops_nothing(tmp_path, place):
    path = tmp_path / "lock"
    path.touch()
    place(tmp_path / "lock.lease")
    assert not scribe.is_held(path)
    assert scribe.lease_holders(path) == []
    lock = scribe.take(path)
    assert lock is not None
    lock.release()


def test_a_lease_is_renewed(tmp_path, monkeypatch):
    refuse_locks(monkeypatch, errno.ENOLCK)
    monkeypatch.setattr(scribe, "BEAT_S", 0.01)
    lock, lease = scribe.take(tmp_path / "lock"), tmp_path / "lock.lease"
    os.utime(lease, (1, 1))
    while lease.stat().st_mtime == 1:
        time.sleep(0.01)
    lock.release()


def test_to_see_a_lock_needs_no_right_to_write_even_where_an_exclusive_one_does(writer, tmp_path, monkeypatch):
    real = fcntl.flock

    def flock(descriptor, operation):  # as on NFS
        if operation & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, operation)

    monkeypatch.setattr(scribe.fcntl, "flock", flock)
    assert scribe.is_held(tmp_path / "lock")
    assert scribe.take(tmp_path / "lock") is None
    writer.leave()
    assert not scribe.is_held(tmp_path / "lock")
    scribe.take(tmp_path / "lock").release()


def test_a_lock_that_cannot_be_had_is_not_said_to_be_held_by_another_process(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match="runs"):
        Writer(tmp_path / "runs" / "mine" / "lock")


def test_what_fails_is_tried_again_and_then_given_up_and_lines_are_kept_for_later(writer, tmp_path):
    (tmp_path / "lines").mkdir()  # in the way
    writer.append(tmp_path / "lines", b"first\n")
    told = answers(writer)
    assert [answer.retried for answer in told] == [True, False]
    assert all("Is a directory" in (answer.error or "") for answer in told)
    (tmp_path / "lines").rmdir()
    writer.append(tmp_path / "lines", b"second\n")
    assert [answer.error for answer in answers(writer)] == [None]
    assert (tmp_path / "lines").read_text() == "first\nsecond\n"


def test_a_group_whose_part_is_missing_is_never_committed(writer, tmp_path):
    (tmp_path / "group" / "part").mkdir(parents=True)
    writer.order("replace", tmp_path / "group" / "part", b"data", group="one")
    writer.order("commit", tmp_path / "group" / "whole", b"", "one", **WHOLE)
    told = answers(writer)
    assert [(answer.number, answer.retried) for answer in told] == [(1, True), (1, False), (2, False)]
    assert all(answer.group == "one" for answer in told)
    assert not (tmp_path / "group" / "whole").exists()


def test_a_commit_waits_for_the_parts_of_others(tmp_path):
    """And what is ordered after it does not."""
    writer = Writer()
    group = tmp_path / "groups" / f"{20:015d}"
    commit = writer.order("commit", group / "whole", b"", "one", **WHOLE)
    writer.append(tmp_path / "lines", b"line")
    assert writer.poll(30)[0].number == commit + 1
    for folder in (group, tmp_path / "groups" / f"{10:015d}"):
        folder.mkdir(parents=True)
        (folder / "unfinished").touch()
    (group / "part").write_bytes(b"data")
    assert [(answer.number, answer.error) for answer in answers(writer)] == [(commit, None)]
    assert sorted(path.name for path in group.iterdir()) == ["part", "whole"]
    assert [path.name for path in group.parent.iterdir()] == [group.name]
    writer.leave()


@pytest.mark.parametrize("beside", ["notes", "123", ".hidden", "000000000000010.old", "x000000000000010"])
def test_nothing_but_checkpoints_is_ever_removed(beside, tmp_path):
    stranger = tmp_path / "checkpoints" / beside / "work"
    stranger.mkdir(parents=True)
    for folder in ("000000000000010", "000000000000020", "000000000000030"):
        (tmp_path / "checkpoints" / folder).mkdir()
    scribe.commit(tmp_path / "checkpoints" / "000000000000030" / "last", b"", {}, "unfinished", ["000000000000020"])
    scribe.remove(stranger.parent)
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {beside, "000000000000020", "000000000000030"}
    assert stranger.exists()


def test_it_ignores_the_signals_of_its_trainer_and_dies_with_it(writer):
    process = psutil.Process(writer._process.pid)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    assert answers(writer) == []
    assert process.is_running()
    program = (
        "import os, signal; from pathlib import Path; from memexp.runs.writer import Writer; "
        "writer = Writer(); print(writer._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([process.exe(), "-c", program], capture_output=True, text=True, check=False)
    psutil.wait_procs([psutil.Process(pid) for pid in [int(done.stdout)] if psutil.pid_exists(pid)], timeout=30)
    assert not psutil.pid_exists(int(done.stdout))


@pytest.mark.parametrize("torn", [b'{"id": 2, "do": "repl', b"", b"hal"])
def test_an_order_that_a_dying_trainer_tore_is_not_carried_out(torn, tmp_path):
    """A trainer that is killed closes its end before the system kills the writer."""

    def order(number, data):
        header = {"id": number, "do": "replace", "path": str(tmp_path / "file"), "group": None, "options": {}}
        return json.dumps({**header, "size": len(data)}).encode() + b"\n"

    said = json.dumps({"parent": os.getpid(), "lock": None, "patience": 1}).encode() + b"\n"
    said += order(1, b"whole") + b"whole" + (torn if torn.startswith(b"{") else order(2, b"half of it") + torn)
    done = subprocess.run([sys.executable, "-I", "-S", scribe.__file__], input=said, capture_output=True, check=True)
    assert [json.loads(line).get("done") for line in done.stdout.splitlines()[1:]] == [1]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_writer_that_was_killed_is_an_error_and_not_silence(tmp_path):
    writer = Writer()
    writer._process.kill()
    writer.append(tmp_path / "lines", b"lost\n")
    with pytest.raises(RuntimeError, match="the process that writes files ended"):
        list(writer.finish(60))


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_what_is_appended_is_what_is_there(tmp_path_factory, parts):
    file: Path = tmp_path_factory.mktemp("appended") / "file"
    for part in parts:
        scribe.append(file, part)
    assert (file.read_bytes() if parts else b"") == b"".join(parts)


class Flaky:
    """A file that takes at most 3 bytes at once, and fails after `room` bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "no space")
        count = self.file.write(data[: min(3, self.room)])
        self.room -= count
        return count


@pytest.fixture
def room(monkeypatch):
    """Sets how many bytes can still be written to each file that the scribe opens."""

    def limit(size):
        monkeypatch.setattr(scribe, "open", lambda *how, **more: Flaky(open(*how, **more), size), raising=False)  # noqa: SIM115

    return limit


def test_an_append_that_fails_half_way_leaves_nothing_of_it(tmp_path, room):
    (tmp_path / "lines").write_bytes(b"one\n")
    room(5)
    with pytest.raises(OSError, match="no space"):
        scribe.append(tmp_path / "lines", b"second\n")
    assert (tmp_path / "lines").read_bytes() == b"one\n"
    room(7)
    scribe.append(tmp_path / "lines", b"second\n")  # in pieces of 3 bytes
    assert (tmp_path / "lines").read_bytes() == b"one\nsecond\n"


def test_a_replacement_that_fails_leaves_the_old_file_and_no_other(tmp_path, room):
    scribe.replace(tmp_path / "file", b"old")
    room(5)
    with pytest.raises(OSError, match="no space"):
        scribe.replace(tmp_path / "file", b"the new one")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(scribe.os, "fsync", lambda number: done.append("sync"))
    replace = os.replace
    monkeypatch.setattr(scribe.os, "replace", lambda *paths: done.append("rename") or replace(*paths))
    scribe.commit(tmp_path / "0" / "last", b"", {}, "unfinished", [])
    assert done == ["sync", "rename", "sync", "sync"]  # the folder did not exist before


@pytest.mark.parametrize(("code", "ignored"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_only_a_file_system_that_cannot_sync_is_forgiven(tmp_path, monkeypatch, code, ignored):
    def fail(number):
        raise OSError(code, "no")

    monkeypatch.setattr(scribe.os, "fsync", fail)
    scribe.sync(tmp_path / "none")
    if ignored:
        scribe.sync(tmp_path)
    else:
        with pytest.raises(OSError, match="no"):
            scribe.sync(tmp_path)


@pytest.mark.parametrize(("size", "missing"), [(None, "part"), (3, "part"), (5, "part"), (4, None)])
def test_a_part_counts_only_at_its_full_size(tmp_path, size, missing):
    if size is not None:
        (tmp_path / "part").write_bytes(b"x" * size)
    assert scribe.missing_part(tmp_path / "last", {"part": 4}) == missing


def failing(monkeypatch, code, patience):
    """What a scribe reports about an order that always fails with an error, and how long it waited between attempts."""
    waits, told, now = [], [], [0.0]

    def sleep(seconds):
        waits.append(seconds)
        now[0] += seconds

    def fail(path, data):
        raise OSError(code, "no")

    monkeypatch.setattr(scribe.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(scribe.time, "sleep", sleep)
    monkeypatch.setitem(scribe.OPERATIONS, "append", fail)
    scribe.Scribe(patience, told.append).carry_out(
        {"id": 1, "do": "append", "path": "/lines", "group": None, "options": {}}, b"line\n"
    )
    return told, waits


def test_the_wait_between_attempts_doubles_up_to_eight_seconds_until_patience_ends(monkeypatch):
    told, waits = failing(monkeypatch, errno.EIO, patience=25)
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 8]  # the next would end after 31.75 seconds
    assert [next(iter(one)) for one in told] == ["retry"] * 7 + ["failed"]
    assert not told[-1]["full"]


def test_a_full_disk_is_not_waited_for(monkeypatch):
    told, waits = failing(monkeypatch, errno.ENOSPC, patience=25)
    assert waits == []
    assert (told[0]["failed"], told[0]["full"]) == (1, True)
    assert "no space is left for /lines: it needs 5 bytes" in told[0]["error"]


def test_a_disk_without_inodes_is_not_said_to_have_bytes_left(monkeypatch):
    disk = SimpleNamespace(f_files=5, f_favail=0, f_bavail=1000, f_frsize=4096)
    monkeypatch.setattr(scribe.os, "statvfs", lambda path: disk)
    told, _ = failing(monkeypatch, errno.ENOSPC, patience=25)
    assert told[0]["error"] == "no space is left for /lines: the disk can hold no more files (no inode is free)"


def test_the_oldest_order_without_an_answer_says_how_long_it_waits(tmp_path):
    writer = Writer()
    assert writer.waiting_s == 0
    writer.order("commit", tmp_path / "0" / "last", b"", "one", **WHOLE)
    assert list(writer.finish(0.2)) == []
    assert 0.2 <= writer.waiting_s < 60
    assert not writer.idle
    writer.leave()


def test_the_job_is_restarted_on_the_exit_code_that_asks_for_it():
    task = yaml.safe_load((SCRIPTS / "task.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [RESTART] == [75]
