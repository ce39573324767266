"""`memexp play --gif` and `--mp4`: every environment that renders can be filmed, others say in one line why not."""

import re
from itertools import pairwise

import imageio_ffmpeg
import numpy as np
import pytest
from helpers.commands import type_command
from helpers.training import tiny_assembly
from PIL import Image

from memexp.config import override
from memexp.ppo.train import train
from memexp.recipes.any import train as any_recipe


def gif_frames(file):
    image = Image.open(file)
    frames = []
    for i in range(image.n_frames):
        image.seek(i)
        frames.append(np.asarray(image.convert("RGB")))
    return frames


def mp4_frames(file):
    reader = imageio_ffmpeg.read_frames(str(file))
    width, height = next(reader)["size"]
    return [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


@pytest.mark.parametrize(("kind", "read"), [("gif", gif_frames), ("mp4", mp4_frames)])
def test_an_environment_that_renders_is_filmed_to_its_last_step(capsys, tmp_path, kind, read):
    file = tmp_path / "deep" / "film"
    typed = type_command(capsys, "play", "module:helpers.third_party:Blinking", f"--{kind}", str(file))
    assert (typed.code, typed.out.strip()) == (0, str(file)), typed.err
    frames = read(file)
    assert [int(np.round(frame.mean() / 40)) for frame in frames] == list(range(6))  # start, and five steps
    assert [one.name for one in file.parent.iterdir()] == ["film"]


@pytest.mark.parametrize("env", ["gym:CartPole-v1", "module:helpers.third_party:BlinkingPair"])
def test_a_run_is_filmed_with_its_policy(capsys, tmp_path, env, home):
    small = {"trainer.total_timesteps": 64, "trainer.num_envs": 2, "trainer.horizon": 4, "trainer.num_minibatches": 1}
    small |= {"run": "r", "evaluation.random_episodes": 0, "wandb.mode": "disabled"}
    train(override(any_recipe(env=env, pattern="X", d_hidden=16), small))
    file = tmp_path / "film.gif"
    typed = type_command(capsys, "play", "r", "--max-steps", "5", "--greedy", "--gif", str(file))
    assert typed.code == 0, typed.err
    frames = gif_frames(file)
    assert len(frames) >= 3  # a GIF joins frames that are alike
    assert any((a != b).any() for a, b in pairwise(frames))


def test_a_grid_game_is_drawn_by_memexp(capsys, tmp_path, home):
    files = tmp_path / "film.gif", tmp_path / "film.mp4"
    train(tiny_assembly(run="r"))
    for target in (["r"], ["assembly_lines", "--player", "memory"], ["cvc_random_maps", "max_steps=12"]):
        words = [*target, "--max-steps", "12", "--gif", str(files[0]), "--mp4", str(files[1])]
        typed = type_command(capsys, "play", *words)
        assert typed.code == 0, typed.err
        assert {*typed.out.splitlines()[-2:]} == {str(file) for file in files}
        assert len(mp4_frames(files[1])) == 13
        assert len({frame.tobytes() for frame in gif_frames(files[0])}) > 1
        assert not (home / "replays").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tmaze", "tmaze cannot be rendered: --ascii prints its steps"),
        ("module:helpers.third_party:Counting", "Counting cannot be rendered: .*render_mode"),
        (
            'module:helpers.third_party:Blinking options={"how":"mode"}',
            "cannot be rendered: it has no render_mode 'rgb_array'",
        ),
        (
            'module:helpers.third_party:Blinking options={"how":"text"}',
            "cannot be rendered: render.. returns a str",
        ),
        ("module:helpers.third_party:Missing", "has no 'Missing'|has no attribute"),
        ("vec:CartPole-v1", "vec:CartPole-v1 cannot be rendered: it is a batch of environments"),
        ("gym:CartPole-v1 --mp4 film.gif", "--mp4 film.gif: the name of the file must end in .mp4"),
    ],
)
def test_what_cannot_be_filmed_is_one_clear_line(capsys, tmp_path, target, said):
    typed = type_command(capsys, "play", *target.split(), "--gif", str(tmp_path / "film"))
    assert typed.code == 2
    assert len(typed.err.splitlines()) == 1
    assert re.search(said, typed.err), typed.err
    assert not any(one.name.startswith((".", "film")) for one in tmp_path.iterdir())
