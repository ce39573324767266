"""What run.sh asks Python on a node: may the run start, what does it cost, how did it end, is it to be restarted?

python -m memexp.launch.cloud.node check RECIPE KEY=VALUE...     exit code 2 for words that no restart makes right
python -m memexp.launch.cloud.node start                         prints its number, then words for `memexp train`
python -m memexp.launch.cloud.node stalled SECONDS               tells the channel
python -m memexp.launch.cloud.node end NUMBER CODE STOPPED       prints the exit code for SkyPilot, tells the channel
"""

import http.client
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence

from memexp.config import UsageError, parse_overrides
from memexp.formatting import dollars
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
from memexp.runs import RESTART, Run
from memexp.runs.status import end_of, reached

DONE, FAILED, WRONG_USAGE = 0, 1, 2
UNFIT = 78
"""What run.sh ends with where no node of this kind will do (77: where another may)."""
MAX_RESTARTS = 3
"""Starts in a row that end in an error and get no further, after which the run has failed."""


def check(words: Sequence[str]) -> int:
    """The exit code for the words of a run: 2 with one line on stderr where `memexp train` would refuse them."""
    from memexp.launch.plan.recipe import split_target
    from memexp.launch.plan.run_spec import recipe_specs
    from memexp.ppo.config import RESUMABLE
    from memexp.runs.identity import refuse_another_experiment

    try:
        recipe, pairs = split_target(words)
        cell = recipe_specs(recipe, parse_overrides(pairs))[0]
        refuse_another_experiment(Run.named(cell.run), cell.config.model_dump(), RESUMABLE)
    except UsageError as error:
        print(f"memexp: {error}", file=sys.stderr)
        if os.environ.get("SKYPILOT_NODE_RANK", "0") == "0":
            notify("failed", os.environ["MEMEXP_RUN"], str(error), _say)
        return WRONG_USAGE
    return DONE


def start(run: Run) -> list[str]:
    """Record a start; returns its number and the words that carry machine and price into run.json."""
    hardware, price, market = machine_price(gpu_names(), int(os.environ.get("SKYPILOT_NUM_NODES") or 1))
    cluster = json.loads(os.environ.get("SKYPILOT_CLUSTER_INFO") or "{}")
    place = "/".join(str(cluster[key]) for key in ("cloud", "region") if cluster.get(key)) or None
    begun = add_start(run, reached(run), hardware=hardware, market=market, price_per_hour=price, place=place)
    words = {"hardware": hardware, "price_per_hour": price}
    return [str(begun.number), *(f"labels.{key}={value}" for key, value in words.items() if value is not None)]


def gpu_names() -> list[str]:
    """Names of this node's GPUs, as its driver calls them."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def machine_price(names: list[str], nodes: int) -> tuple[str | None, float | None, Market | None]:
    """(hardware, dollars per hour of all nodes, market), by $MEMEXP_PRICES: {kind: {market: dollars per node hour}}."""
    prices: dict[str, dict[Market, float]] = json.loads(os.environ.get("MEMEXP_PRICES") or "{}")
    kind = kind_of(names[0], prices) if names else next(iter(prices), None)
    known = prices.get(kind or "", {})
    market: Market | None = market_here() if len(known) > 1 else next(iter(known), None)
    price = known.get(market) if market else max(known.values(), default=None)  # not known: never understated
    hardware = f"{nodes * len(names)}x {names[0]}" if names else None
    return hardware, None if price is None else round(price * nodes, 4), market


def kind_of(name: str, kinds: Sequence[str] | dict) -> str | None:
    """SkyPilot's kind of GPU among `kinds` that a driver's name stands for: 'NVIDIA A100-SXM4-80GB' -> 'A100-80GB'."""
    fitting = [kind for kind in kinds if is_kind(name, kind)]
    return max(fitting, key=len, default=None)


METADATA = os.environ.get("MEMEXP_METADATA", "http://169.254.169.254")
"""Where clouds tell an instance about itself."""
NO_ANSWER = (OSError, ValueError, http.client.HTTPException)
"""What asking there may raise."""


def market_here() -> Market | None:
    """Whether this is a spot instance, as the cloud says; None where it says nothing."""

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
    """How start `number` ended, from the trainer's exit code and the run directory, and SkyPilot's exit code."""
    outcome, steps = end_of(run), reached(run)
    word: Word
    if (run.path / "time_is_up").exists():
        return End(code=DONE, word="time is up", agent_steps=steps)
    if code == DONE:
        return End(code=DONE, word="done", agent_steps=steps)
    reason = outcome.reason if outcome else ""
    if code == WRONG_USAGE:
        return End(code=WRONG_USAGE, word="wrong usage", agent_steps=steps, reason=reason)
    silent = (run.path / "silent").exists()
    if outcome is not None and outcome.status == "cancelled":
        return End(code=FAILED, word="cancelled", agent_steps=steps, reason=reason)
    if stopped and not silent:
        return End(code=RESTART, word="preempted", agent_steps=steps, reason=reason)
    # Nobody told it to stop, and yet it asks for another start: a rank waited for another in vain.
    asks = code == RESTART or (outcome is not None and outcome.status == "preempted")
    word = "hung" if silent or asks else "error"
    reason = reason or last_error(run) or f"exit code {code}"
    if code == UNFIT or "FloatingPointError" in reason or _in_vain(run, number, steps) >= MAX_RESTARTS:
        return End(code=FAILED, word="failed", agent_steps=steps, reason=reason)
    return End(code=RESTART, word=word, agent_steps=steps, reason=reason)


def _in_vain(run: Run, number: int, steps: int) -> int:
    """Starts directly before start `number` that ended in an error with no step more than the one before them."""
    count = 0
    for begun in reversed(starts_of(run)[:number]):
        end = end_of_start(run, begun.number)
        if end is None or end.word not in ("hung", "error") or steps > end.agent_steps:
            break
        count += 1
    return count


def end(run: Run, number: int, code: int, stopped: bool) -> int:
    """Record how the start ended and tell the channel; returns SkyPilot's exit code."""
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
    print(line, file=sys.stderr)


def main(words: Sequence[str]) -> int:
    what, *rest = words
    if what == "check":
        return check(rest)
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
