"""The control worlds: what their answer is known to be, and that it cannot leak."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp import envs
from memexp.config import UsageError
from memexp.ppo.evaluate import first_episodes

FORWARD, LEFT, RIGHT = 0, 1, 2


def play(env, choose, steps):
    """Episodes of `steps` steps; choose(obs) -> actions."""
    obs = env.reset()
    for _ in range(steps):
        obs, *_ = env.step(choose(obs))
    return env.pop_stats()


@given(st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=20)
def test_without_memory_nobody_beats_one_half_in_the_tmaze(length, seed):
    """Any memoryless policy is a distribution over actions for each observation; every world counts one episode."""
    g = torch.Generator().manual_seed(seed)
    table = torch.randn(32, 3, generator=g).mul(3).softmax(-1)
    code = 2 ** torch.arange(5)
    env = envs.make("tmaze", 512, length=length, seed=seed)
    played = first_episodes(env, lambda obs, _: torch.multinomial(table[obs.long() @ code], 1, generator=g).squeeze(1))
    assert played["return"].mean() < 0.5 + 4 * 0.5 / 512**0.5


@pytest.mark.parametrize("length", [1, 3, 20])
def test_with_memory_of_the_cue_the_tmaze_is_solved(length):
    env = envs.make("tmaze", 64, length=length)
    cue = torch.zeros(64, dtype=torch.int64)

    def remember(obs):
        shown = obs[:, :2].sum(1) == 1
        cue[shown] = obs[shown, :2].argmax(1)
        return torch.where(obs[:, 4] == 1, LEFT + cue, FORWARD)

    stats = play(env, remember, 10 * (length + 1))
    assert stats["episode/return"] == env.ceiling_return
    assert stats["episode/length"] == length + 1


@pytest.mark.parametrize(
    ("world", "span"),
    [
        (("tmaze", {"length": 8}), 8),
        (("tmaze", {"length": 8, "cue_steps": 8}), 1),
        (("tmaze_cue", {"length": 8}), 0),
        (("chain_recall", {"k": 4}), 4),
        (("chain_recall", {"k": 0}), 0),
        (("delayed_cue", {"delay": 64}), 64),
    ],
)
def test_the_controls_state_how_far_back_one_must_remember(world, span):
    name, knobs = world
    assert envs.make(name, 1, **knobs).memory_span == span


def test_the_cue_is_shown_in_the_first_cue_steps_alone():
    env = envs.make("tmaze", 16, length=4, cue_steps=3)
    obs = env.reset()
    for step in range(5):
        assert (obs[:, :2].sum(1) == (step < 3)).all()
        obs, *_ = env.step(torch.zeros(16, dtype=torch.int64))
    with pytest.raises(UsageError, match="cue_steps=5 shows the cue at the junction"):
        envs.make("tmaze", 1, length=4, cue_steps=5)


def test_where_the_cue_stays_no_memory_is_needed():
    env = envs.make("tmaze_cue", 64, length=5)
    stats = play(env, lambda obs: torch.where(obs[:, 4] == 1, LEFT + obs[:, :2].argmax(1), FORWARD), 60)
    assert stats["episode/return"] == 1


def test_the_corridor_looks_the_same_whatever_the_cue():
    env = envs.make("tmaze", 64, length=4, seed=5)
    env.reset()
    for _ in range(4):
        obs, *_ = env.step(torch.zeros(64, dtype=torch.int64))
        assert (obs == obs[0]).all()


def test_waiting_for_ever_is_truncated_not_terminated():
    env = envs.make("tmaze", 2, length=2)
    env.reset()
    for step in range(30):
        _, reward, terminated, truncated = env.step(torch.full((2,), LEFT))
        assert truncated.all() == (step == 29)
        assert not terminated.any()
        assert not reward.any()


@pytest.mark.parametrize(("k", "length"), [(0, 5), (1, 8), (4, 16)])
def test_repeating_the_symbol_of_k_steps_ago_earns_one(k, length):
    env = envs.make("chain_recall", 32, k=k, episode_length=length, num_symbols=5)
    seen = []

    def recall(obs):
        seen.append(obs.argmax(1))
        return seen[-1 - k] if len(seen) > k else torch.zeros(32, dtype=torch.int64)

    stats = play(env, recall, length)
    assert stats["episode/return"] == pytest.approx(1)
    assert stats["episode/length"] == length


@pytest.mark.parametrize(("remember", "earned"), [(True, 1.0), (False, 0.85 + 0.15 / 4)])
def test_only_a_share_of_the_return_needs_the_cue(remember, earned):
    env = envs.make("delayed_cue", 4000, delay=3, share=0.15)
    cue = torch.zeros(4000, dtype=torch.int64)

    def name_what_is_shown(obs):
        first, asked = obs[:, 4:8].sum(1) == 1, obs[:, 8] == 1
        assert (obs[:, :4].sum(1) == (~asked).float()).all()
        if remember:
            cue[first] = obs[first, 4:8].argmax(1)
        return torch.where(asked, cue, obs[:, :4].argmax(1))

    stats = play(env, name_what_is_shown, 4)
    assert stats["episode/length"] == 4
    assert stats["episode/return"] == pytest.approx(earned, abs=0.01)


def test_symbols_are_uniform_and_independent_from_step_to_step():
    env = envs.make("chain_recall", 2000, k=1, episode_length=50, num_symbols=4)
    obs = env.reset()
    pairs = torch.zeros(4, 4)
    for _ in range(20):
        before = obs.argmax(1)
        obs, *_ = env.step(torch.zeros(2000, dtype=torch.int64))
        pairs += torch.bincount(before * 4 + obs.argmax(1), minlength=16).view(4, 4)
    expected = pairs.sum() / 16
    assert ((pairs - expected) ** 2 / expected).sum() < 37.7  # chi square, 15 degrees of freedom, p = 0.001


@pytest.mark.parametrize("name", ["tmaze", "tmaze_cue", "chain_recall", "delayed_cue"])
def test_an_env_depends_on_its_global_number_not_on_who_holds_it(name):
    whole, part = envs.make(name, 8, seed=9), envs.make(name, 4, seed=9, first_env=4)
    a, b = whole.desync(), part.desync()
    g = torch.Generator().manual_seed(0)
    for _ in range(80):
        assert torch.equal(a[4:], b)
        actions = torch.randint(whole.num_actions, (8,), generator=g)
        a, *_ = whole.step(actions)
        b, *_ = part.step(actions[4:])


@pytest.mark.parametrize("name", ["tmaze", "tmaze_cue", "chain_recall", "delayed_cue"])
def test_envs_are_out_of_phase_after_desync_and_only_whole_episodes_count(name):
    env = envs.make(name, 256)
    env.desync()
    ends = []
    for _ in range(200):
        _, _, terminated, truncated = env.step(torch.randint(env.num_actions, (256,)))
        ends.append((terminated | truncated).sum().item())
    assert max(ends[2:]) < 256 / 4
    episodes = env.pop_episodes()
    assert len(episodes["return"]) == sum(ends) - 256  # the first end of each world closes an episode begun before
    if name == "chain_recall":
        assert (episodes["length"] == 64).all()


@pytest.mark.parametrize("name", ["tmaze", "tmaze_cue", "chain_recall", "delayed_cue"])
def test_a_restored_env_continues_exactly(name):
    env, other = envs.make(name, 16, seed=2), envs.make(name, 16, seed=2)
    env.desync()
    g = torch.Generator().manual_seed(0)
    for _ in range(30):
        env.step(torch.randint(env.num_actions, (16,), generator=g))
    obs = other.load_state_dict(env.state_dict())
    assert torch.equal(obs, env.load_state_dict(env.state_dict()))
    for _ in range(50):
        actions = torch.randint(env.num_actions, (16,), generator=g)
        for a, b in zip(env.step(actions), other.step(actions), strict=True):
            assert torch.equal(a, b)
    left, right = env.pop_episodes(), other.pop_episodes()
    assert all((left[name] == right[name]).all() for name in left)


def test_a_misspelt_env_or_knob_is_named_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'tmaze'"):
        envs.make("tmace", 1)
    with pytest.raises(UsageError, match="did you mean 'length'"):
        envs.make("tmaze", 1, lenght=3)
    with pytest.raises(UsageError, match="must exceed k=9"):
        envs.make("chain_recall", 1, k=9, episode_length=9)
