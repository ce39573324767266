"""Writes the tables of files in docs/architecture.md: every module of memexp with the first line of its docstring.

python devops/site/tree.py
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
START = "<!-- The tables below are written by devops/site/tree.py. -->"


def modules() -> dict[str, list[Path]]:
    """Package of memexp (its path) -> its modules, those of the packages inside it included."""
    found: dict[str, list[Path]] = {}
    for file in sorted((ROOT / "memexp").rglob("*.py"), key=lambda file: (file.parent, file.name)):
        parts = file.relative_to(ROOT).parts
        found.setdefault("/".join(parts[:2]) if len(parts) > 2 else "memexp", []).append(file)
    return found


def summary(file: Path) -> str:
    """The first sentence of a module's docstring."""
    doc = " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0].split())
    sentence = re.match(r".*?\.(?= [A-Z`]|$)", doc)
    return (sentence[0] if sentence else doc).replace("|", "\\|")


def tables() -> str:
    text = []
    for package, files in modules().items():
        shown = {file: summary(file) for file in files}
        text.append(f"### {package}/\n")
        if own := shown.get(ROOT / package / "__init__.py"):
            text.append(f"{own}\n")
        text.append("| file | what it is |\n|---|---|")
        for file, line in shown.items():
            if file.parent == ROOT / package and file.name == "__init__.py":
                continue
            name = str(file.relative_to(ROOT / package))
            name = name.replace("/__init__.py", "/")
            text.append(f"| `{name}` | {line} |")
        text.append("")
    return "\n".join(text).rstrip() + "\n"


def main() -> None:
    text, _, _ = PAGE.read_text().partition(START)
    PAGE.write_text(f"{text}{START}\n\n{tables()}")


if __name__ == "__main__":
    main()
