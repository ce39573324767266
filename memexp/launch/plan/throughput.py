"""How fast training goes: measured figures, and which of them applies to a run on a kind of machine.

Figures come from three places, in this order: runs of the same arm (their metrics.jsonl), `memexp bench` on this
machine ($MEMEXP_HOME/throughput.yaml), and the package's table (throughput.yaml beside this file). A figure of another
environment or another kind of machine never counts.
"""

import json
import re
import statistics
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from memexp.config import Config, UsageError, read_yaml
from memexp.cortex.config import CortexConfig
from memexp.cortex.cost import cost
from memexp.envs.config import ThirdParty
from memexp.launch.plan.resources import is_kind
from memexp.launch.plan.run_spec import RunSpec
from memexp.machine import cpu_name
from memexp.pattern import ATTENTION, tokens_in
from memexp.ppo.config import TrainConfig
from memexp.runs import Run, find_runs, home
from memexp.runs.directory import write_atomically
from memexp.runs.status import last_metrics

TABLE = Path(__file__).with_name("throughput.yaml")
CALIBRATION = 3
"""Updates after which a run's own rate counts."""


class Figure(Config):
    """One measured throughput."""

    hardware: str
    """SkyPilot's name of the GPU ("L4"), or run.json's name of a CPU machine ("2-core CPU")."""
    gpus: int
    env: str
    pattern: str
    mem_len: int | None = None
    """None: not known, or without meaning for the pattern."""
    num_layers: int | None = None
    d_hidden: int | None = None
    sps: float
    """Agent steps per second of the whole node."""
    start_s: float | None = None
    """Seconds that a run takes before its first update; None: not known."""
    source: str
    date: date


@dataclass(frozen=True)
class Speed:
    """Expected agent steps per second, and where the figure comes from."""

    sps: float
    basis: str
    stands_for: str = ""
    """Pattern for which another pattern's figure was taken."""
    start_s: float = 0.0
    """Seconds that a run takes before its first update, where they are known."""


def user_table() -> Path:
    """This machine's figures, which `memexp bench` writes."""
    return home() / "throughput.yaml"


def _read(file: Path) -> list[Figure]:
    return _parsed(file, file.stat().st_mtime_ns) if file.exists() else []


@cache
def _parsed(file: Path, changed: int) -> list[Figure]:
    rows: Any = read_yaml(file, yaml.safe_load) or []  # it has dates, as yaml.safe_dump writes them
    if not isinstance(rows, list):
        raise UsageError(f"{file} is no list of figures")
    return [Figure.parse(row, str(file)) for row in cast(list[Any], rows)]


def add_figure(figure: Figure, file: Path | None = None) -> Path:
    """Write the figure into a table (default: this machine's), in place of one of the same kind; returns the table."""
    file = file or user_table()
    head = "".join(line for line in file.read_text().splitlines(True) if line.startswith("#")) if file.exists() else ""
    measured = {"sps", "start_s", "source", "date"}
    kind = figure.model_dump(exclude=measured)
    others = [one for one in _read(file) if one.model_dump(exclude=measured) != kind]
    rows = [one.model_dump(exclude_none=True) for one in [*others, figure]]
    text = "".join(f"- {yaml.safe_dump(row, default_flow_style=True, sort_keys=False, width=1000)}" for row in rows)
    write_atomically(file, (head + text).encode())
    return file


def figure_of(config: TrainConfig, device: str, gpus: int, sps: float, start_s: float | None = None) -> Figure:
    """What `memexp bench` measured, as a figure of today. A GPU has SkyPilot's name, if that is known."""
    attends = tokens_in(config.cortex.pattern) & ATTENTION
    return Figure(
        hardware=table_name(device) if gpus else cpu_name(),
        gpus=gpus,
        env=_env_of(config),
        pattern=_pattern_of(config),
        mem_len=config.cortex.mem_len if attends else None,
        num_layers=config.cortex.num_layers,
        d_hidden=config.cortex.d_hidden,
        sps=round(sps, 1),
        start_s=start_s and round(start_s, 1),
        source="memexp bench",
        date=date.today(),
    )


def table_name(device: str) -> str:
    """SkyPilot's name of a GPU, if it is known, else the driver's."""
    kinds = ("H100", "H200", "A100-80GB", "A100", "L4", "L40S", "A10G", "T4", "V100")
    return next((kind for kind in kinds if is_kind(device, kind)), device)


def _pattern_of(config: TrainConfig) -> str:
    """The pattern in a figure; a list of layers is joined to one word."""
    return config.cortex.pattern if isinstance(config.cortex.pattern, str) else "-".join(config.cortex.pattern)


def _env_of(config: TrainConfig) -> str:
    """The environment in a figure: of third-party ones the id, options and wrappers, because each has its own speed."""
    env = config.env
    if not isinstance(env, ThirdParty):
        return env.name
    return " ".join([env.id, *([json.dumps(env.options, sort_keys=True)] if env.options else []), *env.wrappers])


def step_flops(cortex: CortexConfig, pattern: str | list[str] | None = None) -> int | None:
    """FLOPs of one step of one agent, with `pattern` in place of the config's; None for cells without a formula."""
    try:
        stack = cost(pattern or cortex.pattern, cortex.d_hidden, cortex.num_layers, cortex.n_heads, cortex.mem_len)
    except UsageError:
        return None
    return stack.step_flops


def expected_speed(spec: RunSpec, kind: str, gpus: int, nodes: int = 1) -> Speed | None:
    """The tables' rate of the run on `nodes` nodes of `gpus` GPUs of a kind; None if they have no figure for it.

    Only figures of the same environment and kind of machine count. One for another number of GPUs or cores, if possible
    the nearest smaller one, is scaled in proportion. Nodes add up. In place of a pattern without a figure, that of the
    costliest pattern counts, if it takes at least as many FLOPs.
    """
    (machine, count), env, cortex = _machine(kind, gpus), _env_of(spec.config), spec.config.cortex
    pattern, flops = _pattern_of(spec.config), step_flops(cortex)
    known = [one for one in [*_read(user_table()), *_read(TABLE)] if one.env == env]
    known = [one for one in known if _machine(one.hardware, one.gpus)[0] == machine]
    same = [one for one in known if one.pattern == pattern and one.mem_len in (None, cortex.mem_len)]

    def flops_of(figure: Figure) -> int:
        sizes = cortex.model_copy(update={} if figure.mem_len is None else {"mem_len": figure.mem_len})
        layers = figure.pattern.split("-")
        return step_flops(sizes, layers if len(layers) > 1 else figure.pattern) or 0

    def likeness(figure: Figure) -> tuple[int, int, bool, int]:
        alike = sum(getattr(figure, key) == getattr(cortex, key) for key in ("num_layers", "d_hidden"))
        its = _machine(figure.hardware, figure.gpus)[1]
        return 0 if same else flops_of(figure), alike, its <= count, -abs(its - count)

    best = max(same or known, key=likeness, default=None)
    if best is None or not (same or (flops and flops_of(best) >= flops)):
        return None
    its = _machine(best.hardware, best.gpus)[1]
    size = f"{best.gpus}x {best.hardware}" if best.gpus else best.hardware
    scaled = "" if its == count else f", scaled from {its} to {count} {'GPUs' if gpus else 'cores'}"
    start = f", {best.start_s:.0f} s to start" if best.start_s else ""
    basis = f"{best.pattern} on {size}, {best.source} ({best.date}){scaled}{start}"
    return Speed(best.sps * count / its * nodes, basis, "" if same else pattern, best.start_s or 0.0)


def _machine(hardware: str, gpus: int) -> tuple[str, int]:
    """The kind of a machine and how many it has of it: ("L4", 8), or ("CPU", 2) of a "2-core CPU"."""
    if not gpus and (cores := re.fullmatch(r"(\d+)-core CPU", hardware)):
        return "CPU", int(cores[1])
    return hardware, max(1, gpus)


Arm = tuple[str | None, str, str]
"""Matrix, environment, arm."""


def measured_speeds() -> dict[Arm, list[tuple[str, Speed]]]:
    """Arm -> (hardware, rate) of each of its runs that has measured a rate."""
    speeds: dict[Arm, list[tuple[str, Speed]]] = {}
    for run in find_runs():
        if (sps := rate_of(run)) is None:
            continue
        try:
            info = run.info
        except (OSError, ValueError):
            continue
        if info.hardware:
            speed = Speed(sps, f"measured in {run.name}")
            speeds.setdefault((info.matrix, info.env, info.arm), []).append((info.hardware, speed))
    return speeds


def rate_of(run: Run) -> float | None:
    """The run's agent steps per second, median of its last updates; None if it has fewer than CALIBRATION."""
    rates = [line["sps"] for line in last_metrics(run) if isinstance(line.get("sps"), (int, float))]
    return statistics.median(rates) if len(rates) >= CALIBRATION else None


def measured_speed(spec: RunSpec, kind: str, count: int, known: dict[Arm, list[tuple[str, Speed]]]) -> Speed | None:
    """Median rate of the runs of the same arm on `count` GPUs of a kind (0: on this kind of CPU machine)."""
    found = known.get((spec.config.labels.matrix, spec.env, spec.config.arm), [])
    fitting = [speed for hardware, speed in found if is_hardware(hardware, kind, count)]
    return Speed(statistics.median(one.sps for one in fitting), fitting[-1].basis) if fitting else None


def is_hardware(name: str, kind: str, count: int) -> bool:
    """True if run.json's '8x NVIDIA L4' is `count` GPUs of SkyPilot's kind ('L4'); a CPU machine is its whole name."""
    if not count:
        return name == kind
    match = re.fullmatch(r"(\d+)x (.+)", name)
    return match is not None and int(match[1]) == count and is_kind(match[2], kind)
