"""Environments that tests make are closed at their end."""

import pytest

from memexp import envs


@pytest.fixture
def make():
    """`envs.make` whose environments are closed at the end."""
    made = []

    def build(*names, **knobs):
        made.append(envs.make(*names, **knobs))
        return made[-1]

    yield build
    for env in made:
        env.close()
