"""How a policy reads the parts of an observation: decided by what the values are, chosen by `reading`."""

from itertools import count
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from memexp import envs
from memexp.config import UsageError
from memexp.envs.config import ThirdParty
from memexp.spaces import CellsSpace, ImageSpace, VectorSpace, described


class Shown(gymnasium.Env):
    """Observations of `space`: whole numbers from 0 to `most`, or from the space if `most` is None."""

    def __init__(self, space: spaces.Space, most: int | None = None):
        self.observation_space, self.action_space, self.most = space, spaces.Discrete(2), most

    def _obs(self) -> Any:
        if self.most is None:
            return self.observation_space.sample()
        return self.np_random.integers(0, self.most + 1, self.observation_space.shape).astype(
            self.observation_space.dtype
        )

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = count(1)
        return self._obs(), {}

    def step(self, action: Any):
        return self._obs(), 0.0, next(self.steps) == 5, False, {}


def make(space: spaces.Space, most: int | None = None, **knobs: Any):
    return envs.make("module:envs_readings:Shown", 1, options={"space": space, "most": most}, **knobs)


@pytest.fixture(autouse=True)
def _named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "envs_readings", __import__("sys").modules[__name__])


def line(space: spaces.Space, most: int | None = None, **knobs: Any) -> str:
    env = make(space, most, **knobs)
    env.reset()
    env.close()
    (text,) = described(env.observation, env.because)
    return text


@pytest.mark.parametrize("side", [8, 16, 17, 40])
@pytest.mark.parametrize(("most", "word"), [(255, "pixels"), (200, "pixels"), (10, "map of names"), (0, "pixels")])
def test_a_picture_or_map_of_any_size_is_read_as_what_its_values_are(side, most, word):
    assert line(spaces.Box(0, 255, (side, side, 3), np.uint8), most).startswith(f"observation: {word}, {side} x {side}")


def test_the_line_says_why():
    box = spaces.Box(0, 255, (7, 7, 3), np.uint8)
    assert line(box, 10) == "observation: map of names, 7 x 7 x 3 (11 values up to 10 while the random policy plays)"
    assert line(box, 10, reading="pixels") == "observation: pixels, 7 x 7 x 3 (as env.reading says)"


@pytest.mark.parametrize(
    ("space", "most", "text"),
    [
        (spaces.Box(0, 255, (9, 9), np.uint8), 3, "map of names, 9 x 9 x 1"),
        (spaces.Box(0, 255, (9, 9), np.uint8), 255, "pixels, 9 x 9 x 1"),
        (spaces.Box(0, 9999, (9, 9), np.int64), 3, "map of names, 9 x 9 x 1"),
        (spaces.Box(0, 9999, (9, 9), np.int64), 9999, "numbers, 81"),
        (spaces.Box(-9, 9, (5, 5, 2), np.int32), None, "pixels, 5 x 5 x 2"),
        (spaces.Box(0, 1, (10, 10, 4), np.uint8), None, "pixels, 10 x 10 x 4"),
        (spaces.Box(0, 1, (10, 10, 4), bool), None, "pixels, 10 x 10 x 4"),
        (spaces.Box(0, 1, (10, 10, 3), np.float32), None, "pixels, 10 x 10 x 3"),
        (spaces.Box(0, 9, (4,), np.int64), 9, "numbers, 4"),
        (spaces.Box(0, 255, (128,), np.uint8), 255, "numbers, 128"),
        (spaces.MultiDiscrete([3, 4]), None, "names, 2 (of 3, 4)"),
        (spaces.MultiBinary(4), None, "numbers, 4"),
    ],
)
def test_every_space_has_a_reading_by_default(space, most, text):
    assert line(space, most).startswith(f"observation: {text} (")


@pytest.mark.parametrize(
    ("space", "reading", "expected"),
    [
        (spaces.Box(0, 255, (6, 6, 3), np.uint8), "pixels", ImageSpace((6, 6, 3))),
        (spaces.Box(0, 255, (60, 60, 3), np.uint8), "names", CellsSpace((60, 60, 3))),
        (spaces.Box(0, 255, (6, 6, 3), np.uint8), "numbers", VectorSpace(108, normalise=True)),
        (spaces.Box(0, 255, (6, 5), np.uint8), "names", CellsSpace((6, 5, 1))),
        (spaces.Box(-1, 1, (6, 5), np.float32), "pixels", ImageSpace((6, 5, 1))),
        (spaces.Box(0, 900, (6,), np.int64), "names", CellsSpace((1, 1, 6))),
    ],
)
def test_a_reading_is_chosen_and_the_policy_can_read_it(space, reading, expected):
    import torch

    from memexp.policy.gym_encoders import build_gym_encoder

    env = make(space, reading=reading)
    assert env.observation == expected
    encoded = build_gym_encoder(env.observation, 8, 4)(env.reset())
    assert encoded.shape == (1, 4)
    assert torch.isfinite(encoded).all()


def test_a_part_is_chosen_by_its_name_and_categories_may_be_amounts():
    space = spaces.Dict({"image": spaces.Box(0, 255, (5, 5, 3), np.uint8), "speed": spaces.MultiDiscrete([5, 5])})
    env = make(space, reading={"image": "names", "speed": "numbers"})
    assert described(env.observation, env.because) == [
        "image: map of names, 5 x 5 x 3 (as env.reading says)",
        "speed: numbers, 2 (as env.reading says)",
    ]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"imag": "pixels"}, "the observation has no part 'imag'; did you mean 'image'?"),
        ("pixels", "the observation has no part 'observation'; known: image, said"),
        ({"said": "pixels"}, "'said' is Text, which cannot be read as pixels, only as text"),
        ({"image": "names"}, "'image' is Box of float32, which cannot be read as names, only as pixels or numbers"),
    ],
)
def test_an_unknown_part_or_a_reading_that_does_not_fit_is_one_line(reading, message):
    space = spaces.Dict({"image": spaces.Box(0, 1, (5, 5, 3), np.float32), "said": spaces.Text(9)})
    with pytest.raises(UsageError) as caught:
        make(space, reading=reading)
    assert str(caught.value).endswith(message)


def test_an_unknown_reading_names_the_nearest():
    with pytest.raises(UsageError, match="'pixel' is no reading; did you mean 'pixels'"):
        ThirdParty.parse({"reading": {"image": "pixel"}})


def test_two_processes_decide_alike():
    space = spaces.Box(0, 255, (6, 6, 3), np.uint8)
    assert line(space, 10) == line(space, 10, backend="serial")
    assert make(space, 10, first_env=7).reading == make(space, 10).reading == {"observation": "names"}
