"""An episode as a video: MP4 through imageio-ffmpeg, GIF through Pillow.

Grid games are drawn here. Environments of Gymnasium and PettingZoo draw themselves (`render_mode="rgb_array"`).
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from memexp.config import UsageError
from memexp.envs.config import ThirdParty
from memexp.envs.puffer import masks
from memexp.envs.puffer.source import is_batched, is_parallel, make_one, step_limit
from memexp.loading import LoadedPolicy
from memexp.replay.record import NO_ACTION, Frame, Recording
from memexp.replay.terminal import FOLLOWED, STEPS_PER_S, action_name

SIDE = 720
"""Longest side of a drawn map, pixels."""
FLOOR, WALL, AGENT, OTHER, INK = "#f7f6f2", "#5f6670", "#111111", "#6b7280", "#111111"
VIEW = 5
"""Cells that an agent sees on each side."""

Act = Callable[[dict[Any, Any], bool], dict[Any, Any]]
"""(agent -> observation, whether the episode begins) -> agent -> action."""


def write_video(frames: Iterator[np.ndarray], path: Path, kind: str, fps: float) -> None:
    """Write frames, uint8 `[height, width, 3]` of one size, as "mp4" or "gif". Raises OSError; no half file stays."""
    part = path.with_name(f".{path.name}.part")
    try:
        _write_gif(frames, part, fps) if kind == "gif" else _write_mp4(frames, part, fps)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_gif(frames: Iterator[np.ndarray], path: Path, fps: float) -> None:
    pictures = map(Image.fromarray, frames)
    duration = max(20, round(1000 / fps))  # milliseconds; browsers show a shorter one more slowly
    next(pictures).save(path, "GIF", save_all=True, append_images=pictures, duration=duration, loop=0)


def _write_mp4(frames: Iterator[np.ndarray], path: Path, fps: float) -> None:
    writer = None
    for frame in frames:
        if writer is None:
            height, width, _ = frame.shape
            mp4 = ["-f", "mp4"]  # the name has no suffix that says so
            writer = ffmpeg().write_frames(path, (width, height), fps=fps, macro_block_size=2, output_params=mp4)
            writer.send(None)
        writer.send(np.ascontiguousarray(frame))
    if writer is not None:
        writer.close()


def ffmpeg() -> Any:
    """imageio_ffmpeg, which contains ffmpeg. Raises UsageError where it is not installed."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UsageError("--mp4 needs imageio-ffmpeg: pip install 'memexp[video]'; --gif needs nothing") from None
    return imageio_ffmpeg


def drawn(recording: Recording) -> Iterator[np.ndarray]:
    """The frames of a grid game: the map, its objects and agents, and a line about the followed agent above."""
    facts = recording.facts
    rows, columns = len(facts["map"]), len(facts["map"][0])
    s = max(4, min(40, SIDE // max(rows, columns)))
    head = 28
    size = max(columns * s, 320), rows * s + head
    ground = Image.new("RGB", size, FLOOR)
    draw = ImageDraw.Draw(ground)
    for row, line in enumerate(facts["map"]):
        for column, cell in enumerate(line):
            if cell == "#":
                draw.rectangle(_square((row, column), s, head, 0), WALL)
    for kind, cell, _ in facts["objects"]:
        _draw_object(draw, facts["types"][kind], _square(divmod(cell, columns), s, head, 0.08), s)
    font = ImageFont.load_default(14)
    for step in range(recording.last + 1):
        image, frame = ground.copy(), recording.frame(step)
        draw = ImageDraw.Draw(image)
        draw.text((8, 6), _caption(facts, frame, step, recording.last), INK, font)
        places = [divmod(cell, columns) for cell in frame["cell"].tolist()]
        for agent, place in reversed(list(enumerate(places))):  # the followed one is drawn on top
            box = _square(place, s, head, 0.14)
            draw.ellipse(box, AGENT if agent == FOLLOWED else OTHER, "white")
            if len(places) > 1 and s >= 12:
                _centred(draw, box, str(agent), "white", 0.5 * s)
        row, column = places[FOLLOWED]
        top, left = (row - VIEW) * s + head, (column - VIEW) * s
        draw.rectangle((left, max(head, top), left + (2 * VIEW + 1) * s, top + (2 * VIEW + 1) * s), None, "#0072b2")
        yield np.asarray(image)


def _square(place: tuple[int, int], s: int, head: int, margin: float) -> tuple[float, float, float, float]:
    """A cell of `s` pixels below a head: left, top, right, bottom."""
    (row, column), m = place, margin * s
    return column * s + m, row * s + head + m, (column + 1) * s - m - 1, (row + 1) * s + head - m - 1


def _draw_object(draw: ImageDraw.ImageDraw, look: dict[str, Any], box: tuple[float, ...], s: int) -> None:
    left, top, right, bottom = box
    middle, centre = (left + right) / 2, (top + bottom) / 2
    if look["shape"] == "diamond":
        draw.polygon([(middle, top), (right, centre), (middle, bottom), (left, centre)], look["color"], INK)
    elif look["shape"] == "hexagon":
        draw.regular_polygon((middle, centre, (right - left) / 2), 6, 0, look["color"], INK)
    elif look["shape"] == "cross":
        draw.line((left, top, right, bottom), look["color"], max(2, s // 6))
        draw.line((left, bottom, right, top), look["color"], max(2, s // 6))
        return
    else:
        draw.rectangle(box, look["color"], INK)
    label = "H" if look["label"] == "\u2665" else look["label"]  # the font has no heart
    _centred(draw, box, label, "white" if look["shape"] == "square" else INK, 0.6 * s)


def _centred(draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str, color: str, size: float) -> None:
    left, top, right, bottom = box
    draw.text(((left + right) / 2, (top + bottom) / 2), text, color, ImageFont.load_default(size), anchor="mm")


def _caption(facts: dict[str, Any], frame: Frame, step: int, last: int) -> str:
    action = int(frame["action"][FOLLOWED])
    did = "" if action == NO_ACTION else f"   {action_name(facts, action)}"
    return f"step {step} of {last}   mean return {frame['return'].mean():.2f}{did}"


def renderable(config: ThirdParty) -> Any:
    """The environment, which renders images. Raises UsageError if it does not."""
    if is_batched(config):
        raise UsageError(f"{config.id} cannot be rendered: it is a batch of environments, which draw no pictures")
    for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):  # pygame looks for a screen and speakers otherwise
        os.environ.setdefault(driver, "dummy")
    try:
        env = make_one(config.model_copy(update={"options": {**config.options, "render_mode": "rgb_array"}}))
    except UsageError as error:
        make_one(config).close()  # another error than about render_mode is raised again
        raise UsageError(f"{config.id} cannot be rendered: {error}") from None
    if getattr(env, "render_mode", None) != "rgb_array":
        env.close()
        raise UsageError(f"{config.id} cannot be rendered: it has no render_mode 'rgb_array'")
    return env


def rendered(env: Any, config: ThirdParty, act: Act, seed: int, max_steps: int | None) -> Iterator[np.ndarray]:
    """The frames of one episode of a Gymnasium or PettingZoo environment; every agent that lives acts."""
    agents, limit = is_parallel(env), max_steps or step_limit(config, env)
    obs, _ = env.reset(seed=seed)
    yield _image(env, config)
    for step in range(limit):
        chosen = act(obs if agents else {None: obs}, step == 0)
        if agents:
            obs, *_ = env.step({agent: chosen[agent] for agent in env.agents})
            over = not env.agents
        else:
            obs, _, terminated, truncated, _ = env.step(chosen[None])
            over = bool(terminated or truncated)
        yield _image(env, config)
        if over:
            return


def _image(env: Any, config: ThirdParty) -> np.ndarray:
    image = env.render()
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"{config.id} cannot be rendered: render() returns a {type(image).__name__}, not an image")
    return np.asarray(image, np.uint8)


def frames_per_second(env: Any) -> float:
    return float(env.metadata.get("render_fps") or STEPS_PER_S)


def by_policy(policy: LoadedPolicy, greedy: bool) -> Act:
    """The policy of a run, one row of memory for each agent. A finished agent keeps its last observation."""
    last: dict[Any, Any] = {}
    state: Any = None

    def act(obs: dict[Any, Any], begins: bool) -> dict[Any, Any]:
        nonlocal state
        last.update(obs)
        state = policy.init_state(len(last)) if begins else state
        actions, state, _ = policy.act([*last.values()], state, greedy=greedy)
        return dict(zip(last, actions, strict=True))

    return act


def at_random(env: Any, seed: int) -> Act:
    """Uniformly random actions, of those that are allowed."""
    spaces: dict[Any, gymnasium.Space] = {}

    def act(obs: dict[Any, Any], begins: bool) -> dict[Any, Any]:
        for i, agent in enumerate(obs):
            if agent not in spaces:
                spaces[agent] = env.action_space(agent) if agent is not None else env.action_space
                spaces[agent].seed(seed + i)
        return {agent: masks.sample(spaces[agent], masks.mask_in(one)) for agent, one in obs.items()}

    return act
