"""The terminal: what commands print, so that foreign text can do no harm and every terminal can show it.

Names, reasons and logs may come from anybody. A terminal obeys the control characters in them: it sets the clipboard,
changes its title, or hides text. Each is shown as one visible character instead.
"""

import codecs
import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import rich.console
from rich.segment import Segment

from memexp.formatting import printable

_PLAIN = dict(zip("–…━─│┈█▓▒░▏▎▍▌▋▊▉▁▂▃▄▅▆▇●◌◍‖○◔✗✓", "-.=-|.#%+:|||####_..::##*..:oox+", strict=True))
"""Character -> one of ASCII that looks like it. Any other one is a question mark."""


class Console(rich.console.Console):
    """Rich's console for text from anywhere: square brackets are no markup, and no control character gets through.

    A reader that has closed the pipe raises BrokenPipeError.
    """

    def __init__(self, **settings: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        raise


def table_console() -> Console:
    """A console for tables. A pipe or a file gets one line a row, whatever its length: names stay whole for `grep`."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 10_000)


class Printable(io.TextIOBase):
    """Standard output for text from elsewhere: a log, or another program's lines."""

    def write(self, text: str, /) -> int:
        return sys.stdout.write(printable(text))

    def flush(self) -> None:
        sys.stdout.flush()


def say(text: object, error: bool = False) -> None:
    """Print exactly one line, on stderr if it is an `error`."""
    print(printable(str(text)).replace("\n", "␊"), file=sys.stderr if error else sys.stdout)


def drop_output() -> None:
    """From now on nothing that is printed arrives: nobody reads standard output any more, or it is full."""
    with suppress(OSError):  # a stand-in without a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def accept_all_characters() -> None:
    """Let standard output and errors take any character, also where the terminal's encoding has it not."""
    codecs.register_error("look-alike", _look_alike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="look-alike")


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end
