"""`memexp init`: writes a small project of the user's own, which runs at once."""

import os
import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from memexp.config import UsageError, did_you_mean
from memexp.console import say

RENAMED = {"gitignore": ".gitignore"}
KEPT = ("README.md", ".gitignore")
"""Files that the project can do without: those of the user stay, and the rest is written."""


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write; it may exist.")] = Path(),
    matrix: Annotated[
        str | None,
        typer.Option(help="Write only experiments/NAME.yaml, one of `memexp list matrices`.", metavar="NAME"),
    ] = None,
) -> None:
    """Write a small project that runs at once: environment, memory cell, recipe and matrix. Overwrites nothing."""
    if matrix is not None:
        from memexp.cli.listing import matrix_files

        if matrix not in (known := matrix_files()):
            raise UsageError(f"--matrix: memexp has no '{matrix}'{did_you_mean(matrix, known)}")
        first, targets = f"experiments/{matrix}.yaml", {folder / "experiments" / f"{matrix}.yaml": known[matrix]}
    else:
        templates = [file for file in files("memexp").joinpath("template").iterdir() if file.is_file()]
        targets = {folder / RENAMED.get(file.name, file.name): file.read_text("utf-8") for file in templates}
        first = "experiments.yaml"
    there = sorted(target for target in targets if os.path.lexists(target))
    if needed := [str(target) for target in there if target.name not in KEPT]:
        verb = "exist" if needed[1:] else "exists"
        raise UsageError(f"{', '.join(needed)} {verb} already: nothing was written; name another folder")
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "memexp-project"
    for target, text in sorted(targets.items()):
        if target in there:
            say(f"{target} is kept as it is" + "; memexp_home/ belongs in it" * (target.name == ".gitignore"))
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text.replace("memexp-project", name))
        say(str(target))
    say(f"{'' if folder == Path() else f'cd {shlex.quote(str(folder))} && '}memexp launch {first} --local")
