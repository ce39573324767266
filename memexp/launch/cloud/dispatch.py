"""A launch into the cloud: plan -> tasks -> shown, dumped, rendered or submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from memexp.launch import LaunchError
from memexp.launch.cloud import submissions
from memexp.launch.cloud.code import Code, find_code
from memexp.launch.cloud.job_queue import INSTEAD, connect, require_cloud
from memexp.launch.cloud.sky_task import dump, make_task, render, sent_along, validate
from memexp.launch.cloud.snapshot import with_snapshot
from memexp.launch.cloud.submit import Sent, submit
from memexp.launch.plan.plan import Plan, print_plan
from memexp.launch.plan.prices import node_prices
from memexp.launch.plan.resources import Resources

if TYPE_CHECKING:
    from memexp.launch.launch import Options

Tasks = list[dict[str, Any]]


def tasks_of(plan: Plan, resources: Resources, options: Options) -> tuple[Tasks, Code, str | None]:
    """(a task for every run of the plan, the code that they run, why SkyPilot could not judge them)."""
    code = find_code(options.git_ref)
    prices = node_prices(resources)
    tasks = [make_task(run.cell, resources, code, prices) for run in plan.runs]
    return tasks, code, validate(tasks)


def write_out(tasks: Tasks, code: Code, options: Options, console: Console, notes: Console) -> None:
    """Do as --dump-config or --render says."""
    if options.dump_config:
        console.file.write(dump(tasks, options.dump_config) + "\n" * (options.dump_config == "json"))
    elif options.render:
        paths = render(tasks, options.render)
        if code.problems:
            said = f"note: {'; '.join(code.problems)}: nodes cannot fetch this code; a launch sends it along"
            notes.print(said, highlight=False, soft_wrap=True)
        notes.print(f"{len(paths)} tasks written into {options.render}", highlight=False, soft_wrap=True)


def check_budget(plan: Plan, budget: float | None) -> None:
    """Raises LaunchError where what is due may cost more than `budget` dollars, or nobody knows what it costs."""
    if budget is None or not plan.due:
        return
    cost = plan.cost
    if cost is None or cost.dollars_high is None:
        unknown = "price" if cost else "throughput"
        raise LaunchError(f"--budget {budget:g}: no {unknown} is known of these machines; nothing was submitted")
    if cost.dollars_high > budget:
        raise LaunchError(
            f"--budget {budget:g}: the runs may cost up to ${cost.dollars_high:,.2f}; nothing was submitted "
            "(--select and --seeds take fewer runs, --steps shorter ones)"
        )


def submit_due(
    plan: Plan, tasks: Tasks, code: Code, resources: Resources, options: Options, console: Console, confirm: Any
) -> int:
    """Submit what is due and stands in no queue; returns the exit code."""
    due = {cell.run for cell in plan.due}
    print_plan(plan, console)
    if not due:
        console.print("nothing to launch")
        return 0
    if not options.skip_git_check:
        code.require()
    sky = connect(INSTEAD)
    require_cloud(sky)
    if not (resources.bucket or resources.home):
        console.print("note: no bucket is given: a recovered run starts anew (resources.bucket, or --bucket s3://...)")
    if options.confirm and not confirm(f"Submit {len(due)} runs?"):
        raise LaunchError("nothing was submitted")
    sent = submit(
        sky,
        _with_code([task for task in tasks if task["name"] in due], code, options),
        lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
        options.retry_failed,
        before=lambda names: submissions.write(submission_records(plan, resources, names)),
    )
    return _tell(sent, console)


def _with_code(tasks: Tasks, code: Code, options: Options) -> Tasks:
    """The tasks with a snapshot of the code that nodes cannot fetch, or as they are."""
    if not code.problems:
        return tasks
    code = with_snapshot(code, options.git_ref)
    if not code.workdir:
        raise LaunchError("nodes have nowhere to get the code from: memexp runs from no git checkout")
    return [sent_along(task, code) for task in tasks]


def submission_records(plan: Plan, resources: Resources, names: Sequence[str]) -> list[submissions.Submission]:
    """What the record of submissions keeps of the runs called `names`."""
    prices = {
        kind: {market: price * resources.nodes for market, price in one.as_dict(resources).items()}
        for kind, one in node_prices(resources).items()
    }
    chosen = set(names)
    return [
        submissions.Submission(
            run=run.cell.run,
            matrix=run.cell.config.labels.matrix,
            env=run.cell.env,
            arm=run.cell.config.arm,
            seed=run.cell.config.seed,
            total_timesteps=run.cell.agent_steps,
            hours=run.estimate and run.estimate.hours,
            dollars=_bounds(run.estimate),
            prices=prices,
        )
        for run in plan.runs
        if run.cell.run in chosen
    ]


def _bounds(estimate: Any) -> list[float] | None:
    return None if estimate is None or estimate.dollars_high is None else [estimate.dollars_low, estimate.dollars_high]


def _tell(sent: Sent, console: Console) -> int:
    total = len(sent.sent) + len(sent.known) + len(sent.failed) + len(sent.left)
    parts = [f"{len(sent.sent)} of {total} runs submitted"]
    parts += [f"{len(sent.known)} there already"] * bool(sent.known)
    parts += [f"{len(sent.failed)} failed (--retry-failed submits them again)"] * bool(sent.failed)
    parts += [f"{len(sent.left)} not submitted (the same command carries on)"] * bool(sent.left)
    console.print("; ".join(parts) + "; `memexp status` shows them", highlight=False, soft_wrap=True)
    return 1 if sent.left else 0
