"""`memexp launch` from end to end: arguments and options -> runs -> plan -> shown, run here, or sent to the cloud."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memexp.config import UsageError, check_run_name, parse_count, parse_overrides, parse_value
from memexp.launch import Terminal
from memexp.launch.build import build
from memexp.launch.cloud.dispatch import to_cloud
from memexp.launch.local import default_jobs, run_here
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import Matrix, Seeds, load_matrix
from memexp.launch.plan.options import Options
from memexp.launch.plan.plan import changed_code, make_plan, print_plan
from memexp.launch.plan.recipe import all_recipes, split_target
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import RunSpec, recipe_specs
from memexp.launch.plan.tuning import FinalReturn, next_stage, sensitivity
from memexp.launch.scout import scout
from memexp.ppo.config import Steps
from memexp.project import enter
from memexp.runs import Run, loggers
from memexp.runs.status import State, state_of

STOPPED = (State.NEW, State.PREEMPTED, State.CANCELLED)
"""States of runs after a local launch that somebody stopped or cancelled: no further stage begins."""


def launch(arguments: Sequence[str], options: Options, terminal: Terminal, final: FinalReturn) -> int:
    """Launch `arguments`: TARGET [KEY=VALUE ...]; returns the exit code. `final` scores the trials of settings.

    Raises UsageError before anything is written, and LaunchError for what cannot be done here.
    """
    options.check()
    if not arguments:
        raise UsageError("name a recipe or a matrix file; `memexp list recipes` shows the recipes")
    if _is_file_name(arguments[0]):
        matrix = read_matrix(arguments, options)
        name, resources = matrix.name, matrix.resources
        if options.sensitivity:
            specs = sensitivity(matrix, arguments[0], options.select)
        elif matrix.tune:
            return _launch_tuned(matrix, arguments[0], options, terminal, final)
        else:
            specs = expand(matrix, arguments[0], options.select)
    else:
        specs = _read_recipe(arguments, options)
        name, resources = specs[0].run, Resources.parse(options.machines)
    return send(name, specs, resources, options, terminal)


def _launch_tuned(matrix: Matrix, file: str, options: Options, terminal: Terminal, final: FinalReturn) -> int:
    """Launch the trials that are due, and every arm whose best setting is known. Here all of it, one after another."""
    stage = next_stage(matrix, file, options.select, final)
    while True:
        for winner in stage.winners.values() if not (options.as_json or options.dump_config) else ():
            terminal.say(winner.text)
        code = send(matrix.name, stage.now, matrix.resources, options, terminal, stage.later)
        left = len(stage.later)
        if options.dry_run or options.dump_config or options.render or not left:
            return code
        if options.local and any(state_of(Run.named(spec.run)) in STOPPED for spec in stage.now):
            return code
        stage = next_stage(matrix, file, options.select, final)
        if not options.local or len(stage.later) == left:
            terminal.say(f"{left} runs wait for trials of settings: when those have ended, the same command carries on")
            return code


def _is_file_name(target: str) -> bool:
    """True for a matrix file or a folder. Recipes have no slash and no ending, but may be called like a folder."""
    if target.endswith((".yaml", ".yml")) or ("/" in target and "=" not in target):
        return True
    return Path(target).is_dir() and not any(recipe.is_called(target) for recipe in all_recipes())


def read_matrix(arguments: Sequence[str], options: Options) -> Matrix:
    """The matrix of `arguments` (FILE [KEY=VALUE ...]) with the options in place. Raises UsageError."""
    file, *overrides = arguments
    options.refuse("is for a recipe; a matrix names its runs by `run:` and counts them by `seeds:`", "run", "copies")
    matrix = load_matrix(file)
    enter(Path(file).parent, Path.cwd())
    if options.scale:
        matrix = matrix.at_scale(options.scale)
    changes: dict[str, Any] = {"resources": {**matrix.resources.model_dump(), **options.machines}}
    if options.seeds is not None:
        changes["seeds"] = parse_value(options.seeds, Seeds, "--seeds")
    if options.steps is not None:
        changes["steps"] = [parse_value(options.steps, Steps, "--steps")]
    if overrides:
        changes["overrides"] = {**matrix.overrides, **_settings(overrides)}
    return matrix.but(changes)


def _settings(words: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE words of a matrix. Raises UsageError for a key that is an option, or that only the file has."""
    pairs = parse_overrides(words)
    for key, value in pairs.items():
        option = {"seed": f"--seeds {value},", "trainer.total_timesteps": f"--steps {value}"}.get(key)
        if key in Options.__dataclass_fields__ and key != "run":
            option = f"--{key.replace('_', '-')} {value}"
        if option:
            raise UsageError(f"'{key}={value}' is no setting of a matrix's runs; type {option}")
        if key in (Matrix.model_fields.keys() | Resources.model_fields.keys()) - {"loggers"}:
            raise UsageError(f"'{key}' cannot be typed: it stands in the matrix file")
    return pairs


def _read_recipe(arguments: Sequence[str], options: Options) -> list[RunSpec]:
    why = "is for a matrix file; a recipe takes seed=N, and --copies N for several seeds"
    options.refuse(why, "select", "seeds", "scale", "sensitivity")
    recipe, pairs = split_target(arguments)
    overrides = parse_overrides(pairs)
    if options.run is not None:
        _set(overrides, "run", check_run_name(options.run), "--run")
    if options.steps is not None:
        _set(overrides, "trainer.total_timesteps", str(parse_value(options.steps, Steps, "--steps")), "--steps")
    return recipe_specs(recipe, overrides, options.copies or 1)


def _set(overrides: dict[str, str], key: str, value: str, option: str) -> None:
    if parse_count(overrides.get(key, value)) != parse_count(value):
        raise UsageError(f"{option} {value} and {key}={overrides[key]} contradict each other")
    overrides[key] = value


def send(
    name: str,
    specs: list[RunSpec],
    resources: Resources,
    options: Options,
    terminal: Terminal,
    later: Sequence[RunSpec] = (),
) -> int:
    """Plan the runs, then do with them what the options say; returns the exit code. Runs in `later` are only counted.

    Raises UsageError for a run whose environments cannot be divided equally among its ranks.
    """
    ranks = options.processes if options.local else max(1, resources.gpus) * resources.nodes
    for spec in (*specs, *later):
        spec.config.trainer.envs_per_rank(ranks)
        if options.local:
            loggers.check(spec.config.loggers, spec.config.wandb.mode)
    if options.force:
        specs = [spec.forced() for spec in specs]
    failed = scout(specs, options.processes, options.dry_run, terminal) if options.scout else 0
    plan = make_plan(name, specs, None if options.local else resources, options.processes, later)
    if not options.local:
        return to_cloud(plan, resources, options, terminal)
    if options.dry_run and not options.no_build:
        build(specs, terminal)
    jobs = options.jobs or default_jobs(options.processes)
    print_plan(plan, terminal.console, options.as_json, min(jobs, len(plan.due)))
    for line in changed_code(name):
        terminal.note(line)
    if options.dry_run or options.scout:
        return int(failed > 0)
    # Unlike plan.due, these include runs that another launch trains: run_here says so, and they may have been orphaned.
    due = [run.spec for run in plan.runs if run.state is not State.COMPLETED and not run.is_later]
    if not due:
        terminal.say("nothing to launch")
        return 0
    outcome = run_here(due, jobs, options.processes, terminal.console)
    for line in outcome.lines:
        terminal.say(line)
    return 0 if outcome.ok else 1
