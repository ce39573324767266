"""A run is a directory: what it is, its metrics, its episodes, its checkpoints and how it ended.

`directory` reads and writes it, `writer` has another process do the writing (`scribe`), `provenance` says where it came
from, `wandb` mirrors it as a second sink.
"""

from memexp.runs.directory import MAX_GAP as MAX_GAP
from memexp.runs.directory import RESTART as RESTART
from memexp.runs.directory import Exit as Exit
from memexp.runs.directory import Run as Run
from memexp.runs.directory import RunInfo as RunInfo
from memexp.runs.directory import find_runs as find_runs
from memexp.runs.directory import home as home
from memexp.runs.directory import runs_dir as runs_dir
