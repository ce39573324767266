"""Action masks: forbidden actions are never taken, in training, warm-up, evaluation and by the random policy."""

from contextlib import closing

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers.commands import type_command
from helpers.third_party import Masked, MaskedPair
from helpers.training import tiny

import memexp
from memexp import envs
from memexp.config import UsageError
from memexp.envs.base import EnvError
from memexp.envs.puffer.api_checks import ApiError
from memexp.envs.puffer.masks import Join
from memexp.envs.scripted import make_scripted_policy
from memexp.policy.actions import MaskedCategorical, MaskedMultiCategorical, only_allowed
from memexp.ppo.distributed import join
from memexp.ppo.doctor import doctor
from memexp.ppo.horizon import policy_with
from memexp.ppo.trainer import Trainer
from memexp.runs import Run
from memexp.spaces import allowed_actions, described

MASKED, PAIR = "module:helpers.third_party:Masked", "module:helpers.third_party:MaskedPair"


def play(env, player, obs, steps):
    for _ in range(steps):
        obs, *_ = env.step(player.act(obs, torch.zeros(len(obs), dtype=torch.bool)))


WAYS = [{"where": where, "several": several} for where in ("info", "part") for several in (False, True)]
WAYS += [{"where": "info", "start": 3}, {"where": "tuple", "several": True}, {"where": "floats", "several": True}]
ROOMS = [{"backend": "serial"}, {"backend": "multiprocessing", "workers": 2}]


def made(options, n=4, name=MASKED, **knobs):
    return closing(envs.make(name, n, options=options, **knobs))


@pytest.mark.parametrize("backend", ROOMS)
@pytest.mark.parametrize("options", WAYS)
def test_every_action_that_the_random_policy_and_the_warm_up_take_is_allowed(options, backend):
    with made(options, **backend) as env:
        player, obs = make_scripted_policy(env, "random"), env.desync()  # out of phase: after random steps
        lengths = []
        for _ in range(40):
            allowed = allowed_actions(obs, env.observation)
            assert allowed.shape == (4, 12 if options.get("several") else 6)
            assert (allowed.sum(1) == (6 if options.get("several") else 3)).all()
            obs, *_ = env.step(player.act(obs, torch.zeros(4, dtype=torch.bool)))
            lengths += env.pop_episodes().get("length", np.zeros(0)).tolist()
        assert set(lengths) == {Masked.LENGTH}


def test_a_mask_in_info_and_one_in_the_observation_are_the_same():
    with made({"where": "info"}) as told, made({"where": "part"}) as shown:
        one, other = told.reset(), shown.reset()
        for step in range(20):
            masks = [allowed_actions(obs, env.observation) for obs, env in ((one, told), (other, shown))]
            assert torch.equal(*masks)
            actions = masks[0].float().argmax(1) if step % 3 else torch.zeros(4, dtype=torch.long)
            one, other = told.step(actions)[0], shown.step(actions)[0]


def test_the_policy_does_not_read_the_mask_and_the_record_says_so():
    with made({"where": "part"}) as env:
        assert [part.name for part in env.observation.parts] == ["seen"]
        assert described(env.observation, env.because) == [
            "seen: numbers, 3 (Box of float32, dimensions: 1)",
            "action_mask: which of 6 actions are allowed; policies do not read it",
        ]
    with made({"where": "part"}, action_mask="off") as env:
        assert {part.name for part in env.observation.parts} == {"seen", "action_mask"}
        assert env.observation.mask is None
    with made({"where": "info"}, action_mask="off") as env:
        assert allowed_actions(env.reset(), env.observation) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("none", "step\\(\\) returned no action_mask that allows an action"),
        ("short", "step\\(\\) returned .*the action_mask .* which is not 6 numbers, 1 for each allowed action"),
        ("negative", "step\\(\\) returned .*the action_mask .* which is not 6 numbers, 1 for each allowed"),
        ("missing", "step\\(\\) returned no action_mask in info, as the first reset\\(\\) did"),
        ("half several", "step\\(\\) returned no action_mask that allows an action of choice 2 of 2"),
        ("half several tuple", "step\\(\\) returned no action_mask that allows an action of choice 2 of 2"),
        ("half several part", "step\\(\\) returned no action_mask that allows an action of choice 2 of 2"),
        ("none part", "step\\(\\) returned no action_mask that allows an action"),
        ("short several tuple", "the action_mask .* which is not 6 \\+ 6 numbers, 1 for each allowed|wrong shape"),
        ("logits floats", "step\\(\\) returned .*the action_mask .* which is not 6 numbers, 1 for each allowed action"),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_a_wrong_mask_is_told_with_its_place(wrong, says, batch):
    wrong, *rest = wrong.split()
    where = {"where": next((word for word in rest if word != "several"), "info"), "several": "several" in rest}
    if batch and wrong == "missing":
        says = "step\\(\\) returned no action_mask that allows an action"
    place = "env 0" if batch else "env 0, episode 0, step 3"
    name, how = (f"{__name__}:masked_batch", {"mode": "NEXT_STEP"}) if batch else (MASKED, {})
    with made({"wrong": wrong, **where, **how}, 2, name) as env:
        player, obs = make_scripted_policy(env, "random"), env.reset()
        with pytest.raises(EnvError, match=says) as error:
            play(env, player, obs, 4)
        assert place in str(error.value) or "wrong shape" in str(error.value)  # Gymnasium's batch itself noticed it


@pytest.mark.parametrize("name", [MASKED, "masked_batch"])
def test_masks_that_the_first_reset_did_not_tell_are_refused_unless_masks_are_off(name):
    options = {"where": "late"}
    if name == "masked_batch":
        name, options = f"{__name__}:masked_batch", {"where": "late", "mode": "SAME_STEP"}
    with made(options, 2, name) as env:
        player, obs = make_scripted_policy(env, "random"), env.reset()
        with pytest.raises(EnvError, match="an action_mask in info, but the first reset\\(\\) did not"):
            play(env, player, obs, 20)
    with made(options, 2, name, action_mask="off") as env:
        play(env, make_scripted_policy(env, "random"), env.reset(), 20)


@pytest.mark.parametrize("where", ["info", "part"])
def test_an_agent_whose_turn_it_is_not_may_have_no_allowed_action(where):
    with made({"where": where}, 3, PAIR) as env:
        play(env, make_scripted_policy(env, "random"), env.desync(), 12)


def test_masks_of_continuous_actions_and_of_another_size_are_refused():
    with pytest.raises(UsageError, match=r"action_mask, but actions are Box.*only discrete actions can be masked"):
        envs.make(f"{__name__}:Leaning", 1)
    with pytest.raises(UsageError, match="action_mask has 4 numbers for 3 actions"):
        envs.make(f"{__name__}:Leaning", 1, options={"discrete": True})
    with pytest.raises(UsageError, match="action_mask has 5 numbers for 6 actions"):
        envs.make(f"{__name__}:Leaning", 1, options={"apart": True})
    with pytest.raises(UsageError, match=r"action_mask is Dict.*only MultiBinary, Box, MultiDiscrete and a Tuple"):
        envs.make(f"{__name__}:Leaning", 1, options={"discrete": True, "nested": True})
    with pytest.raises(UsageError, match=r"agents .* have different spaces, but one policy plays all agents"):
        envs.make(f"{__name__}:Unlike", 1)
    with pytest.raises(UsageError, match="reading: the observation has no part 'action_mask'"):
        envs.make(MASKED, 1, options={"where": "part"}, reading={"action_mask": "names"})


class Leaning(gymnasium.Env):
    """An action mask of four numbers that fits no action. apart: of five, for two choices among three."""

    def __init__(self, discrete: bool = False, apart: bool = False, nested: bool = False):
        mask: gymnasium.Space = gymnasium.spaces.MultiBinary(4)
        if apart:
            mask = gymnasium.spaces.Tuple([gymnasium.spaces.MultiBinary(3), gymnasium.spaces.MultiBinary(2)])
        mask = gymnasium.spaces.Dict(move=mask) if nested else mask
        self.observation_space = gymnasium.spaces.Dict(seen=gymnasium.spaces.Box(0, 1, (2,)), action_mask=mask)
        self.action_space = gymnasium.spaces.Discrete(3) if discrete else gymnasium.spaces.Box(-1, 1, (2,))
        if apart:
            self.action_space = gymnasium.spaces.MultiDiscrete([3, 3])


class Unlike(MaskedPair):
    """One of two agents with masks sees more than the other."""

    def observation_space(self, agent: str):
        size = 2 + (agent == self.possible_agents[0])
        return gymnasium.spaces.Dict(
            seen=gymnasium.spaces.Box(0, 1, (size,)), action_mask=gymnasium.spaces.Box(0, 1, (3,))
        )


def config_of(options, **changes):
    base = tiny(**changes)
    return base.model_copy(update={"env": envs.typed_config(MASKED, {"options": options})})


@pytest.mark.parametrize("options", WAYS)
def test_no_action_of_a_rollout_is_forbidden_and_the_learning_pass_sees_the_same_masks(options):
    with closing(Trainer(config_of(options, cortex__pattern="S"), join("cpu"))) as trainer:
        trainer.collect()
        s, policy = trainer.segments, trainer.policy
        logits, _, _ = policy(s.obs, s.start, s.resets)
        allowed = allowed_actions(s.obs, trainer.env.observation)
        chosen = s.actions.view(*s.actions.shape[:2], -1)
        columns = torch.arange(chosen.shape[-1]) * 6
        assert allowed.gather(-1, chosen + columns).all()
        halves = logits.view(*logits.shape[:-1], -1, 6).softmax(-1)
        assert (halves[~allowed.view(halves.shape)] == 0).all()
        torch.testing.assert_close(policy.actions.log_prob(logits, s.actions), s.log_probs)
        assert policy.actions.entropy(logits).max() <= (1 + options.get("several", False)) * np.log(3) + 1e-6


@pytest.mark.parametrize("options", WAYS)
def test_the_doctor_finds_no_gap_with_masks(options):
    report = doctor(config_of(options, cortex__pattern="L"))
    assert report.max_logprob_gap < report.threshold
    assert report.entropy_share <= 0.6  # of the entropy of three allowed actions, not of six
    assert not report.problems
    count = "6 + 6" if options.get("several") else "6"
    assert report.observation[-1] == f"action_mask: which of {count} actions are allowed; policies do not read it"


QUICK = (
    "pattern=S", "d_hidden=16", "seed=0", "trainer.num_envs=32", "trainer.horizon=16", "trainer.update_epochs=4",
    "trainer.total_timesteps=20_000", "trainer.learning_rate=3e-3", "evaluation.episodes=100",
    "evaluation.random_episodes=100", "trainer.threads=1", "wandb.mode=disabled",
)  # fmt: skip


@pytest.mark.slow
def test_masked_actions_are_never_taken_and_what_the_cue_says_is_learnt(capsys):
    """Without the cue the best return is a half."""
    typed = type_command(capsys, "train", "any", f"env={MASKED}", "run=masked", *QUICK)
    assert typed.code == 0, typed.err
    run = Run.named("masked")
    last = run.metrics()[-1]
    assert last["consistency/max_logprob_gap"] < 1e-4
    assert last["eval/return"] > 0.9
    assert (run.episodes()["env/legal"] == 1).all()
    policy, plain = memexp.load("masked").policy(), Masked()
    obs, info = plain.reset(seed=5)
    state, total, over, first = policy.init_state(1), 0.0, False, True
    while not over:
        masks = [info["action_mask"]]
        actions, state, thought = policy.act([obs], state, [first], greedy=True, action_masks=masks)
        assert (thought.probabilities[0][masks[0] == 0] == 0).all()
        obs, reward, over, _, info = plain.step(actions[0])
        total, first = total + reward, False
    assert total > 0.8
    with pytest.raises(UsageError, match="masks of actions are in info: pass them as action_masks"):
        policy.act([obs], state)


def test_a_policy_with_masks_is_built_from_its_weights():
    config = config_of({"where": "info"}, cortex__pattern="S")
    with closing(Trainer(config, join("cpu"))) as trainer:
        weights = trainer.policy.state_dict()
        again = policy_with(config, trainer.env, weights, torch.device("cpu"))
        obs = trainer.env.reset()
        resets = torch.ones(len(obs), dtype=torch.bool)
        for policy in (trainer.policy, again):
            logits, *_ = policy(obs, policy.init_state(len(obs), torch.device("cpu")), resets)
            assert (logits.softmax(-1) == 0).sum(1).eq(3).all()


def masked_batch(num_envs: int, mode: str, **options) -> gymnasium.vector.VectorEnv:
    """The masked environment as one vector environment of Gymnasium."""
    makers = [lambda: Masked(**options)] * num_envs
    return gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=gymnasium.vector.AutoresetMode[mode])


@pytest.mark.parametrize("options", [*WAYS, {"where": "info", "parts": True}])
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_a_batch_may_have_masks_too(options, mode):
    batch = f"{__name__}:masked_batch"
    with made({"mode": mode, **options}, 4, batch) as env:
        player, obs, whole = make_scripted_policy(env, "random"), env.desync(), 0
        for _ in range(40):
            allowed = allowed_actions(obs, env.observation)
            played = torch.ones(4, dtype=torch.bool) if env.resetting is None else ~env.resetting
            assert (allowed.sum(1)[played] == (6 if options.get("several") else 3)).all()
            obs, *_ = env.step(player.act(obs, torch.zeros(4, dtype=torch.bool)))
            episodes = env.pop_episodes()
            assert all(length == Masked.LENGTH for length in episodes.get("length", ()))
            assert all(legal == 1 for legal in episodes.get("env/legal", ()))
            whole += len(episodes.get("length", ()))
        assert whole >= 4


CHOICES = [np.eye(4, count, dtype=np.int8)[:, ::-1] for count in (3, 4, 2)]  # of four environments


SEVERAL = np.concatenate(CHOICES, 1)


@pytest.mark.parametrize("masks", [tuple(CHOICES), [*zip(*CHOICES, strict=True)], SEVERAL, SEVERAL.tolist()])
def test_masks_of_a_batch_may_be_an_array_a_list_or_a_tuple_of_choices(masks):
    join = Join(spaces.Box(0, 1, (2,)), spaces.MultiDiscrete([3, 4, 2]), "it")
    assert np.array_equal([join.flat(one, "it") for one in join.of_each(masks, 4, "it")], SEVERAL)


@pytest.mark.parametrize("masks", [CHOICES[1], CHOICES[1] > 0, (CHOICES[1],), [*CHOICES[1]], CHOICES[1].tolist()])
def test_masks_of_a_batch_with_one_choice_may_be_an_array_a_list_or_a_tuple_of_one(masks):
    join = Join(spaces.Box(0, 1, (2,)), spaces.Discrete(4), "it")
    assert np.array_equal([join.flat(one, "it") for one in join.of_each(masks, 4, "it")], CHOICES[1])


@pytest.mark.parametrize(
    ("actions", "masks", "says"),
    [
        (spaces.Discrete(5), np.ones((5, 4)), "not one for each of 4 envs"),
        (spaces.Discrete(4), tuple(CHOICES[1]), r"a tuple holds an array for each choice: \[4, 4\]"),
        (spaces.MultiDiscrete([4, 4, 4, 4]), tuple(CHOICES[1]), r"each choice: \[4, 4\], \[4, 4\], \[4, 4\], \[4, 4\]"),
        (spaces.MultiDiscrete([3, 4, 2]), tuple(CHOICES[::-1]), r"each choice: \[4, 3\], \[4, 4\], \[4, 2\]"),
        (spaces.MultiDiscrete([3, 4]), tuple(CHOICES), r"each choice: \[4, 3\], \[4, 4\]$"),
        (spaces.Discrete(4), 5, "it is 5.*, not one for each of 4"),
        (spaces.Discrete(4), {"a": 1, "b": 2, "c": 3, "d": 4}, "not one for each of 4"),
        (spaces.Discrete(4), "abcd", "not one for each of 4"),
    ],
)
def test_masks_of_a_batch_in_another_shape_are_refused(actions, masks, says):
    with pytest.raises(ApiError, match=says):
        Join(spaces.Box(0, 1, (2,)), actions, "it").of_each(masks, 4, "it is")


@pytest.mark.parametrize("kind", [MaskedCategorical(6), MaskedMultiCategorical((3, 3))])
def test_who_has_no_allowed_action_has_no_entropy_and_no_number_passes_a_mask(kind):
    allowed = torch.tensor([[0, 1, 0, 1, 1, 0], [0] * 6, [1] * 6]).bool()
    logits = torch.tensor([[7e20, -7e20, 3e9, -7e20, -8e20, 1.0], [0.0] * 6, [0.0] * 6])
    masked = only_allowed(logits, allowed)
    assert kind.entropy(masked)[1:].tolist() == pytest.approx([0, kind.max_entropy])
    choices = 2 if isinstance(kind, MaskedMultiCategorical) else 1
    uniform = torch.linspace(0, 0.999, 50)[:, None].expand(50, choices)
    drawn = kind.sample(masked[:1].expand(50, 6), uniform if choices == 2 else uniform[:, 0]).view(50, choices)
    assert allowed[0][drawn + torch.arange(choices) * 3].all()


def test_masks_in_info_are_passed_beside_the_observations_or_within_them():
    plain = Masked()
    obs, info = plain.reset(seed=3)
    with made({"where": "info"}) as env:
        rows = env.encode([obs, obs], [info["action_mask"]] * 2)
        whole = [{"observation": obs, "action_mask": info["action_mask"]}] * 2
        assert torch.equal(rows, env.encode(whole))
        assert allowed_actions(rows, env.observation).sum(1).tolist() == [3, 3]
        with pytest.raises(UsageError, match="masks of actions are in info: pass them as action_masks"):
            env.encode([obs])
    with (
        made({"where": "none"}) as env,
        pytest.raises(UsageError, match="masks of actions are not in info: pass no action_masks"),
    ):
        env.encode([obs], [info["action_mask"]])
