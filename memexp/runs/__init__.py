"""A run is a directory: what the run is, its metrics, episodes and checkpoints, and how it ended.

`directory` reads and writes it. `metrics` reads metrics.jsonl. `status` says how a run stands. `writer` lets another
process (`scribe`) do a trainer's writing. `provenance` records where a run came from. `loggers` copy its metrics into
`sinks` and `wandb_sink`; `wandb_source` reads runs from W&B.
"""

from memexp.runs.directory import MAX_GAP as MAX_GAP
from memexp.runs.directory import RESTART as RESTART
from memexp.runs.directory import Exit as Exit
from memexp.runs.directory import Run as Run
from memexp.runs.directory import RunInfo as RunInfo
from memexp.runs.directory import Trial as Trial
from memexp.runs.directory import find_runs as find_runs
from memexp.runs.directory import home as home
from memexp.runs.directory import runs_dir as runs_dir
