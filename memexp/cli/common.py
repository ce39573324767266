"""What the commands share: exit codes, common arguments, and how an error ends a command."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from memexp.config import UsageError, did_you_mean
from memexp.credentials import mask
from memexp.launch import LaunchError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

Recipe = Annotated[list[str], typer.Argument(metavar="RECIPE [KEY=VALUE]...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

_TyperError: type[Exception] = typer.BadParameter.__mro__[2]
"""Base of the errors that Typer raises for wrong usage."""


class Group(TyperGroup):
    """Turns every error into one clear line on stderr and an exit code, without a traceback or a box."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        try:
            code = super().main(args, *rest, **{**settings, "standalone_mode": False})
        except UsageError as error:
            sys.exit(fail(str(error), WRONG_USAGE))
        except LaunchError as error:
            sys.exit(fail(str(error), FAILED))
        except _TyperError as error:
            sys.exit(fail(explain(error), WRONG_USAGE))
        except (typer.Abort, KeyboardInterrupt):
            sys.exit(fail("stopped", FAILED))
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has ended, as in `memexp ... | head`
            sys.exit(FAILED)
        if code == INTERRUPTED:  # what Typer returns after Ctrl-C
            sys.exit(fail("stopped", FAILED))
        sys.exit(code or DONE)


def fail(message: str, code: int) -> int:
    """Print why a command failed, to stderr and without credentials; returns the exit code."""
    for line in mask(message).splitlines():
        print(f"memexp: {line}", file=sys.stderr)
    return code


def explain(error: Any) -> str:
    """The message of a Typer error, with the nearest known option or command."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    if option and context and option not in (known := _options(context)):
        return f"unknown option '{option}'{did_you_mean(option, known)}"
    message = " ".join(error.format_message().split()).rstrip(".")
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
