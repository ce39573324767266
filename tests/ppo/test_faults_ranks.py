"""Several ranks, of which one hangs, fails, is killed, or is not there when the run is resumed: real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.training import output_of, ranks_of, start_process, stop_after, tiny, tiny_cvc, wait_for, without_clock

from memexp.config import UsageError
from memexp.ppo.checkpoint import load_weights
from memexp.ppo.distributed import Ranks
from memexp.ppo.train import train
from memexp.ppo.trainer import Trainer
from memexp.runs import RESTART, Run

ENDLESS = {"trainer__total_timesteps": 10**8, "evaluation__random_episodes": 0}


def started(config, ranks=2, **options):
    """A run that has made three updates."""
    process, run = start_process(config, ranks, **options), Run.named(config.run)
    wait_for(lambda: len(run.metrics()) >= 3, process)
    return process, run


@pytest.mark.slow
@pytest.mark.parametrize("hung", [0, 1])
def test_a_rank_that_hangs_is_named_and_the_job_is_to_be_restarted(hung):
    # Three seconds are short for the watchdog only: processes may take longer to come together on a busy machine.
    before = "from memexp.ppo import train; join = train.join; train.join = lambda device, _: join(device, 1200.0)"
    process, run = started(tiny(run="hung", trainer__rank_timeout_seconds=3, **ENDLESS), before=before)
    os.kill(ranks_of(process)[hung], signal.SIGSTOP)
    other = ranks_of(process)[1 - hung]
    wait_for(lambda: run.exit is not None, process)
    assert run.exit.status == "preempted"
    assert run.exit.reason.startswith(f"rank {hung} kept the others waiting")
    assert f"exitcode  : {RESTART} (pid: {other})" in output_of(process)


@pytest.mark.slow
def test_an_exception_in_one_rank_ends_the_other_and_is_what_both_say():
    before = """
from memexp.ppo.trainer import Trainer
real = Trainer.train_step
def fail_in_the_fourth_update(self):
    if self.updates == 3 and os.environ["RANK"] == "1":
        raise ValueError("a bad cell")
    return real(self)
Trainer.train_step = fail_in_the_fourth_update"""
    process, run = started(tiny(run="one-fails", **ENDLESS), before=before)
    output = output_of(process)
    assert process.returncode == 1
    assert (run.exit.status, run.exit.reason) == ("failed", "rank 1: update 4: ValueError: a bad cell")
    assert "rank: 0" in output


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_other():
    process, run = started(tiny(run="one-killed", **ENDLESS))
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    output_of(process)
    assert process.returncode == 1
    assert run.exit.status == "failed"
    assert run.exit.reason.startswith("rank 1 ended without a word")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_all_ranks_in_the_same_update_and_is_never_saved():
    before = """
from memexp.ppo import trainer
real, calls = trainer.gae, iter(range(10))
def break_in_the_fourth_update(*arguments):
    bad = next(calls) == 3 and os.environ["RANK"] == "1"
    return tuple(x * float("nan") if bad else x for x in real(*arguments))
trainer.gae = break_in_the_fourth_update"""
    process, run = started(tiny(run="nan", trainer__checkpoint_minutes=0, **ENDLESS), before=before)
    output = output_of(process)
    assert process.returncode == 1, output
    assert run.exit.status == "failed"
    assert run.exit.reason.startswith("update 4: FloatingPointError")
    assert max(int(path.parent.name) for path in run.checkpoints.glob("*/manifest.json")) <= 3 * 128
    assert all(bool(torch.isfinite(weight).all()) for weight in load_weights(run.checkpoints)[1].values())


@pytest.mark.slow
def test_ranks_whose_torchrun_was_killed_do_not_go_on_alone():
    process, _ = started(tiny(run="orphans", **ENDLESS))
    ranks = ranks_of(process)
    process.kill()
    assert output_of(process).count("torchrun is gone") == len(ranks)  # both ended: the pipe is closed


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks_as_the_run_that_one_rank_makes(monkeypatch):
    """One rank for two updates, then two ranks for two updates, then one; many agents a world, and a curriculum."""
    pool = {"curriculum__kind": "learning_progress", "curriculum__num_active_tasks": 3}
    whole, moved = (tiny_cvc(run=name, **pool) for name in ("whole", "moved"))
    train(whole)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        assert train(moved).status == "preempted"
    before = """
from memexp.ppo.session import Session
real = Session.agree
def stop_after_four(self, due):
    agreed = real(self, due)
    return agreed._replace(stop=1.0) if self.trainer.updates == 4 else agreed
Session.agree = stop_after_four"""
    output = output_of(start_process(moved, 2, before))
    assert Run.named("moved").exit.status == "preempted", output
    assert train(moved).status == "completed"
    for a, b in zip(Run.named("whole").metrics(), Run.named("moved").metrics(), strict=True):
        assert a.keys() == b.keys()
        assert without_clock(b) == pytest.approx(without_clock(a), rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_a_run_of_two_ranks_that_is_killed_twice_is_bit_for_bit_the_run_that_was_left_alone():
    campaign = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    words = ["--kills", "2", "--updates", "30", "--checkpoint-seconds", "0"]
    done = subprocess.run([sys.executable, campaign, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "metrics 0, weights 0" in done.stdout


def test_a_number_of_ranks_that_does_not_divide_the_worlds_is_refused_with_those_that_do():
    with pytest.raises(UsageError, match=r"numbers of ranks that it does: 1, 2, 4, 8$"):
        Trainer(tiny(), Ranks(0, 3, torch.device("cpu")))
