"""The answer as one self-contained page, and as the appendix of a paper: sentences first, then evidence."""

import os
import re
import shlex
import time
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from memexp.analysis.answer import Answer
from memexp.analysis.figures import PICTURES
from memexp.analysis.figures.style import svg_of
from memexp.analysis.formatting import SYMBOLS, file_name
from memexp.analysis.report.provenance import provenance
from memexp.analysis.report.sections import section, spent_text
from memexp.credentials import mask
from memexp.runs import MAX_GAP, home
from memexp.runs.directory import write_atomically


def write_report(answer: Answer, out: Path) -> Path:
    """Write the page to `out` (replaced atomically) and return its path."""
    content = _content(answer)
    for one in content["sections"]:
        shown = [picture for picture in PICTURES if picture.shown(one["answer"])]
        one["pictures"] = [(picture, svg_of(picture, one["answer"]), picture.alt(one["answer"])) for picture in shown]
    return _write("report.html.j2", {**content, "replays": replays(answer, Path(out))}, out)


def write_markdown(answer: Answer, out: Path) -> Path:
    """Write the appendix to `out` (replaced atomically) and return its path."""
    return _write("report.md.j2", _content(answer), out)


def replays(answer: Answer, out: Path) -> list[tuple[str, str]]:
    """(name, address relative to the page) of the replays that `memexp play` wrote for these runs."""
    pages = sorted((home() / "replays").glob("*.html"))
    runs = {file_name(seed.run) for one in answer.environments.values() for seed in one.environment.seeds}
    found = [page for page in pages if any(page.name.startswith(f"{run}.") for run in runs)]
    return [(page.stem, Path(os.path.relpath(page, Path(out).parent)).as_posix()) for page in found]


def _content(answer: Answer) -> dict[str, Any]:
    answers = answer.environments.values()
    seeds = [seed for one in answers for seed in one.environment.seeds]
    records = [seed.provenance for seed in seeds]
    return {
        "matrix": answer.matrix,
        "notes": answer.notes,
        "sections": [section(one) for one in answers],
        "spent": spent_text([arm for one in answers for arm in one.environment.arms.values()]),
        "provenance": provenance(seeds),
        "command": next((mask(shlex.join(map(str, one["argv"]))) for one in records if one.get("argv")), None),
        "commit": next((one["commit"] for one in records if one.get("commit")), None),
        "limits": MAX_GAP,
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _ticks(text: str) -> Markup:
    """Text in backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _cell(text: str) -> str:
    """Text that can stand in a table of Markdown."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def _write(template: str, content: dict[str, Any], out: Path) -> Path:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=template.endswith(".html.j2"), trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["symbols"] = SYMBOLS
    environment.filters |= {"cell": _cell, "ticks": _ticks}
    out = Path(out)
    write_atomically(out, environment.get_template(template).render(content).encode())
    return out
