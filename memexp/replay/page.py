"""The page: one HTML file that holds the episode and everything that it takes to watch it, without a network."""

import base64
import json
import re
from math import prod
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from memexp.replay.changes import Changes
from memexp.replay.record import FLOATS, Recording
from memexp.runs.directory import write_atomically

WEB = Path(__file__).parent / "web"
SCRIPTS = ("episode.js", "draw.js", "map.js", "panel.js", "timeline.js", "main.js")
"""In the order in which they stand in the page: each uses those before it."""


def write_page(recording: Recording, title: dict[str, Any], out: Path) -> None:
    """Write the page to `out` (replaced atomically). `title`: who played what, see target.py."""
    format_ = {"channels": list(recording.shapes.items()), "floats": FLOATS, "last": recording.last}
    page = _template().render(
        title=title,
        facts=_json(recording.facts | format_ | {"title": title}),
        data=base64.b64encode(recording.changes.pack()).decode(),
        style=_source("replay.css"),
        script=Markup("\n").join(_source(name) for name in SCRIPTS),
    )
    write_atomically(out, page.encode())


def read_page(path: Path) -> Recording:
    """The recording that a page holds."""
    page = path.read_text(encoding="utf-8")
    facts, data = (
        re.search(rf'<script id="{name}"[^>]*>(.*?)</script>', page, re.DOTALL).group(1)  # type: ignore[union-attr]
        for name in ("facts", "data")
    )
    facts = json.loads(facts)
    last, shapes = facts.pop("last"), {name: tuple(shape) for name, shape in facts.pop("channels")}
    numbers = sum(prod(shape) for shape in shapes.values())
    return Recording(facts, shapes, Changes.unpack(base64.b64decode(data), last, numbers))


def _json(value: Any) -> Markup:
    """JSON that can stand inside a script element."""
    return Markup(json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"))


def _source(name: str) -> Markup:
    return Markup((WEB / name).read_text(encoding="utf-8"))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("replay.html.j2")
