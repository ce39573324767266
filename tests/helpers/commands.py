"""Typing commands in tests: exit code, what they print, and what they leave behind."""

from dataclasses import dataclass
from pathlib import Path

from memexp.cli import main


@dataclass(frozen=True)
class Typed:
    """What came of a command."""

    code: int
    out: str
    err: str


def type_command(capsys, *words: str) -> Typed:
    """Run `memexp WORDS` in this process."""
    code = main(words)
    captured = capsys.readouterr()
    return Typed(code, captured.out, captured.err)


def files_below(folder: Path) -> dict[str, bytes | None]:
    """Every path below `folder` with its content (None for a folder)."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
