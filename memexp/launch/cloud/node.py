"""What a task and its run.sh ask Python on a node: may the run start, what does it cost, how did it end, again or not?

python -m memexp.launch.cloud.node run RECIPE KEY=VALUE...       becomes run.sh
python -m memexp.launch.cloud.node check RECIPE KEY=VALUE...     exit code 2 for arguments that no restart makes right
python -m memexp.launch.cloud.node start                         prints its number, then overrides for `memexp train`
python -m memexp.launch.cloud.node stalled SECONDS               notifies the channel
python -m memexp.launch.cloud.node end NUMBER CODE STOPPED       prints the exit code for SkyPilot, notifies the channel
"""

import http.client
import json
import os
import sys
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

from memexp.config import UsageError, parse_overrides
from memexp.credentials import mask
from memexp.formatting import dollars
from memexp.launch import killed_by
from memexp.launch.plan.resources import is_kind
from memexp.launch.status.attempts import (
    End,
    Market,
    Word,
    add_end,
    add_start,
    end_of_start,
    last_error,
    spent,
    starts_of,
)
from memexp.launch.status.notify import notify
from memexp.machine import gpu_names
from memexp.runs import RESTART, Run, home
from memexp.runs.status import end_of, reached

DONE, FAILED, WRONG_USAGE = 0, 1, 2
UNFIT = 78
"""run.sh's code where no node of this kind is fit for the run (77: another node may be)."""
MAX_RESTARTS = 3
"""Starts in a row that end in an error without progress; one more and the run has failed."""
METADATA = os.environ.get("MEMEXP_METADATA", "http://169.254.169.254")
"""Address at which clouds describe an instance to itself."""
NO_ANSWER = (OSError, ValueError, http.client.HTTPException)
"""What a request to it may raise."""


def check(arguments: Sequence[str]) -> int:
    """The exit code for the arguments of a run: 2, with one line on stderr, where `memexp train` would refuse them."""
    from memexp.launch.plan.recipe import split_target
    from memexp.launch.plan.run_spec import recipe_specs
    from memexp.ppo.config import RESUMABLE
    from memexp.runs.identity import refuse_another_experiment

    try:
        recipe, overrides = split_target(arguments)
        (spec,) = recipe_specs(recipe, parse_overrides(overrides))
        refuse_another_experiment(Run.named(spec.run), spec.config.model_dump(), RESUMABLE)
    except UsageError as error:
        _say(f"memexp: {error}")
        if os.environ.get("SKYPILOT_NODE_RANK", "0") == "0":
            notify("failed", os.environ["MEMEXP_RUN"], str(error), _say)
        return WRONG_USAGE
    return DONE


def start(run: Run) -> list[str]:
    """Record a start; returns its number and the overrides that carry machine and price into run.json."""
    hardware, price, market = machine_price(gpu_names(), int(os.environ.get("SKYPILOT_NUM_NODES") or 1))
    cluster = json.loads(os.environ.get("SKYPILOT_CLUSTER_INFO") or "{}")
    place = "/".join(str(cluster[key]) for key in ("cloud", "region") if cluster.get(key)) or None
    begun = add_start(run, reached(run), hardware=hardware, market=market, price_per_hour=price, place=place)
    labels = {"hardware": hardware, "price_per_hour": price}
    return [str(begun.number), *(f"labels.{key}={value}" for key, value in labels.items() if value is not None)]


def machine_price(names: Sequence[str], nodes: int) -> tuple[str | None, float | None, Market | None]:
    """(hardware, dollars per hour of all nodes, market), by $MEMEXP_PRICES: {kind: {market: dollars per node hour}}.

    If the market is not known, the higher price counts.
    """
    prices: dict[str, dict[Market, float]] = json.loads(os.environ.get("MEMEXP_PRICES") or "{}")
    kind = kind_of(names[0], prices) if names else next(iter(prices), None)
    known = prices.get(kind or "", {})
    market: Market | None = market_here() if len(known) > 1 else next(iter(known), None)
    price = known.get(market) if market else max(known.values(), default=None)
    hardware = f"{nodes * len(names)}x {names[0]}" if names else None
    return hardware, None if price is None else round(price * nodes, 4), market


def kind_of(name: str, kinds: Iterable[str]) -> str | None:
    """SkyPilot's kind of GPU among `kinds` for a driver's name: 'NVIDIA A100-SXM4-80GB' -> 'A100-80GB'."""
    return max((kind for kind in kinds if is_kind(name, kind)), key=len, default=None)


def market_here() -> Market | None:
    """Whether this is a spot instance, as the cloud says; None if it does not say."""

    def ask(path: str, method: str = "GET", **headers: str) -> str:
        request = urllib.request.Request(METADATA + path, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=1) as answer:
            return answer.read().decode().strip()

    try:
        preemptible = "/computeMetadata/v1/instance/scheduling/preemptible"
        return "spot" if ask(preemptible, **{"Metadata-Flavor": "Google"}) == "TRUE" else "on_demand"
    except NO_ANSWER:
        pass
    try:
        token = ask("/latest/api/token", "PUT", **{"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        cycle = ask("/latest/meta-data/instance-life-cycle", **{"X-aws-ec2-metadata-token": token})
        return "spot" if cycle == "spot" else "on_demand"
    except NO_ANSWER:
        return None


def judge(run: Run, number: int, code: int, stopped: bool) -> End:
    """How start `number` ended, and SkyPilot's exit code: from the trainer's exit code and the run directory."""
    outcome, steps = end_of(run), reached(run)
    reason = outcome.reason if outcome else ""
    status = outcome.status if outcome else None
    silent = (run.path / "silent").exists()

    def ended(code: int, word: Word, reason: str = "") -> End:
        return End(code=code, word=word, agent_steps=steps, reason=reason)

    if (run.path / "time_is_up").exists():
        return ended(DONE, "time is up")
    if code == DONE:
        return ended(DONE, "done")
    if code == WRONG_USAGE:
        return ended(WRONG_USAGE, "wrong usage", reason)
    if status == "cancelled":
        return ended(FAILED, "cancelled", reason)
    if stopped and not silent:
        return ended(RESTART, "preempted", reason)
    # Nobody stopped it, and yet it asks for another start: a rank waited for another in vain.
    hung = silent or code == RESTART or status == "preempted"
    reason = reason or last_error(run) or killed_by(code) or f"exit code {code}"
    if code == UNFIT or "FloatingPointError" in reason or _in_vain(run, number, steps) >= MAX_RESTARTS:
        return ended(FAILED, "failed", reason)
    return ended(RESTART, "hung" if hung else "error", reason)


def _in_vain(run: Run, number: int, steps: int) -> int:
    """How many starts just before start `number` ended in an error, with no agent step since."""
    count = 0
    for begun in reversed(starts_of(run)[:number]):
        end = end_of_start(run, begun.number)
        if end is None or end.word not in ("hung", "error") or steps > end.agent_steps:
            break
        count += 1
    return count


def end(run: Run, number: int, code: int, stopped: bool) -> int:
    """Record how the start ended and notify the channel; returns SkyPilot's exit code."""
    found = judge(run, number, code, stopped)
    add_end(run, number, found)
    hours, paid = spent(run)
    cost = f"{hours:.1f} h" + ("" if paid is None else f", {dollars(paid)}")
    if found.word in ("done", "time is up"):
        notify("done", run.name, f"{found.agent_steps:,} agent steps, {cost}", _say)
    elif found.word in ("failed", "wrong usage"):
        notify("failed", run.name, f"{found.reason or found.word} ({cost})", _say)
    _say(f"run.sh: {found.word}{': ' if found.reason else ''}{found.reason}; exit code {found.code}")
    return found.code


def _say(line: str) -> None:
    print(mask(line), file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    what, *rest = arguments
    if what == "run":
        os.execvp("bash", ["bash", str(Path(__file__).parent / "scripts" / "run.sh"), *rest])
    if what == "check":
        return check(rest)
    if what == "home":
        try:
            print(home())
        except UsageError as error:
            _say(f"memexp: {error}")
            return WRONG_USAGE
        return DONE
    run = Run.named(os.environ["MEMEXP_RUN"])
    if what == "start":
        print("\n".join(start(run)))
    elif what == "stalled":
        notify("stalled", run.name, f"no metrics for {rest[0]} s; it is restarted", _say)
    else:
        print(end(run, int(rest[0]), int(rest[1]), rest[2] == "1"))
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
