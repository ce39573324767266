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
from memexp.formatting import printable
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
        "source": mask(answer.source or answer.matrix),
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


_MARKDOWN = re.compile(r"<(?=[a-zA-Z/!?])|(?<=[\]!])[\[(]")
"""What begins a tag, an image, or the address of a link."""


def _as_text(value: Any) -> str:
    """A value as text of one line in Markdown: no HTML, link or image comes from the runs."""
    text = " ".join(str(value).split("\n"))
    return _MARKDOWN.sub(lambda found: "&lt;" if found[0] == "<" else f"\\{found[0]}", text)


def _cell(text: str) -> str:
    """Text that can stand in a table of Markdown."""
    return str(text).replace("|", "\\|")


def _write(template: str, content: dict[str, Any], out: Path) -> Path:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    is_html = template.endswith(".html.j2")
    finalize = None if is_html else _as_text
    environment = jinja2.Environment(
        loader=loader, autoescape=is_html, finalize=finalize, trim_blocks=True, lstrip_blocks=True
    )
    names = {"symbols": SYMBOLS, "cell": _cell, "ticks": _ticks}
    out = Path(out)
    text = environment.get_template(template, globals=names).render(content)
    write_atomically(out, printable(text).encode())
    return out
