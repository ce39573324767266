"""The page: one HTML file with the episode and everything needed to watch it offline."""

import base64
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from memexp.replay.record import FLOATS, Recording
from memexp.runs.directory import write_atomically

WEB = Path(__file__).parent / "web"
SCRIPTS = ("episode.js", "draw.js", "map.js", "panel.js", "timeline.js", "main.js")
"""In the order of the page: each script uses those before it."""


def write_page(recording: Recording, title: dict[str, Any], out: Path) -> None:
    """Write the page to `out` atomically. `title`: see Subject.facts in target.py."""
    format_ = {"channels": list(recording.shapes.items()), "floats": FLOATS, "last": recording.last}
    page = _template().render(
        title=title,
        facts=_json(recording.facts | format_ | {"title": title}),
        data=base64.b64encode(recording.changes.pack()).decode(),
        style=_source("replay.css"),
        script=Markup("\n").join(_source(name) for name in SCRIPTS),
    )
    write_atomically(out, page.encode())


def _json(value: Any) -> Markup:
    """JSON for a script element."""
    return Markup(json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"))


def _source(name: str) -> Markup:
    return Markup((WEB / name).read_text(encoding="utf-8"))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("replay.html.j2")
