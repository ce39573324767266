"""`memexp play`: finds the run or environment, records an episode and shows it."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from errno import EISDIR, ENOTDIR
from pathlib import Path
from typing import Any

from memexp.config import UsageError
from memexp.console import Console
from memexp.envs.config import ThirdParty
from memexp.envs.grid.vec_env import GridEnv
from memexp.loading import LoadedRun
from memexp.replay.page import write_page
from memexp.replay.record import Recording, record
from memexp.replay.steps import episode_lines
from memexp.replay.target import Options, Subject, find_subject
from memexp.replay.terminal import STEPS_PER_S, recording_bar, show_episode
from memexp.replay.video import (
    at_random,
    by_policy,
    drawn,
    ffmpeg,
    frames_per_second,
    renderable,
    rendered,
    write_video,
)
from memexp.runs import home


class ReplayError(RuntimeError):
    """The episode cannot be shown; the message says why."""


def play(
    words: list[str], options: Options, max_steps: int | None, out: Path | None, ascii: bool,
    videos: Mapping[str, Path], console: Console, remarks: Console,
) -> None:  # fmt: skip
    """Play one episode of `[TARGET, KEY=VALUE ...]`: with `ascii` as text, with `videos` ("mp4" or "gif" -> file) as
    videos, without both or with `out` as a page.

    Raises UsageError for wrong words or options or a run without a checkpoint, and ReplayError if a file cannot be
    written. Where possible this is checked before the episode is played.
    """
    for kind, file in videos.items():
        if file.suffix.lower() not in ("", f".{kind}"):
            raise UsageError(f"--{kind} {file}: the name of the file must end in .{kind}")
    subject, remark = find_subject(words, options)
    if remark:
        remarks.print(remark)
    if "mp4" in videos:
        ffmpeg()
    if not isinstance(subject.env, GridEnv):
        if out or ascii or not videos:
            _print_steps(subject, max_steps, out, ascii, console)
        for kind, file in videos.items():
            _film(subject, options, max_steps, kind, file)
            console.print(file, soft_wrap=True)
        return
    if out is None and not ascii and not videos:
        out = home() / "replays" / f"{_file_name(subject.facts)}.html"
    for file in (*([out] if out else []), *videos.values()):
        with _writing(file):
            _check_place(file)
    with recording_bar(remarks, "recording") as progress:
        recording = record(subject.env, subject.actor, max_steps, progress)
    title = subject.facts | subject.task()
    if ascii:
        show_episode(recording, console, title_text(title))
    console.print(summary(recording), soft_wrap=True)
    if out is not None:
        with _writing(out):
            write_page(recording, title, out)
        console.print(out, soft_wrap=True)
    for kind, file in videos.items():
        with _writing(file):
            write_video(drawn(recording), file, kind, STEPS_PER_S)
        console.print(file, soft_wrap=True)


def _film(subject: Subject, options: Options, max_steps: int | None, kind: str, file: Path) -> None:
    """Write a video of an episode that the environment itself renders."""
    config, seed = subject.config, subject.facts["seed"]
    if not isinstance(config, ThirdParty):
        raise UsageError(f"{config.name} cannot be rendered: --ascii prints its steps")
    with closing(renderable(config)) as env, _writing(file):
        _check_place(file)
        if subject.run:
            act = by_policy(LoadedRun(subject.run).policy(trust=options.trust), options.greedy)
        else:
            act = at_random(env, seed)
        write_video(rendered(env, config, act, seed, max_steps), file, kind, frames_per_second(env))


def _print_steps(subject: Subject, max_steps: int | None, out: Path | None, ascii: bool, console: Console) -> None:
    """Print an episode of an environment without a map."""
    if out is not None or not ascii:
        name = subject.facts["knobs"].get("id", subject.facts["environment"])
        raise UsageError(f"{name} has no map, so there is no page of it; --ascii, without --out, prints its steps")
    console.print(title_text(subject.facts))
    for line in episode_lines(subject.env, subject.actor, max_steps):
        console.print(line, soft_wrap=True)


def title_text(title: dict[str, Any]) -> str:
    """Who plays what, in one line."""
    run = f" of {title['run']} at {title['checkpoint']:,} agent steps" if "run" in title else ""
    words = [title["environment"], f"{title['player']}{run}", f"seed {title['seed']}"]
    if "task" in title:
        words.append(f"task {title['task']}" + (" (held out)" if title["held_out"] else ""))
    words += [f"{name} {value}" for name, value in title.get("task_facts", {}).items()]
    return ", ".join([*words, *(f"{key}={value}" for key, value in title["knobs"].items())])


def summary(recording: Recording) -> str:
    """The result of the episode, in one line."""
    facts, returns = recording.facts, recording.frame(recording.last)["return"]
    reached = [sum(first >= 0 for first in agents) for agents in zip(*facts["milestones"], strict=True)]
    furthest = max((m for m, count in enumerate(reached) if count), default=None)
    agents = facts["agents"]
    mean = f"mean return {returns.mean():.3f} of {agents} agents" if agents > 1 else f"return {returns[0]:.3f}"
    if furthest is None:
        return f"{recording.last} steps, {mean}; no milestone was reached"
    share = f" ({reached[furthest]} of {agents} agents)" if agents > 1 else ""
    return f"{recording.last} steps, {mean}; furthest milestone: {facts['funnel'][furthest]}{share}"


def _file_name(facts: dict[str, Any]) -> str:
    """Target, policy and seed, such as 'level-0.S.policy.s3'."""
    return re.sub(r"[^-_.A-Za-z0-9]+", "-", f"{facts['target']}.{facts['player']}.s{facts['seed']}")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turns an OSError into a ReplayError that names the file."""
    try:
        yield
    except OSError as error:
        raise ReplayError(f"cannot write {out}: {error.strerror}") from None


def _check_place(out: Path) -> None:
    """Make the folder of a file. Raises OSError if the file cannot be written there."""
    if out.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR)) from None
