"""`memexp export`: an ONNX or TorchScript file, or a hub folder, does what the policy does, or nothing is written."""

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from helpers.commands import type_command
from helpers.third_party import Showing
from helpers.training import tiny, tiny_assembly, tiny_cvc
from test_loading import of

import memexp
from memexp import exporting
from memexp.config import UsageError, override
from memexp.cortex.stack import TOKEN_BLOCKS
from memexp.exporting import METADATA, export
from memexp.hub import card
from memexp.loading import LoadedPolicy
from memexp.ppo.config import TrainConfig
from memexp.ppo.train import train
from memexp.recipes.any import train as any_recipe

SMALL = {"cortex.d_hidden": 16, "cortex.num_layers": 1, "cortex.n_heads": 2, "cortex.mem_len": 2}
OWN = [f"helpers.own_cells:{name}" for name in ("GRU", "Leaky", "Nested")]
CLOSE = 1e-4
"""What float32 gives; ten times less than what the command accepts."""


def maze(pattern: str = "S", **words: object) -> TrainConfig:
    return override(tiny(), SMALL | {"cortex.pattern": pattern} | words)


def seen_and_done(seen: str = "vector", done: str = "choice", **words: object) -> TrainConfig:
    options = {"seen": seen, "done": done}
    return override(any_recipe(env="module:helpers.third_party:Showing", options=options), SMALL | words)


def about(path: Path) -> dict:
    return json.loads(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map[METADATA])


def written(policy: LoadedPolicy, folder: Path) -> Path:
    """The ONNX file of a policy, and beside it its TorchScript; both do what the policy does."""
    files = {kind: folder / kind for kind in exporting.FORMATS}
    assert max(export(policy, files).values()) < CLOSE
    return files["onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [*TOKEN_BLOCKS, "AgSA", *OWN])
def test_every_cell_is_exported(tmp_path, pattern):
    written(of(maze(pattern)), tmp_path)


@pytest.mark.parametrize(("pattern", "memory", "mem_len"), [("X", "on", 0), ("AgS", "off", 4), (OWN[0], "off", 4)])
def test_a_policy_without_memory_has_neither_resets_nor_a_state(tmp_path, pattern, memory, mem_len):
    policy = of(maze(pattern, **{"cortex.memory": memory, "cortex.mem_len": mem_len}))
    assert [one["name"] for one in about(written(policy, tmp_path))["inputs"]] == ["obs"]


@pytest.mark.slow
@pytest.mark.parametrize("seen", Showing.SEEN)
def test_every_observation_is_an_input(tmp_path, seen):
    file = written(of(seen_and_done(seen)), tmp_path)
    names = [one["name"] for one in about(file)["inputs"] if one["name"].startswith("obs")]
    several = {"dict": ["obs.a", "obs.b", "obs.c.d", "obs.c.e"], "tuple": ["obs.f0", "obs.f1", "obs.f2"]}
    assert names == several.get(seen, ["obs"])


@pytest.mark.slow
def test_texts_and_tokens_are_inputs_too(tmp_path):
    parted = of(override(any_recipe(env="module:helpers.third_party:Parted"), SMALL))
    assert about(written(parted, tmp_path))["inputs"][-4]["name"] == "obs.said"
    for config in (override(tiny_assembly(), SMALL), override(tiny_cvc(), SMALL)):  # one agent, and several
        assert about(written(of(config), tmp_path))["inputs"][0]["type"] == "uint8"


@pytest.mark.parametrize("done", [name for name in Showing.DONE if name != "dict"])
def test_actions_are_decoded_as_the_file_says(tmp_path, done):
    policy = of(seen_and_done(done=done))
    file = written(policy, tmp_path)
    obs = [Showing().reset(seed=i)[0] for i in range(5)]
    actions, _, _ = policy.act(obs, policy.init_state(5), greedy=True)
    session, told = onnxruntime.InferenceSession(file), about(file)
    given = {one["name"]: np.zeros([5, *one["shape"][1:]], one["type"]) for one in told["inputs"]}
    logits = session.run(["logits"], given | {"obs": np.stack(obs), "resets": np.ones(5, bool)})[0]
    how = told["actions"]
    if how["kind"] == "discrete":
        found = logits.argmax(-1) + how["first"]
    elif how["kind"] == "several discrete":
        found = np.stack([part.argmax(-1) for part in np.split(logits, np.cumsum(how["counts"])[:-1], -1)], -1)
    else:
        mean = np.split(logits, 2, -1)[0]
        ends = zip(how["low"], how["high"], strict=True)
        scaled = [
            (np.clip(one, -1, 1) + 1) / 2 * (high - low) + low if low is not None and high is not None else one
            for one, (low, high) in zip(mean.T, ends, strict=True)
        ]
        found = np.stack(scaled, -1)
    assert np.allclose(found, actions, atol=1e-4)


@pytest.mark.parametrize(
    ("cell", "kind", "said"),
    [
        ("Looking", "onnx", r"(own_cells.py, line \d+, if resets.any\(\):|Could not guard on data-dependent)"),
        ("Looking", "torchscript", r"(own_cells.py, line \d+, if resets.any\(\):|Could not guard on data-dependent)"),
        ("Unusual", "onnx", "bessel_j0 has no form in ONNX"),
        ("Fixing", "onnx", "a cell makes the number of rows a constant"),
    ],
)
def test_what_cannot_be_exported_is_named_and_nothing_is_written(tmp_path, cell, kind, said):
    policy = of(maze(f"helpers.own_cells:{cell}"))
    with pytest.raises(UsageError, match=f"the policy cannot be exported: .*{said}") as raised:
        export(policy, {kind: tmp_path / "policy"})
    assert "\n" not in str(raised.value)
    assert not any(tmp_path.iterdir())


def test_the_command_checks_the_file_and_writes_none_that_differs(home, capsys, monkeypatch, tmp_path):
    train(tiny(run="r", evaluation__random_episodes=0))
    file = tmp_path / "policy.onnx"
    typed = type_command(capsys, "export", "r", "--onnx", str(file), "--torchscript", str(tmp_path / "policy.pt"))
    assert typed.code == 0, typed.err
    told = [line.split("  ")[0] for line in typed.out.splitlines() if "largest difference" in line]
    assert told == [str(file), str(tmp_path / "policy.pt")]  # what the training said comes before
    assert typed.out.count("largest difference from the policy in 100 steps") == 2
    extra = {METADATA: ""}
    loaded = torch.jit.load(tmp_path / "policy.pt", _extra_files=extra)
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert json.loads(extra[METADATA]) == about(file)
    assert about(file)["agent_steps"] == 768
    file.unlink()
    monkeypatch.setattr(exporting, "BOUND", -1.0)
    typed = type_command(capsys, "export", "r", "--onnx", str(file))
    assert (typed.code, "is not written: it differs by" in typed.err, file.exists()) == (1, True, False)
    typed = type_command(capsys, "export", "r")
    assert (typed.code, "say what to write: --onnx FILE" in typed.err) == (2, True)


def test_a_hub_folder_is_loaded_has_a_card_and_no_credentials(home, capsys, tmp_path):
    config = tiny(run="r", evaluation__random_episodes=0, labels__matrix="m", wandb__entity="hf_" + 20 * "a")
    train(config)
    folder = tmp_path / "card"
    typed = type_command(capsys, "export", "r", "--hub", str(folder), "--episodes", "20")
    assert typed.code == 0, typed.err
    assert "hf upload USER/r " in typed.out
    assert {file.name for file in folder.iterdir()} == {"README.md", "config.yaml", "model.safetensors", "run.json"}
    assert not any(20 * b"a" in file.read_bytes() for file in folder.iterdir())
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["library_name"] == "memexp"
    result = card["model-index"][0]["results"][0]
    assert result["metrics"][0]["type"] == "mean_reward"
    assert "95 % interval" in text
    assert "## Does tmaze need memory?" in text
    found, run = memexp.load(folder), memexp.load("r")
    assert found.config.cortex == run.config.cortex
    assert found.policy().agent_steps == 768
    ours, theirs = found.policy().module.state_dict(), run.policy().module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "1 steps" in type_command(capsys, "play", str(folder), "--ascii", "--max-steps", "1").out
    typed = type_command(capsys, "export", "r", "--hub", str(folder))
    assert (typed.code, "exists and is not empty" in typed.err) == (2, True)
    (folder / "model.safetensors").write_bytes(b"half")
    typed = type_command(capsys, "eval", str(folder))
    assert (typed.code, "model.safetensors cannot be read" in typed.err) == (2, True)


@pytest.mark.parametrize(("where", "pattern"), [("info", "S"), ("part", "X")])
def test_a_model_card_says_what_the_policy_needs(home, tmp_path, where, pattern):
    config = any_recipe(env="module:helpers.third_party:Masked", options={"where": where})
    small = {"run": "r", "loggers": [], "trainer.total_timesteps": 128, "trainer.num_envs": 8, "trainer.horizon": 8}
    train(override(config, SMALL | small | {"cortex.pattern": pattern, "evaluation.random_episodes": 0}))
    run = memexp.load("r")
    text = card(run, run.policy(), 20)
    assert ('action_masks=[info["action_mask"]]' in text) == (where == "info")
    assert (f"mem_len {SMALL['cortex.mem_len']}" in text) == (pattern == "X")
    assert "`module:helpers.third_party:Masked` and the policy need more than memexp: the files of `helpers." in text
    assert re.search(
        r"mean return \| -?[\d.]+ over 20 episodes with held-out tasks \(95 % interval [\d.]+ to [\d.]+\)", text
    )


@pytest.mark.parametrize("where", ["info", "part"])
def test_an_action_mask_is_an_input_of_its_own(tmp_path, where):
    config = override(any_recipe(env="module:helpers.third_party:Masked", options={"where": where}), SMALL)
    file = written(of(config), tmp_path)
    (mask,) = [one for one in about(file)["inputs"] if one["name"] == "action_mask"]
    assert (mask["type"], mask["shape"]) == ("int8", ["N", 6])
    session = onnxruntime.InferenceSession(file)
    given = {one["name"]: np.zeros([2, *one["shape"][1:]], one["type"]) for one in about(file)["inputs"]}
    allowed = np.array([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]], mask["type"])
    logits = session.run(["logits"], given | {"action_mask": allowed})[0]
    assert ((logits > -1e8) == (allowed != 0)).all()
