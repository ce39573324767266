"""The doctor of somebody else's policy finds each way in which acting and learning can differ."""

import json
import sys

import numpy as np
import pytest
from gymnasium import spaces
from helpers.commands import type_command

from memexp.ppo.policy_doctor import examine


class Toy:
    """Two actions, whose logit is a decaying sum of past observations. `fault` names what is wrong with it."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, fault=""):
        self.fault, self.rng = fault, np.random.default_rng(0)

    def step(self, obs, state, starts, where):
        state = np.zeros(len(obs)) if state is None else state
        if self.fault not in (where, "both passes ignore starts"):
            state = np.where(starts, 0.0, state)
        return 0.9 * state + obs.sum(-1)

    def log_prob(self, logit, actions):
        return -np.log1p(np.exp(np.where(actions == 1, -logit, logit)))

    def act(self, obs, state, starts):
        state = self.step(obs, state, starts, "acting ignores starts")
        actions = (self.rng.random(len(obs)) < 1 / (1 + np.exp(-state))).astype(int)
        return actions, self.log_prob(state, actions), state

    def learn(self, obs, actions, starts, state):
        state = None if self.fault == "learning forgets the state" else state
        found = []
        for step, action, start in zip(obs, actions, starts, strict=True):
            state = self.step(step, state, start, "learning ignores starts")
            found.append(self.log_prob(state, action))
        found = np.array(found)
        return found * np.nan if self.fault == "NaN" else found.T if self.fault == "shape" else found


ONE, INSIDE, LATER = "one episode, from its start", "episodes start inside", "from a later state"
CLEARS = "a start clears the state"


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ("", set()),
        ("acting ignores starts", {INSIDE, LATER}),
        ("learning ignores starts", {INSIDE, LATER, CLEARS}),
        ("both passes ignore starts", {CLEARS}),
        ("learning forgets the state", {LATER}),
        ("NaN", {ONE, INSIDE, LATER, CLEARS}),
    ],
)
def test_each_fault_fails_the_checks_that_concern_it(fault, failed):
    report = examine(Toy(fault))
    assert {check for check, gap in report.gaps.items() if gap > report.threshold} == failed
    assert report.ok is (not failed)
    assert not report.surprise <= 0.1


MODULE = "from tests_toy import Toy\ngood = Toy\nbad = lambda: Toy('both passes ignore starts')\nempty = object\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "their_policy.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "tests_toy", type("tests_toy", (), {"Toy": Toy}))
    monkeypatch.delitem(sys.modules, "their_policy", raising=False)


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("bad", 1)])
def test_the_command_checks_a_policy_by_name(module, capsys, name, code):
    typed = type_command(capsys, "doctor", "--policy", f"their_policy:{name}", "--json")
    assert typed.code == code
    assert json.loads(typed.out)["ok"] is (code == 0)
    typed = type_command(capsys, "doctor", "--policy", f"their_policy:{name}")
    assert typed.code == code
    assert typed.out.splitlines()[-1].startswith("ok" if code == 0 else "not ok")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--policy", "their_policy:god"), "their_policy has no 'god'; did you mean 'good'?"),
        (("--policy", "their_policy"), "write module:callable"),
        (("--policy", "thei_policy:good"), "there is no module 'thei_policy'"),
        (("--policy", "their_policy:empty"), "has no 'observation_space'"),
        (("tmaze", "--policy", "their_policy:good"), "not both"),
        ((), "name a recipe or --policy"),
    ],
)
def test_a_wrong_policy_is_named(module, capsys, words, message):
    typed = type_command(capsys, "doctor", *words)
    assert typed.code == 2
    assert message in typed.err


def test_a_sequence_of_the_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"learn returns shape \[8, 32\], not \[T, N\] = \[32, 8\]"):
        examine(Toy("shape"))
