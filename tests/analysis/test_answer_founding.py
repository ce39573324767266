"""The run that started this project, re-enacted from its published curve: 2e9 steps in 1.43 hours, no reward, entropy
3.039 -> 3.043, zero to two hearts an interval."""

import math

import numpy as np
import pytest
from helpers.synthetic_runs import write_run

from memexp.analysis.answer import answer
from memexp.analysis.answer_json import answer_json
from memexp.cli import main
from memexp.runs import Run, runs_dir

STEPS, HOURS, ACTIONS = 2_000_000_000, 1.43, 21


@pytest.fixture
def founding() -> Run:
    rng = np.random.default_rng(0)
    updates = 200
    at = np.linspace(0, STEPS, updates + 1)[1:].astype(int)
    lines = [
        {
            "wall_s": float(steps / STEPS * HOURS * 3600),
            "policy/entropy": 3.039 + 0.004 * steps / STEPS,
            "env/heart.created": float(rng.integers(0, 3)),
        }
        for steps in at
    ]
    run = write_run(
        runs_dir(), "xl_memlen0", 0, np.zeros(updates), env="cvc_random_maps", budget=STEPS, columns=lines,
        matrix="memory-needed", pattern="X", mem_len=0, ceiling_return=None, num_actions=ACTIONS, price_per_hour=98.0,
    )  # fmt: skip
    run.write_config({**run.config, "env": {"name": "cvc_random_maps"}})
    return run


def test_it_says_that_nothing_was_learned_that_entropy_is_at_chance_and_that_one_seed_decides_nothing(founding):
    found = answer_json(answer([founding], "memory-needed"))["environments"]["cvc_random_maps"]
    arm = found["arms"]["xl_memlen0"]
    assert arm["learning"]["verdict"] == "not_learned"
    assert "Nothing learned at this budget" in arm["learning"]["reason"]
    assert "entropy 3.039 -> 3.043" in arm["learning"]["reason"]
    assert arm["learning"]["entropy"]["chance"] == pytest.approx(math.log(ACTIONS), rel=1e-5)
    assert arm["learning"]["entropy"]["share"] > 0.998
    assert "1 seed cannot show whether other seeds would learn" in arm["learning"]["reason"]
    assert arm["convergence"]["verdict"] == "undecided"
    assert found["memory"]["verdict"] == "undecided"
    assert found["memory"]["reason"] == "No arm can remember."
    assert found["knobs"]
    assert found["next"][0].startswith("turn a knob")
    assert "memexp launch pilots" in found["next"][0]
    assert any("an architecture with memory and its memory-ablated twin" in sentence for sentence in found["next"])
    assert found["sequential"]["per_arm"]["xl_memlen0"]["action"] == "stop"
    assert found["until_answered"]["runs"] == 0
    assert found["until_answered"]["reason"].startswith("more seeds alone would not answer it")


def test_a_policy_at_chance_is_not_learning_only_while_its_return_is_that_of_random_play(founding):
    info = founding.info.model_copy(update={"random_return": -5.0, "ceiling_return": 10.0})
    founding.write_info(info)
    arm = answer_json(answer([founding], "memory-needed"))["environments"]["cvc_random_maps"]["arms"]["xl_memlen0"]
    assert arm["learning"]["verdict"] == "undecided"


def test_its_report_can_be_written(founding, capsys):
    assert main(["report", "memory-needed"]) == 0
    assert "undecided" in capsys.readouterr().out
