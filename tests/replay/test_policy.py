"""The policy of a run: the one that its evaluation plays, with what it thinks."""

import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers.training import tiny, tiny_assembly

from memexp.config import UsageError
from memexp.ppo.checkpoint import CheckpointError, load_weights
from memexp.ppo.distributed import Ranks
from memexp.ppo.evaluate import evaluate
from memexp.ppo.train import train
from memexp.ppo.trainer import Trainer
from memexp.replay.record import record
from memexp.replay.target import Options, find_subject
from memexp.runs import Run

CPU = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config, directory) of a run that has just been trained, called 'short'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMEXP_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("WANDB_MODE", "disabled")
        config = tiny_assembly(run="short", evaluation__episodes=1)
        train(config)
        return config, Run.named("short").path


@pytest.fixture
def run(trained, home):
    """The config of that run, which now is in this test's home."""
    config, folder = trained
    shutil.copytree(folder, home / "runs" / "short")
    return config


def test_probabilities_of_all_actions_sum_to_one_and_the_likeliest_stand_first(run):
    subject, _ = find_subject(["short"], Options())
    recording = record(subject.env, subject.actor, 40)
    for step in range(41):
        frame = recording.frame(step)
        chances = frame["chances"] / 1000
        assert (chances.sum(-1) <= 1).all()
        assert (np.diff(chances) <= 0).all()
        assert np.isfinite(frame["value"]).all()
    actions = len(recording.facts["actions"])
    assert chances.shape[-1] == min(5, actions)
    assert chances.sum() > 5 / actions - 0.01


def test_with_few_actions_their_probabilities_sum_to_one():
    train(tiny("tmaze", run="maze"))
    subject, _ = find_subject(["maze"], Options())
    _, predictions = subject.actor(subject.env.reset(), torch.ones(1, dtype=torch.bool))
    assert predictions is not None
    assert sorted(predictions.choices[0].tolist()) == [0, 1, 2]
    assert 997 <= predictions.chances[0].sum() <= 1000


def test_the_episode_is_the_one_that_evaluation_plays(run):
    """Return of the evaluation of one episode = return of the recording; so are all actions that it is made of."""
    trainer = Trainer(run, CPU)
    trainer.policy.load_state_dict(load_weights(Run.named("short").checkpoints)[1])
    seen, real = [], trainer.policy.forward

    def watched(obs, state, resets):
        seen.append(obs.clone())
        return real(obs, state, resets)

    trainer.policy.forward = watched
    expected = evaluate(trainer.policy, run.env, 1, run.seed, CPU, nullcontext())
    subject, _ = find_subject(["short"], Options())
    recording = record(subject.env, subject.actor)
    assert recording.last == len(seen)
    assert float(recording.frame(recording.last)["return"][0]) == pytest.approx(expected)
    # The observation's second token tells the last action that succeeded.
    told = [int(obs[0, 1, 2]) for obs in seen]
    frames = [recording.frame(step) for step in range(recording.last)]
    assert told == [int(f["action"][0] * f["success"][0]) if step else 0 for step, f in enumerate(frames)]


def test_greedy_takes_the_most_probable_action(run):
    subject, _ = find_subject(["short"], Options(greedy=True))
    recording = record(subject.env, subject.actor, 20)
    for step in range(20):
        assert recording.frame(step + 1)["action"].tolist() == recording.frame(step)["choices"][:, 0].tolist()


def test_the_world_has_the_knobs_of_the_run_and_a_held_out_task(run):
    subject, _ = find_subject(["short"], Options())
    subject.env.reset()
    task = subject.task()
    assert subject.facts["knobs"] == {"curriculum_style": "level_0"}
    assert task["held_out"]
    assert (subject.facts["checkpoint"], subject.facts["run"]) == (768, "short")
    other, _ = find_subject(["short"], Options(task=3))
    other.env.reset()
    assert other.task()["task"] == 3
    assert not other.task()["held_out"]


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before():
    train(tiny("tmaze", run="maze", trainer__checkpoint_minutes=0))
    folder = Run.named("maze").checkpoints
    older, newest = sorted(int(path.name) for path in folder.iterdir())
    assert load_weights(folder)[0] == newest
    (folder / f"{newest:015d}" / "weights.safetensors").write_bytes(b"torn")
    assert load_weights(folder)[0] == older
    (folder / f"{older:015d}" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"damaged.*manifest"):
        load_weights(folder)


def test_a_run_takes_neither_knobs_nor_a_player(run):
    with pytest.raises(UsageError, match="'curriculum_style' cannot be set"):
        find_subject(["short", "curriculum_style=full"], Options())
    with pytest.raises(UsageError, match="--player is for an environment"):
        find_subject(["short"], Options(player="random"))


def test_a_run_comes_before_an_environment_of_its_name_unless_only_that_can_be_meant():
    train(tiny("tmaze", run="tmaze"))
    subject, remark = find_subject(["tmaze"], Options())
    assert ("run" in subject.facts, "this is the run" in remark) == (True, True)
    for words, options in ((["tmaze"], Options(player="random")), (["tmaze", "length=3"], Options())):
        subject, remark = find_subject(words, options)
        assert ("run" in subject.facts, "this is the environment" in remark) == (False, True)
