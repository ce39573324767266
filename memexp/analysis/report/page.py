"""The answer as one self-contained page for people, and as a paper's appendix: sentences first, then evidence."""

import os
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from memexp.analysis.figures import PICTURES
from memexp.analysis.figures.style import svg_of
from memexp.analysis.formatting import SYMBOLS, VERDICT_WORDS, file_name
from memexp.analysis.report.provenance import provenance
from memexp.analysis.report.sections import section, spent_words
from memexp.analysis.seeds import Environment, Seed
from memexp.runs import MAX_GAP, home
from memexp.runs.directory import write_atomically

Environments = dict[str, Environment]


def write_report(environments: Environments, answer: dict[str, Any], out: Path) -> Path:
    """Write the page to `out` (replaced atomically) and return its path. `answer` is about these environments."""
    content = _content(environments, answer)
    for one, environment in zip(content["sections"], environments.values(), strict=True):
        one["pictures"] = [
            {
                "name": picture.name,
                "title": picture.title,
                "caption": picture.caption,
                "svg": svg_of(picture, environment, one["judged"]),
                "alt": picture.alt(environment, one["judged"]),
            }
            for picture in PICTURES
            if picture.shown(environment, one["judged"])
        ]
    seeds = [seed for environment in environments.values() for seed in environment.seeds]
    return _write("report.html.j2", {**content, "replays": replays(seeds, Path(out))}, out)


def write_markdown(environments: Environments, answer: dict[str, Any], out: Path) -> Path:
    """Write the appendix to `out` (replaced atomically) and return its path."""
    return _write("report.md.j2", _content(environments, answer), out)


def replays(seeds: Sequence[Seed], out: Path) -> list[tuple[str, str]]:
    """(name, address relative to the page) of the replays of these runs that `memexp play` wrote."""
    pages = sorted((home() / "replays").glob("*.html"))
    runs = {file_name(seed.run) for seed in seeds}
    found = [page for page in pages if any(page.name.startswith(f"{run}.") for run in runs)]
    return [(page.stem, Path(os.path.relpath(page, Path(out).parent)).as_posix()) for page in found]


def _content(environments: Environments, answer: dict[str, Any]) -> dict[str, Any]:
    seeds = [seed for environment in environments.values() for seed in environment.seeds]
    arms = [arm for environment in environments.values() for arm in environment.arms.values()]
    records = [seed.provenance for seed in seeds]
    return {
        "matrix": answer["matrix"],
        "notes": answer.get("notes", []),
        "sections": [section(one, answer["environments"][name]) for name, one in environments.items()],
        "spent": spent_words(arms),
        "provenance": provenance(seeds),
        "command": next((shlex.join(map(str, one["argv"])) for one in records if one.get("argv")), None),
        "commit": next((one["commit"] for one in records if one.get("commit")), None),
        "limits": MAX_GAP,
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _ticks(text: str) -> Markup:
    """`words` in backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _cell(text: str) -> str:
    """Text that can stand in a table of Markdown."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def _write(template: str, content: dict[str, Any], out: Path) -> Path:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=template.endswith(".html.j2"), trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"symbols": SYMBOLS, "verdict_words": VERDICT_WORDS}
    environment.filters |= {"cell": _cell, "ticks": _ticks}
    out = Path(out)
    write_atomically(out, environment.get_template(template).render(content).encode())
    return out
