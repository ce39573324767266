"""`memexp launch` from end to end: words and options -> plan -> shown, dumped, rendered, run here, or submitted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from memexp.config import UsageError, check_run_name, parse_count, parse_overrides
from memexp.launch.cloud.dispatch import check_budget, submit_due, tasks_of, write_out
from memexp.launch.cloud.sky_task import check_infra
from memexp.launch.local import Outcome, default_jobs, run_here
from memexp.launch.plan.expand import check_exclusions, expand
from memexp.launch.plan.matrix import Matrix, Seeds, load_matrix, naming
from memexp.launch.plan.plan import Plan, make_plan, print_plan
from memexp.launch.plan.recipe import all_recipes, split_target
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import RunSpec, recipe_specs

MACHINES = ("nodes", "cpus", "spot", "infra", "bucket", "max_runtime_hours", "heartbeat_timeout_seconds")
"""Options that change a matrix file's resources, and mean nothing with --local (as --gpus does)."""


@dataclass(frozen=True)
class Options:
    """The options of `memexp launch`; None or False where not given."""

    run: str | None = None
    gpus: int | None = None
    nodes: int | None = None
    cpus: int | None = None
    spot: bool | None = None
    copies: int | None = None
    git_ref: str | None = None
    max_runtime_hours: float | None = None
    heartbeat_timeout_seconds: int | None = None
    skip_git_check: bool = False
    confirm: bool = False
    infra: str | None = None
    bucket: str | None = None
    budget: float | None = None
    retry_failed: bool = False
    dry_run: bool = False
    dump_config: str | None = None
    render: Path | None = None
    local: bool = False
    jobs: int | None = None
    nproc: int | None = None
    select: Sequence[str] = ()
    seeds: str | None = None
    steps: str | None = None
    scale: str | None = None
    as_json: bool = False

    def given(self, *names: str) -> list[str]:
        """Those of `names` that were given, as they are typed."""
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) not in (None, False, ())]


def launch(words: Sequence[str], options: Options, console: Console, notes: Console, confirm: Any) -> int:
    """Do what `words` (TARGET and KEY=VALUE) and `options` say; returns the exit code.

    `console` is shown the plan and the progress, `notes` what is not part of the output; `confirm` is asked a yes-or-no
    question. Raises UsageError for wrong words before anything is written, LaunchError for what cannot be done here.
    """
    check_options(options)
    name, cells, resources = read_target(words, options)
    return send(name, cells, resources, options, console, notes, confirm)


def send(
    name: str,
    cells: list[RunSpec],
    resources: Resources,
    options: Options,
    console: Console,
    notes: Console,
    confirm: Any,
) -> int:
    """Plan the cells and do with them what the options say; returns the exit code.

    Raises UsageError for a run whose worlds cannot be shared out to its ranks.
    """
    ranks = _processes(options) if options.local else max(1, resources.gpus) * resources.nodes
    for cell in cells:
        cell.config.trainer.envs_per_rank(ranks)
    plan = make_plan(name, cells, None if options.local else resources)
    if options.local:
        return _show(plan, options, console) if options.dry_run else _run_local(plan, options, console)
    return _to_cloud(plan, resources, options, console, notes, confirm)


def check_options(options: Options) -> None:
    """Raises UsageError for options that contradict one another."""
    if options.local:
        cloud = (*MACHINES, "git_ref", "dump_config", "render", "confirm", "budget", "retry_failed")
        for option in options.given(*cloud):
            raise UsageError(f"{option} has no meaning with --local")
    else:
        for option in options.given("jobs", "nproc"):
            raise UsageError(f"{option} needs --local")
    if options.as_json and not options.dry_run:
        raise UsageError("--json needs --dry-run: it prints the plan")
    if options.dump_config not in (None, "json", "yaml"):
        raise UsageError(f"--dump-config {options.dump_config}: the format is json or yaml")
    check_infra(options.infra)


def read_target(words: Sequence[str], options: Options) -> tuple[str, list[RunSpec], Resources]:
    """The name, the cells and the machines of a launch. Raises UsageError."""
    if not words:
        raise UsageError("name a recipe or a matrix file; `memexp list recipes` shows the recipes")
    if _is_file_name(words[0]):
        matrix = read_matrix(words[0], words[1:], options)
        return matrix.name, expand(matrix, words[0], options.select), machines(matrix.resources, options)
    cells = _read_recipe(words, options)
    return cells[0].run, cells, machines(Resources(), options)


def machines(resources: Resources, options: Options) -> Resources:
    """`resources` with what the options say in their place."""
    for place in [*resources.regions, resources.infra]:
        check_infra(place, "resources:")
    return resources.but(**{name: getattr(options, name) for name in ("gpus", *MACHINES)})


def _is_file_name(word: str) -> bool:
    """Whether a target means a file: recipes have neither slash nor ending, but may be called like a folder."""
    if word.endswith((".yaml", ".yml")) or ("/" in word and "=" not in word):
        return True
    return Path(word).is_dir() and not any(f".{recipe.name}".endswith(f".{word}") for recipe in all_recipes())


def read_matrix(file: str, words: Sequence[str], options: Options) -> Matrix:
    """The matrix in `file` with the options' and words' changes in place. Raises UsageError."""
    for option in options.given("run", "copies"):
        raise UsageError(f"{option} is for a recipe; the matrix names its runs by `run:` and counts them by `seeds:`")
    matrix = load_matrix(file)
    with naming(file):
        check_exclusions(matrix)
    if options.scale:
        matrix = matrix.at_scale(options.scale)
    changes: dict[str, Any] = {}
    if options.seeds is not None:
        changes["seeds"] = parse_seeds(options.seeds)
    if options.steps is not None:
        changes["steps"] = [_parse_steps(options.steps)]
    if words:
        changes["overrides"] = {**matrix.overrides, **parse_overrides(words)}
    return matrix.but(changes) if changes else matrix


def _read_recipe(words: Sequence[str], options: Options) -> list[RunSpec]:
    for option in options.given("select", "seeds", "scale"):
        raise UsageError(f"{option} is for a matrix file; a recipe takes seed=N, and --copies N for several seeds")
    recipe, rest = split_target(words)
    pairs = parse_overrides(rest)
    if options.run is not None:
        check_run_name(options.run)
        _set(pairs, "run", options.run, "--run")
    if options.steps is not None:
        _set(pairs, "trainer.total_timesteps", str(_parse_steps(options.steps)), "--steps")
    return recipe_specs(recipe, pairs, options.copies or 1)


def _set(pairs: dict[str, str], key: str, value: str, option: str) -> None:
    if parse_count(pairs.get(key, value)) != parse_count(value):
        raise UsageError(f"{option} {value} and {key}={pairs[key]} contradict each other")
    pairs[key] = value


def parse_seeds(text: str) -> Seeds:
    """'5' -> 5 (seeds 0 to 4); '0,3,7' or '[0, 3, 7]' -> those. Raises UsageError."""
    parts = [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(f"--seeds {text}: a number of seeds (5) or a list (0,1,2)")
    numbers = [int(part) for part in parts]
    return numbers if "," in text or text.startswith("[") else numbers[0]


def _parse_steps(text: str) -> int:
    count = parse_count(text)
    if not isinstance(count, int) or count <= 0:
        raise UsageError(f"--steps {text}: a number of agent steps above 0, such as 2b, 500m or 100_000")
    return count


def _show(plan: Plan, options: Options, console: Console) -> int:
    if options.as_json:
        console.file.write(json.dumps(plan.as_dict(), indent=2) + "\n")
    else:
        print_plan(plan, console)
    return 0


def _processes(options: Options) -> int:
    """Ranks of a run on this machine."""
    return options.nproc or options.gpus or 1


def _run_local(plan: Plan, options: Options, console: Console) -> int:
    print_plan(plan, console)
    if not plan.due:
        console.print("nothing to launch")
        return 0
    processes = _processes(options)
    outcome = run_here(plan.due, options.jobs or default_jobs(processes), processes, console)
    _tell(outcome, console)
    return 0 if outcome.ok else 1


def _tell(outcome: Outcome, console: Console) -> None:
    numbers = [(outcome.done, "done"), (outcome.failed, "failed"), (outcome.stopped, "stopped")]
    parts = [f"{len(runs)} {word}" for runs, word in [*numbers, (outcome.left, "not started")] if runs]
    console.print(", ".join(parts), highlight=False)
    for name, words in outcome.failed:
        console.print(f"failed: {name}: {words}", highlight=False, markup=False, soft_wrap=True)
    if outcome.stopped or outcome.left:
        console.print("the same command carries on")


def _to_cloud(
    plan: Plan, resources: Resources, options: Options, console: Console, notes: Console, confirm: Any
) -> int:
    tasks, code, note = tasks_of(plan, resources, options)
    if note:
        notes.print(note, highlight=False)
    if options.dump_config or options.render:
        write_out(tasks, code, options, console, notes)
        return 0
    if not options.dry_run:
        check_budget(plan, options.budget)
        return submit_due(plan, tasks, code, resources, options, console, confirm)
    if code.problems:
        notes.print(f"note: {'; '.join(code.problems)}", highlight=False, soft_wrap=True)
    _show(plan, options, console)
    check_budget(plan, options.budget)
    return 0
