"""`memexp.load` and `memexp eval`: what was trained acts as it did, on observations as the environment gives them."""

import json
import re
import shutil
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from helpers.commands import type_command
from helpers.third_party import Parted, Showing
from helpers.training import tiny, tiny_assembly

import memexp
from memexp import envs
from memexp.config import UsageError, override
from memexp.loading import LoadedPolicy
from memexp.policy.model import Policy
from memexp.ppo.config import TrainConfig
from memexp.ppo.train import train
from memexp.recipes.any import train as any_recipe

N, ROOT = 3, Path(__file__).parents[1]


def untrained(seen="vector", done="choice", **words) -> LoadedPolicy:
    """A policy with weights at random for `Showing`."""
    options = {"seen": seen, "done": done}
    config = any_recipe(env="module:helpers.third_party:Showing", options=options, pattern="S", d_hidden=16)
    return of(override(config, {"cortex.n_heads": 2, **words}))


def of(config: TrainConfig) -> LoadedPolicy:
    torch.manual_seed(0)
    with closing(envs.build(config.env.model_copy(update={"backend": "serial"}), 1)) as env:
        weights = Policy(env.observation, env.actions, config.cortex, config.policy).state_dict()
    return LoadedPolicy(config, 0, weights)


@pytest.mark.parametrize("seen", Showing.SEEN)
def test_a_batch_of_gymnasium_and_a_list_of_observations_are_the_same(seen):
    policy = untrained(seen)
    vector = SyncVectorEnv([lambda: Showing(seen)] * N, autoreset_mode=AutoresetMode.SAME_STEP)
    obs, _ = vector.reset(seed=1)
    single = [Showing(seen).reset(seed=1 + i)[0] for i in range(N)]
    batched, listed = (policy.act(one, policy.init_state(N), greedy=True) for one in (obs, single))
    assert np.array_equal(batched[2].value, listed[2].value)
    assert len({*batched[2].value.tolist()}) > 1
    vector.step(batched[0])


@pytest.mark.parametrize("done", [name for name in Showing.DONE if name != "dict"])
@pytest.mark.parametrize("greedy", [False, True])
def test_actions_are_those_of_the_action_space(done, greedy):
    policy, space = untrained(done=done), Showing.DONE[done]
    actions, _, info = policy.act([Showing().reset(seed=i)[0] for i in range(N)], policy.init_state(N), None, greedy)
    assert len(actions) == N
    for action in actions:
        assert space.contains(np.asarray(action, space.dtype) if isinstance(space, gymnasium.spaces.Box) else action)
    if isinstance(space, gymnasium.spaces.Box):
        assert np.array(info.mean).shape == np.array(info.std).shape == (N, 2)
        assert info.probabilities is None
    else:
        several = info.probabilities if isinstance(info.probabilities, list) else [info.probabilities]
        assert all(np.allclose(np.sum(one, -1), 1) for one in several)  # type: ignore[arg-type]
    assert [one.shape for one in info.hidden] == [(N, 16)]


def test_memory_is_carried_cleared_by_resets_and_absent_in_a_twin():
    policy = untrained()
    shown = [[Showing().reset(seed=10 * t + i)[0] for i in range(N)] for t in range(4)]
    state, values = policy.init_state(N), []
    for obs in shown:
        _, state, info = policy.act(obs, state)
        values.append(info.value)
    rows = torch.stack([policy.env.encode(obs) for obs in shown], 1)
    with torch.no_grad():
        _, sequence, _ = policy.module(rows, policy.init_state(N), torch.zeros(N, 4, dtype=torch.bool))
    assert np.allclose(np.stack(values, 1), sequence, atol=1e-5)
    fresh = policy.act(shown[0], policy.init_state(N))[2].value
    again = policy.act(shown[0], state, [True, True, False])[2].value
    assert np.allclose(again[:2], fresh[:2], atol=1e-6)
    assert abs(again[2] - fresh[2]) > 1e-5
    assert untrained(**{"cortex.memory": "off"}).init_state(N) == {}


def test_draws_can_be_seeded_and_a_wrong_observation_is_named():
    policy, obs = untrained(), [Showing().reset(seed=i)[0] for i in range(N)]
    drawn = []
    for _ in range(2):
        policy.seed(5)
        drawn.append([policy.act(obs, policy.init_state(N))[0].tolist() for _ in range(20)])
    assert drawn[0] == drawn[1]
    assert len({str(one) for one in drawn[0]}) > 1
    with pytest.raises(UsageError, match=r"number 1 of .*not in its observation_space"):
        policy.act([obs[0], "north"], policy.init_state(2))
    parted = of(any_recipe(env="module:helpers.third_party:Parted", pattern="S", d_hidden=16))
    with pytest.raises(UsageError, match=r"number 0 of .*lacks 'cue'"):
        parted.act([{key: part for key, part in Parted().reset()[0].items() if key != "cue"}], parted.init_state(1))


@pytest.mark.parametrize("mode", ["SAME_STEP", "ended"])
def test_the_loops_of_the_docs_run_and_clear_the_memory_where_episodes_begin(mode, monkeypatch):
    text = (ROOT / "docs" / "trained-policies.md").read_text()
    loops = [
        code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "policy.act" in code and mode in code
    ]
    policy, begun = small("gym:CartPole-v1"), []

    def act(obs, state, resets, ended=None):
        assert all(abs(obs[resets]).max(1) <= 0.05)  # where CartPole begins
        begun.append(resets.sum())
        return LoadedPolicy.act(policy, obs, state, resets, ended=ended)

    monkeypatch.setattr(policy, "act", act)
    exec("import gymnasium\nimport numpy as np\n" + loops[0].replace("500", "60"), {"policy": policy})
    assert sum(begun) > 8


def small(env: str, **knobs: object) -> LoadedPolicy:
    return of(override(any_recipe(env=env, pattern="S", d_hidden=16, **knobs), {"cortex.n_heads": 2}))


MASKED = "module:helpers.third_party:Masked"
ONES, NONE = np.ones(6, np.int8), np.zeros(6, np.int8)


@pytest.mark.parametrize(
    ("obs", "says"),
    [
        (np.zeros((N, 4)), r"observations have shape \[3, 4\]; expected numbers \[N, 5\]"),
        (np.zeros(5), r"observations have shape \[5\]; expected numbers \[N, 5\]"),
        ([np.zeros(5), np.zeros(4)], r"neither an array nor a list of N alike arrays; expected numbers \[N, 5\]"),
        ("north", r"neither an array nor a list"),
        (np.full((N, 5), np.nan), r"observation 0 holds nan; expected numbers \[N, 5\], finite"),
        ([np.zeros(5), np.full(5, np.inf)], r"observation 1 holds inf"),
    ],
)
def test_a_wrong_observation_of_our_environments_is_told_with_what_is_expected(obs, says):
    policy = of(tiny())
    with pytest.raises(UsageError, match=says):
        policy.act(obs, policy.init_state(N))


def test_bytes_are_no_other_numbers():
    policy = of(tiny_assembly())
    rows = np.zeros((2, policy.env.observation.num_tokens, 3))
    policy.act(rows, policy.init_state(2))
    rows[1, 2, 0] = 256
    with pytest.raises(UsageError, match=r"observation 1 holds 256.*expected bytes \[N, \d+, 3\]"):
        policy.act(rows, policy.init_state(2))


def test_numbers_of_another_width_are_taken():
    policy, obs = of(tiny()), np.random.default_rng(0).normal(size=(N, 5))
    ours = [policy.act(one, policy.init_state(N), greedy=True)[2].value for one in (obs, obs.astype(np.float32))]
    assert np.array_equal(*ours)


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_a_state_or_resets_of_other_agents_are_refused(kind):
    policy = of(tiny()) if kind == "ours" else untrained()
    obs = np.zeros((N, 5)) if kind == "ours" else [Showing().reset(seed=i)[0] for i in range(N)]
    for state, says in (({}, "none of this policy"), (None, "none of this policy"),
                        (policy.init_state(2), r"that of 2 agents, not of 3: init_state\(3\)")):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            policy.act(obs, state)
    for resets in ([True], [[True] * N], [True] * 4):
        with pytest.raises(UsageError, match=r"resets have shape .*; expected \[3\]"):
            policy.act(obs, policy.init_state(N), resets)
    for resets in ("abc", [None] * N, [2.0, 0.0, 1.0], [np.nan] * N, {}):
        with pytest.raises(UsageError, match=r"resets (are|hold)"):
            policy.act(obs, policy.init_state(N), resets)
    for change, says in (
        (lambda leaf: leaf.numpy(), "is ndarray; expected a tensor of torch.float32"),
        (lambda leaf: leaf.double(), "is torch.float64; expected a tensor of torch.float32"),
        (lambda leaf: leaf[..., :1], r"has shape \[3, .*1\]; expected \[3, "),
        (lambda leaf: leaf.sum(), r"has shape \[\]; expected \[3, "),
    ):
        with pytest.raises(UsageError, match=says):
            policy.act(obs, {name: change(leaf) for name, leaf in policy.init_state(N).items()})
    with pytest.raises(UsageError, match="observations"):
        policy.act([], policy.init_state(N))
    for n in (0, -1, 2.5, "a", None):
        with pytest.raises(UsageError, match="a number of agents, 1 or more, is expected"):
            policy.init_state(n)
    for seed in (1.5, "a", 2**64):
        with pytest.raises(UsageError, match="is no whole number of 64 bits"):
            policy.seed(seed)
    policy.seed(np.int64(7))


def test_a_reset_replaces_the_memory_whatever_it_held():
    policy, obs = of(tiny()), np.zeros((N, 5))
    broken = {name: torch.full_like(leaf, torch.nan) for name, leaf in policy.init_state(N).items()}
    value = policy.act(obs, broken, [True] * N)[2].value
    assert np.array_equal(value, policy.act(obs, policy.init_state(N))[2].value)


@pytest.mark.parametrize(
    ("options", "masks", "says"),
    [
        ({"where": "info"}, [ONES, NONE], "number 1 of the batch allows no action"),
        ({"where": "info"}, [ONES], r"action_masks is .*, not one for each of 2 envs"),
        ({"where": "info"}, [ONES, ONES[:3]], "number 1 of the batch is in info the action_mask .* not 6 numbers"),
        ({"where": "info", "several": True}, [(ONES, ONES), (ONES, NONE)], "number 1 of the batch allows no action"),
        (
            {"where": "info", "several": True},
            (ONES, ONES),
            r"each choice: \[2, 6\], \[2, 6\]",
        ),
        ({"where": "info"}, 5, "action_masks is 5, not one for each of 2"),
        ({"where": "part"}, [ONES, NONE], "number 1 of the batch allows no action"),
        ({"where": "tuple", "several": True}, [(ONES, ONES), (ONES, NONE)], "number 1 of the batch allows no action"),
        ({"where": "part"}, None, "number 0 of the batch is .*lacks 'action_mask'"),
        ({"where": "tuple", "several": True}, None, "number 0 of the batch is .*lacks 'action_mask'"),
    ],
)
def test_wrong_masks_are_refused_when_a_policy_acts(options, masks, says):
    policy, shown = small(MASKED, options=options), np.zeros((2, 3), np.float32)
    if options["where"] == "info":
        obs, given = [*shown], {"action_masks": masks}
    else:
        obs = [
            {"seen": one} | ({"action_mask": mask} if masks else {})
            for one, mask in zip(shown, masks or [0, 0], strict=True)
        ]
        given = {}
    with pytest.raises(UsageError, match=says):
        policy.act(obs, policy.init_state(2), **given)
    if not given:
        with pytest.raises(UsageError, match="is no batch of"):
            policy.act({"other": shown}, policy.init_state(2))


@pytest.mark.parametrize("where", ["info", "part", "tuple"])
def test_the_mask_of_a_last_observation_may_allow_nothing(where):
    policy = small(MASKED, options={"where": where})
    shown = np.zeros((2, 3), np.float32)
    obs = [*shown] if where == "info" else [{"seen": shown[0], "action_mask": mask} for mask in (ONES, NONE)]
    for last in (NONE, None) if where == "info" else (NONE,):
        given = {"action_masks": [ONES, last]} if where == "info" else {}
        _, _, thought = policy.act(obs, policy.init_state(2), ended=[False, True], **given)
        assert thought.probabilities[1] == pytest.approx(np.full(6, 1 / 6))  # nobody plays it
        with pytest.raises(UsageError, match=r"number 0 of the batch|number 1 of the batch"):
            policy.act(obs, policy.init_state(2), ended=[True, False], **given)
    with pytest.raises(UsageError, match=r"ended have shape \[1\]; expected \[2\]"):
        policy.act(obs, policy.init_state(2), ended=[True], **given)


def test_masks_of_a_batch_are_taken_as_one_array_and_refused_where_there_are_none():
    policy, shown = small(MASKED, options={"where": "info"}), np.zeros((2, 3), np.float32)
    masks = np.eye(6, dtype=np.int8)[[2, 4]]
    assert policy.act(shown, policy.init_state(2), action_masks=masks)[0].tolist() == [2, 4]
    several = small(MASKED, options={"where": "info", "several": True})
    drawn, *_ = several.act(shown, several.init_state(2), action_masks=(masks, masks[::-1]))
    assert drawn.tolist() == [[2, 4], [4, 2]]
    maze = of(tiny())
    with pytest.raises(UsageError, match="this environment has no masks of actions: pass no action_masks"):
        maze.act(np.zeros((2, 5)), maze.init_state(2), action_masks=masks)


@pytest.fixture
def run(home):
    train(tiny(run="r", evaluation__episodes=5))
    return memexp.load("r")


def test_a_run_is_loaded_by_name_or_path_with_what_it_measured(run, home):
    assert memexp.load(home / "runs" / "r").config == run.config == TrainConfig.parse(run.run.config, "r")
    assert run.metrics["agent_steps"].to_list() == [128 * n for n in range(1, 7)]
    assert {"episode/return", "sps"} <= {*run.metrics.columns}
    assert {"return", "length", "agent_steps"} <= {*run.episodes.columns}
    assert run.policy().agent_steps == 128 * 6
    with pytest.raises(UsageError, match="there is no run 'rr'; did you mean 'r'"):
        memexp.load("rr")
    with pytest.raises(UsageError, match=r"holds no run: a run's directory has a config.yaml and a run.json"):
        memexp.load(home)


def test_eval_is_the_evaluation_of_the_run_and_knobs_change_the_environment(run, capsys):
    last = run.metrics["eval/return"].drop_nulls()[-1]
    found = json.loads(type_command(capsys, "eval", "r", "--episodes", "5", "--json").out)
    assert found["return"]["mean"] == pytest.approx(last)
    assert found["agent_steps"] == 128 * 6
    low, high = found["return"]["interval"]
    assert low <= last <= high
    short = json.loads(type_command(capsys, "eval", "r", "length=1", "--episodes", "5", "--json").out)
    assert short["length"]["mean"] < found["length"]["mean"]
    typed = type_command(capsys, "eval", "r", "--env", "chain_recall")
    assert (typed.code, "another observation than the run's: VectorSpace" in typed.err) == (2, True)
    assert json.loads(type_command(capsys, "eval", "r", "--episodes", "1", "--json").out)["return"]["interval"] is None
    assert type_command(capsys, "eval", "r", "--episodes", "5").out.startswith("r after 768 agent steps, 5 episodes\n")
    shutil.rmtree(run.run.checkpoints)
    for words, said in (
        (["r"], "run 'r': there is no checkpoint: it has written none yet"),
        (["r", "lenght=1"], "did you mean 'length'"),
        (["q"], "there is no run 'q'"),
        (["r", "s"], "'s' is not KEY=VALUE"),
    ):
        typed = type_command(capsys, "eval", *words)
        assert (typed.code, said in typed.err) == (2, True), typed.err
