"""What the commands share: exit codes, common arguments, and how an error ends a command."""

import difflib
import select
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from memexp.config import EnvError, UsageError, did_you_mean, exit_text, plain
from memexp.console import accept_all_characters, drop_output, say
from memexp.credentials import mask, remember
from memexp.formatting import shortened
from memexp.launch import LaunchError
from memexp.project import enter
from memexp.runs.directory import check_home
from memexp.runs.reading import DamagedError

DONE, FAILED, WRONG_USAGE, INTERRUPTED, NO_READER = 0, 1, 2, 130, 128 + signal.SIGPIPE

Recipe = Annotated[list[str], typer.Argument(metavar="RECIPE [KEY=VALUE]...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

_TyperError: type[Exception] = typer.BadParameter.__mro__[2]
"""Base of the errors that Typer raises for wrong usage."""


class Command(TyperCommand):
    """Refuses an option in the place of another option's value: `--render --skip-git-check`."""

    def get_short_help_str(self, limit: int = sys.maxsize) -> str:
        """The first sentence of the help. It is wrapped, not cut, where it is longer than a line."""
        return super().get_short_help_str(sys.maxsize)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = list(args)
        known = {name: option for option in self.params for name in (*option.opts, *option.secondary_opts)}
        for name, value in pairwise(takewhile(lambda word: word != "--", args)):
            takes_a_value = name in known and name.startswith("-") and not known[name].is_flag  # type: ignore[union-attr]
            if takes_a_value and value.startswith("-") and value.partition("=")[0] in known:
                raise UsageError(f"{name} needs a value, but '{value}' follows")
        return super().parse_args(ctx, args)


class Group(TyperGroup):
    """Turns every error into one clear line on stderr and an exit code, without a traceback or a box."""

    def make_context(self, *given: Any, **settings: Any) -> Any:
        with system_errors():  # else Typer ends with 1, or in a traceback
            return super().make_context(*given, **settings)

    def invoke(self, context: Any) -> Any:
        with system_errors():
            check_home()  # also fixes a relative home, before anything of somebody else runs
            enter(Path.cwd())
            try:
                return super().invoke(context)
            except SystemExit as stop:  # of an environment or a recipe
                return fail(exit_text(stop), FAILED)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        accept_all_characters()
        remember(list(sys.argv[1:] if args is None else args))
        try:
            code = super().main(args, *rest, **{**settings, "standalone_mode": False})
        except UsageError as error:
            code = fail(str(error), WRONG_USAGE)
        except DamagedError as error:
            code = fail(f"{error.path.parent.name}: {error}", FAILED)
        except (LaunchError, EnvError) as error:
            code = fail(str(error), FAILED)
        except _TyperError as error:
            code = fail(explain(error), WRONG_USAGE)
        except (typer.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        if code == INTERRUPTED:  # also what Typer returns after Ctrl-C
            code = fail("stopped", FAILED)
        with system_errors():
            if sys.stdout:
                sys.stdout.flush()
        sys.exit(code or DONE)


@contextmanager
def system_errors() -> Generator[None]:
    """End the process where the system refuses something: with the file and the reason, or silently without a reader.

    The reader of the output has left in `memexp ... | head`. Then the exit code is that of Unix tools.
    """
    try:
        yield
    except OSError as error:
        silent = isinstance(error, BrokenPipeError) and (_output_is_broken() or not error.args)
        try:
            sys.stdout.flush()
        except OSError:
            drop_output()  # what is left would fail again when Python ends
        if silent:
            sys.exit(NO_READER)
        reason = error.strerror or str(error)
        sys.exit(fail(f"{error.filename}: {reason}" if error.filename else reason, FAILED))


def _output_is_broken() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    with suppress(OSError, ValueError, AttributeError):
        poll.register(sys.stdout, 0)
    return bool(poll.poll(0))


def fail(message: str, code: int) -> int:
    """Print why a command failed, to stderr and without credentials; returns the exit code."""
    with suppress(OSError):  # stderr is full or closed
        for line in shortened(mask(message)).split("\n"):
            say(f"memexp: {line}", error=True)
    return code


def explain(error: Any) -> str:
    """The message of a Typer error, with the nearest known option or command."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    if option and context and option not in (known := _options(context)):
        settings = any("KEY=VALUE" in (one.metavar or "") for one in context.command.params)
        if context.command.name == "list":
            settings = "patterns" in context.obj  # no other list takes any
        if settings and not difflib.get_close_matches(option, known, cutoff=0.7):
            return f"unknown option '{option}'; a setting is typed without dashes: {option.lstrip('-')}=VALUE"
        return f"unknown option '{option}'{did_you_mean(option, known)}"
    message = plain(" ".join(error.format_message().split()).rstrip("."))
    if context and message.startswith("No such command"):
        word = message.split("'")[1]
        return f"unknown command '{word}'{did_you_mean(word, context.command.list_commands(context))}"
    return message[:1].lower() + message[1:]


def _options(context: Any) -> list[str]:
    return [name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)]


def config_of(arguments: list[str]) -> tuple[Any, list[str]]:
    """The config of a recipe with overrides, and the arguments that describe it completely."""
    from memexp.config import parse_overrides
    from memexp.launch.plan.recipe import split_target
    from memexp.launch.plan.run_spec import recipe_specs

    recipe, overrides = split_target(arguments)
    spec = recipe_specs(recipe, parse_overrides(overrides))[0]
    return spec.config, spec.arguments
