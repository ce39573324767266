"""Makes the site of the files as they stand in the repository, where links are those that a reader of the code needs.

README.md, CONTRIBUTING.md and CHANGELOG.md become pages. A link to a file that is no page becomes the file's name.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""File of the repository -> page of the site."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, target in PAGES.items():
        text = re.sub(r"""(\]\(|src=")docs/""", r"\1", (ROOT / source).read_text())
        for other, page in PAGES.items():
            text = text.replace(f"]({other}", f"]({page}")
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, *, files: Files, page: Any, **_: Any) -> str:
    """Replaces links that leave docs/ by their text."""
    here = Path(page.file.src_uri).parent

    def replace(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        path = target.partition("#")[0]
        if image or not path or "://" in target or target.startswith("mailto:"):
            return found[0]
        if files.get_file_from_path(resolve(here / path)):
            return found[0]
        in_repository = resolve(Path("docs") / here / path)
        if in_repository in PAGES:
            return f"[{text}]({'../' * len(here.parts)}{PAGES[in_repository]})"
        return text if exists(in_repository) or exists(resolve(here / path)) else found[0]

    return LINK.sub(replace, markdown)


def exists(path: str) -> bool:
    return (ROOT / path).exists()


def resolve(path: Path) -> str:
    """The path without '..', as a URI."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
