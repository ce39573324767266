"""Clocks that jump, and machines that end before an update does: real processes, real signals."""

import itertools
import shutil
import signal
import subprocess
import time

import pytest
from helpers.training import start_process, stop_after, tiny, wait_for, without_clock

from memexp.ppo.train import train
from memexp.runs import RESTART, Run

ENDLESS = {"trainer__total_timesteps": 10**8, "evaluation__random_episodes": 0}

JUMPING_CLOCK = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The wall clock of a process, moved by the seconds that the link JUMP points to; the monotonic clock is left alone. */
int clock_gettime(clockid_t id, struct timespec *t) {
    char seconds[32] = {0};
    int result = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME && readlink(getenv("JUMP"), seconds, 31) > 0) t->tv_sec += atoi(seconds);
    return result;
}
int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec, t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture
def jumping_clock(tmp_path):
    """Skips where there is no C compiler."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    library = tmp_path / "clock.so"
    command = ["cc", "-shared", "-fPIC", "-o", library, "-xc", "-"]
    subprocess.run(command, input=JUMPING_CLOCK.encode(), check=True)
    return library


@pytest.mark.slow
def test_rates_and_times_stay_right_when_the_clock_jumps_a_day_ahead_and_two_back(jumping_clock, tmp_path):
    jump, run = tmp_path / "jump", Run.named("jumps")
    clock = {"LD_PRELOAD": str(jumping_clock), "JUMP": str(jump)}
    say = "import atexit, time; atexit.register(lambda: print('the clock says', int(time.time())))"
    process = start_process(tiny(run="jumps", trainer__checkpoint_minutes=9, **ENDLESS), before=say, **clock)
    for jump_s in (86_400, -86_400):
        before = len(run.metrics())
        wait_for(lambda n=before: len(run.metrics()) >= n + 5, process)
        jump.with_suffix(".new").symlink_to(str(jump_s))
        jump.with_suffix(".new").rename(jump)
    before = len(run.metrics())
    wait_for(lambda: len(run.metrics()) >= before + 5, process)
    process.terminate()
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == RESTART, output
    assert int(output.split()[-1]) - time.time() == pytest.approx(-86_400, abs=600)
    lines = run.metrics()
    walls = [line["wall_s"] for line in lines]
    assert walls == sorted(walls)
    assert walls[-1] < 600
    for a, b in itertools.pairwise(lines):
        assert b["sps"] == pytest.approx((b["agent_steps"] - a["agent_steps"]) / (b["wall_s"] - a["wall_s"]))
    assert all(0 <= line["checkpoint/age_minutes"] < 10 for line in lines)
    assert [path.name for path in run.checkpoints.iterdir()] == [
        f"{run.exit.agent_steps:015d}"
    ]  # none before it was due


@pytest.mark.slow
def test_the_time_of_a_resumed_run_goes_on_where_its_checkpoint_was(monkeypatch):
    config = tiny(run="later")
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        train(config)
    first = Run.named("later").metrics()
    train(config)
    walls = [line["wall_s"] for line in Run.named("later").metrics()]
    assert walls[:3] == [line["wall_s"] for line in first]
    assert walls == sorted(walls)


LONG_UPDATE = """
import time
from memexp.ppo.trainer import Trainer
from memexp.runs import Run
real = Trainer.train_step
def take_long_in_the_fourth_update(self):
    last = Run.named("long").checkpoints / f"{self.agent_steps:015d}" / "manifest.json"
    while self.updates and not last.exists():  # no checkpoint is begun while another is being written
        time.sleep(0.01)
    if self.updates == 3:
        print("the fourth update", flush=True)
        time.sleep(1000)
    return real(self)
Trainer.train_step = take_long_in_the_fourth_update"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_gives_up_an_update_that_would_outlast_the_warning_and_loses_no_other(ranks):
    """Updates take longer than the warning (none is too short for 0 s): each is followed by a checkpoint."""
    config = tiny(run="long", trainer__preemption_seconds=0, evaluation__random_episodes=0)
    process, run = start_process(config, ranks, LONG_UPDATE), Run.named("long")
    wait_for(lambda: any(run.checkpoints.glob(f"{3 * 128:015d}/manifest.json")), process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == (RESTART if ranks == 1 else 1), output  # torchrun makes 1 of every code but 0
    assert run.exit.status == "preempted"
    assert run.exit.reason.startswith("told to stop by a signal, within an update")
    assert train(config).status == "completed"
    train(tiny(run="short", evaluation__random_episodes=0))
    a, b = ([without_clock(line) for line in Run.named(name).metrics()] for name in ("short", "long"))
    assert [line["agent_steps"] for line in b] == [line["agent_steps"] for line in a]
    if ranks == 1:
        assert a == b


@pytest.mark.slow
def test_sigterm_lets_a_short_update_end_and_saves_it():
    config = tiny(run="in-time", **ENDLESS)
    process, run = start_process(config), Run.named("in-time")
    wait_for(lambda: len(run.metrics()) >= 3, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == RESTART
    assert run.exit.reason == "told to stop by a signal"
    assert (
        run.exit.agent_steps == run.metrics()[-1]["agent_steps"] == max(int(p.name) for p in run.checkpoints.iterdir())
    )


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_gives_up_the_measuring_of_levels_and_the_run_begins_anew(ranks):
    sizes = {"run": "levels", "trainer__preemption_seconds": 3}
    process, run = start_process(tiny(**sizes, evaluation__random_episodes=10**7), ranks), Run.named("levels")
    wait_for(lambda: (run.path / "provenance.json").exists(), process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == (RESTART if ranks == 1 else 1), output
    assert run.exit.status == "preempted"
    assert run.exit.reason.startswith("told to stop by a signal, before the first update")
    process = start_process(tiny(**sizes, **ENDLESS))
    wait_for(lambda: len(run.metrics()) >= 1, process)
    assert (run.exists(), run.exit) == (True, None)
    process.kill()
    process.communicate()
