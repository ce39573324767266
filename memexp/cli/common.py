"""What the commands share: exit codes, words of the command line, and how an error ends a command."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from memexp.config import UsageError, did_you_mean
from memexp.launch import LaunchError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

Words = Annotated[list[str] | None, typer.Argument(metavar="TARGET [KEY=VALUE]...", show_default=False)]
RecipeWords = Annotated[list[str], typer.Argument(metavar="RECIPE [KEY=VALUE]...", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]

_TyperError: type[Exception] = typer.BadParameter.__mro__[2]
"""Base of what Typer itself raises for wrong usage."""


class Group(TyperGroup):
    """Every error is one clear line on stderr and an exit code, never a traceback or a box."""

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
            sys.stderr.close()  # what reads our output has gone: `memexp ... | head`
            sys.exit(FAILED)
        if code == INTERRUPTED:  # Typer's own answer to Ctrl-C
            sys.exit(fail("stopped", FAILED))
        sys.exit(code or DONE)


def fail(message: str, code: int) -> int:
    """Say on stderr why a command ends, a line each; returns its exit code."""
    for line in message.splitlines():
        print(f"memexp: {line}", file=sys.stderr)
    return code


def explain(error: Any) -> str:
    """What Typer found wrong, with the nearest right word where there is one."""
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


def config_of(words: list[str]) -> tuple[Any, list[str]]:
    """The config that a recipe and its words stand for, and the words that say so."""
    from memexp.config import parse_overrides
    from memexp.launch.plan.recipe import split_target
    from memexp.launch.plan.run_spec import recipe_specs

    recipe, pairs = split_target(words)
    cell = recipe_specs(recipe, parse_overrides(pairs))[0]
    return cell.config, cell.arguments
