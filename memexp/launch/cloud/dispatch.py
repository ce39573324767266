"""A launch into the cloud: plan -> tasks -> dumped, rendered or submitted."""

from collections.abc import Sequence
from dataclasses import replace

from memexp.config import UsageError
from memexp.launch import LaunchError, Terminal
from memexp.launch.build import build
from memexp.launch.cloud import submissions
from memexp.launch.cloud.install import Install, check_install, find_install, modules_of
from memexp.launch.cloud.job_queue import INSTEAD, connect, require_cloud
from memexp.launch.cloud.sky_task import Task, dump, make_task, render, sent_along, validate
from memexp.launch.cloud.submit import submit
from memexp.launch.plan.options import Options
from memexp.launch.plan.plan import Plan, how_to_measure, print_plan
from memexp.launch.plan.resources import Resources


def to_cloud(plan: Plan, resources: Resources, options: Options, terminal: Terminal) -> int:
    """Make a task of every run, then dump, render, show or submit them as the options say; returns the exit code.

    Raises UsageError for what cannot be built, and for what nodes could not have.
    """
    specs = [run.spec for run in plan.runs]
    install = find_install(specs, resources.pip, options.git_ref)
    code, plan = install.code, replace(plan, nodes=[*install.lines(), *resources.lines()])
    is_shown = options.dump_config or options.render
    try:
        check_install(install, modules_of(specs))
        if not (is_shown or options.no_build) and (options.dry_run or plan.due):
            if not options.dry_run:
                connect(INSTEAD)  # a missing server is told before the minute that building takes
            check_install(install, build(specs, terminal))
    except UsageError:
        if options.dry_run and not options.as_json:
            print_plan(plan, terminal.console)
        raise
    tasks = [make_task(run.spec, resources, install, plan.prices) for run in plan.runs if not run.is_later]
    if unchecked := validate(tasks):
        terminal.note(unchecked)
    if options.dump_config:
        terminal.console.file.write(dump(tasks, options.dump_config) + "\n" * (options.dump_config == "json"))
        return 0
    problems = f"note: {'; '.join(code.problems)}"
    if options.render:
        paths = render(tasks, options.render)
        if code.problems:
            terminal.note(
                f"{problems}: nodes cannot fetch this code; a launch sends it along, these files alone do not"
            )
        terminal.note(f"{len(paths)} tasks written into {options.render}")
        return 0
    if options.dry_run:
        if code.problems:
            terminal.note(problems + ("" if options.skip_git_check else ": a launch needs --skip-git-check"))
        print_plan(plan, terminal.console, options.as_json)
        check_budget(plan, options.budget)
        return 0
    check_budget(plan, options.budget)
    print_plan(plan, terminal.console)
    return submit_due(plan, tasks, install, resources, options, terminal)


def check_budget(plan: Plan, budget: float | None) -> None:
    """Raises LaunchError where what is due may cost more than `budget` dollars, UsageError if nobody knows its cost."""
    if budget is None or not plan.due:
        return
    cost = plan.cost
    if cost is None:
        names = ", ".join(run.spec.env for run in plan.unknown)
        raise UsageError(
            f"--budget {budget:g}: the cost of {names} is unknown, nothing was submitted: {how_to_measure(plan)}"
        )
    if cost.dollars_high is None:
        raise UsageError(f"--budget {budget:g}: no price is known of these machines; nothing was submitted")
    if cost.dollars_high > budget:
        cheaper = "(--select and --seeds take fewer runs, --steps shorter ones)"
        most = f"the runs may cost up to ${cost.dollars_high:,.2f}"
        raise LaunchError(f"--budget {budget:g}: {most}; nothing was submitted {cheaper}")


def submit_due(
    plan: Plan, tasks: list[Task], install: Install, resources: Resources, options: Options, terminal: Terminal
) -> int:
    """Submit the runs that are due and in no queue; returns the exit code."""
    due = {spec.run for spec in plan.due}
    if not due:
        terminal.say("nothing to launch")
        return 0
    if not options.skip_git_check:
        install.code.require()
    sky = connect(INSTEAD)
    require_cloud(sky)
    if options.confirm and not terminal.confirm(f"Submit {len(due)} runs?"):
        raise LaunchError("nothing was submitted")
    tasks = [task for task in tasks if task["name"] in due]
    packed = install.packed(options.git_ref)
    tasks = [sent_along(task, packed) for task in tasks]

    def before(names: Sequence[str]) -> None:
        submissions.record(submissions_of(plan, resources, names))

    outcome = submit(sky, tasks, terminal.say, options.retry_failed, before=before)
    terminal.say(f"{outcome.summary}; `memexp status` shows them")
    return 1 if outcome.left else 0


def submissions_of(plan: Plan, resources: Resources, names: Sequence[str]) -> list[submissions.Submission]:
    """What is recorded of the runs `names` before SkyPilot is asked."""
    prices = {
        kind: {market: price * resources.nodes for market, price in one.by_market(resources).items()}
        for kind, one in plan.prices.items()
    }
    return [
        submissions.Submission(
            run=run.spec.run,
            matrix=run.spec.config.labels.matrix,
            env=run.spec.env,
            arm=run.spec.config.arm,
            seed=run.spec.config.seed,
            total_timesteps=run.spec.agent_steps,
            hours=run.estimate and run.estimate.hours,
            dollars=run.estimate and run.estimate.dollars,
            prices=prices,
        )
        for run in plan.runs
        if run.spec.run in names
    ]
