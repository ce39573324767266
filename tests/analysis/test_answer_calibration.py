"""How often verdicts are wrong, by simulation with fixed seeds; docs/method.md has the long-run figures."""

from collections import Counter

import numpy as np
import pytest
from helpers.synthetic_truths import Draw, bimodal, environment, gaussian, heavy_tailed, skewed

from memexp.analysis.learning import judge_learning
from memexp.analysis.memory_verdict import judge_memory
from memexp.analysis.scale import find_scale

ROUNDS = 120
RANDOM = (0.0, 0.01, -0.01, 0.005, -0.005)
"""The random policy's return as five runs measured it."""
FIVE_PERCENT = 0.05 + 2 * (0.05 * 0.95 / ROUNDS) ** 0.5
"""A rate of 5 % may look like this in so many rounds."""


def verdicts(memory_mean, twin_mean, sd, **options):
    """Share of each memory verdict over matrices of Gaussian seeds."""
    return verdicts_of(gaussian(memory_mean, sd), gaussian(twin_mean, sd), **options)


def verdicts_of(with_memory: Draw, without: Draw, *, seeds=5, pairs=1, ceiling=1.0, rounds=ROUNDS):
    """Share of each memory verdict over matrices of `pairs` architectures with their twins."""
    rng, counts = np.random.default_rng(0), Counter()
    for _ in range(rounds):
        arms = {}
        for pair in range(pairs):
            arms[f"A{pair}"], arms[f"A{pair}~"] = with_memory(rng, seeds), without(rng, seeds)
        counts[verdict_of(environment(arms, ceiling, RANDOM))] += 1
    return {verdict: count / rounds for verdict, count in counts.items()}


def verdict_of(world):
    scale = find_scale(world)
    learned = {name: judge_learning(arm, world, scale) for name, arm in world.arms.items()}
    return judge_memory(world, scale, learned).verdict.kind


@pytest.mark.parametrize("ceiling", [1.0, None])
@pytest.mark.parametrize(("level", "sd"), [(0.9, 0.05), (0.5, 0.15), (0.0, 0.02)])
def test_without_an_effect_memory_is_hardly_ever_called_required_or_helpful(level, sd, ceiling):
    rates = verdicts(level, level, sd, pairs=2, ceiling=ceiling)
    assert rates.get("required", 0) <= 0.01
    assert rates.get("required", 0) + rates.get("helps", 0) <= FIVE_PERCENT


NASTY = {
    "half of the seeds solve": (bimodal(0.5), bimodal(0.5)),
    "heavy tails": (heavy_tailed(0.6, 0.15), heavy_tailed(0.6, 0.15)),
    "skewed": (skewed(0.5, 0.2), skewed(0.5, 0.2)),
    "unequal spreads": (gaussian(0.6, 0.2), gaussian(0.6, 0.02)),
}


@pytest.mark.parametrize("truth", NASTY)
def test_without_an_effect_seeds_of_any_kind_hardly_ever_make_one(truth):
    rates = verdicts_of(*NASTY[truth], rounds=200)
    assert rates.get("required", 0) + rates.get("helps", 0) <= 0.05


@pytest.mark.parametrize("seeds", [4, 5, 10])
def test_a_twin_that_solves_in_55_percent_of_its_seeds_is_hardly_ever_called_incapable(seeds):
    rates = verdicts_of(gaussian(0.95, 0.03), bimodal(0.55), seeds=seeds)
    assert rates.get("required", 0) <= FIVE_PERCENT


@pytest.mark.parametrize(
    ("truth", "wrong"),
    [
        ((gaussian(0.6, 0.1), gaussian(0.6, 0.1)), ("required", "helps")),
        ((gaussian(0.95, 0.05), gaussian(0.85, 0.05)), ("not_needed",)),
    ],
    ids=["no effect", "an effect of 0.1"],
)
def test_looking_after_every_seed_makes_no_more_wrong_claims(truth, wrong):
    rng, claimed = np.random.default_rng(0), 0
    for _ in range(ROUNDS):
        x, y = truth[0](rng, 8), truth[1](rng, 8)
        looks = [(n, m) for n in range(4, 9) for m in (n, n + 1) if m <= 8]
        claimed += any(verdict_of(environment({"A": x[:n], "A~": y[:m]}, 1.0, RANDOM)) in wrong for n, m in looks)
    assert claimed / ROUNDS <= 0.05


@pytest.mark.parametrize("ceiling", [1.0, None])
def test_a_twin_that_just_solves_is_called_incapable_at_most_as_often_as_stated(ceiling):
    rates = verdicts(1.0, 0.755, 0.05, ceiling=ceiling)
    assert rates.get("required", 0) <= FIVE_PERCENT


def test_a_difference_that_matters_is_called_unneeded_at_most_as_often_as_stated():
    assert verdicts(0.95, 0.85, 0.05).get("not_needed", 0) <= FIVE_PERCENT
    assert verdicts(0.95, 0.85, 0.02).get("not_needed", 0) <= FIVE_PERCENT


def test_arms_that_have_not_learned_never_make_memory_unneeded():
    assert verdicts(0.5, 0.5, 0.02, rounds=60).get("not_needed", 0) == 0
    assert verdicts(0.0, 0.0, 0.02, rounds=60).get("not_needed", 0) == 0


def test_a_large_effect_is_found_with_five_seeds():
    assert verdicts(0.95, 0.5, 0.05, rounds=60).get("required", 0) >= 0.95
    assert verdicts(0.95, 0.5, 0.05, rounds=60, ceiling=None).get("helps", 0) >= 0.95
    assert verdicts(0.95, 0.5, 0.1, pairs=2, rounds=60).get("required", 0) >= 0.8


def test_no_effect_is_found_with_five_quiet_seeds():
    assert verdicts(0.95, 0.95, 0.03, pairs=2, rounds=60).get("not_needed", 0) >= 0.8


def test_three_seeds_never_decide():
    assert verdicts(0.95, 0.5, 0.01, seeds=3, rounds=50) == {"undecided": 1.0}


def test_learning_is_claimed_wrongly_in_at_most_five_percent():
    rng, wrong, missed = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        random = rng.normal(0.2, 0.02, 10)
        world = environment({"same": rng.normal(0.2, 0.05, 5), "above": rng.normal(0.4, 0.05, 5)}, 1.0, random)
        scale = find_scale(world)
        wrong += judge_learning(world.arms["same"], world, scale).verdict == "learned"
        missed += judge_learning(world.arms["above"], world, scale).verdict != "learned"
    assert wrong <= 0.065 * 1000
    assert missed <= 0.05 * 1000


@pytest.mark.parametrize("share", [0.1, 0.15, 0.2, 0.3])
@pytest.mark.parametrize("found", [0.0, 0.5], ids=["nobody found it", "some seeds did"])
def test_a_part_that_most_seeds_did_not_reach_is_hardly_ever_called_unneeded(share, found):
    """A share of the way takes memory, but the arms had too short a horizon or too few steps."""
    rates = verdicts_of(bimodal(found, high=1.0, low=1 - share, sd=0.02), gaussian(1 - share, 0.02), pairs=2, rounds=40)
    assert rates.get("not_needed", 0) <= 0.05 + 2 * (0.05 * 0.95 / 40) ** 0.5
