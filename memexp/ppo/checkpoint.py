"""Checkpoints: everything a run is, written so that a crash at any moment leaves the previous one whole.

    checkpoints/<agent steps>/
        weights.safetensors   the policy
        shared.pt             optimiser, random generators, counters (the same on every rank)
        rank-00000.pt         worlds and memory of one rank
        manifest.json         SHA-256 of each file, number of ranks; written last
        unfinished            taken away after the manifest was written

The last two are kept; loading verifies every hash. Any number of ranks may carry on what another number wrote.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from memexp.ppo.distributed import Ranks
from memexp.ppo.resharding import from_bytes, overlapping, share, to_bytes
from memexp.runs.writer import Writer

KEEP = 2
"""Checkpoints kept."""
READ_WAITS_S = (0.5, 2.0, 8.0)
"""Seconds before a read that failed is tried again."""

T = TypeVar("T")


class CheckpointError(RuntimeError):
    """No checkpoint of the run can be read; the message names each and what is wrong with it."""


@dataclass
class Checkpoint:
    """What is saved: weights, what all ranks share, what this rank alone has."""

    agent_steps: int
    weights: dict[str, Tensor]
    shared: dict[str, Any]
    mine: dict[str, Any]


@dataclass
class Image:
    """A checkpoint as this rank's files: a copy that later training does not change."""

    name: str
    files: dict[str, bytes]
    """File name -> content, of the files that this rank writes."""
    manifest: bytes
    sizes: dict[str, int]
    """File name -> bytes, of the files of all ranks."""


def name_of(agent_steps: int) -> str:
    """The directory's name; names sort like the steps."""
    return f"{agent_steps:015d}"


def image(checkpoint: Checkpoint, ranks: Ranks) -> Image:
    """`checkpoint` as files; every rank calls this at the same moment.

    Raises FloatingPointError if weights are not finite: such a state is never written.
    """
    bad = [name for name, weight in checkpoint.weights.items() if not bool(torch.isfinite(weight).all())]
    if bad:
        raise FloatingPointError(f"{bad[0]} is not finite; no checkpoint was written")
    files = {_rank_file(ranks.rank): to_bytes(checkpoint.mine)}
    if ranks.is_first:
        weights = {name: weight.detach().cpu().contiguous() for name, weight in checkpoint.weights.items()}
        files |= {_WEIGHTS: safetensors.torch.save(weights), _SHARED: to_bytes(checkpoint.shared)}
    listed = [(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()]
    every = [entry for entries in ranks.gather(listed) for entry in entries]
    manifest = {
        "agent_steps": checkpoint.agent_steps,
        "world_size": ranks.world_size,
        "files": {name: digest for name, _, digest in every},
    }
    sizes = {name: size for name, size, _ in every}
    return Image(name_of(checkpoint.agent_steps), files, json.dumps(manifest, indent=2).encode(), sizes)


def write(folder: Path, made: Image, keep: Iterable[str], ranks: Ranks, writer: Writer) -> tuple[str, int]:
    """Order this rank's files of a checkpoint below `folder`; returns the orders' group and the last one's number.

    The first rank declares it whole once all ranks' files are there, and removes every checkpoint but it and `keep`.
    """
    final, group = folder / made.name, writer.new_group()
    writer.order("replace", final / _UNFINISHED, group=group)
    for name, data in made.files.items():
        last = writer.order("replace", final / name, data, group=group)
    if ranks.is_first:
        manifest = final / _MANIFEST
        options = {"needs": made.sizes, "marker": _UNFINISHED, "keep": list(keep)}
        last = writer.order("commit", manifest, made.manifest, group, **options)
    return group, last


def load_latest(folder: Path, ranks: Ranks) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole (None where there is none), and a line about each newer one that is not.

    Whole means whole on every rank: all take the same one. Raises CheckpointError when there are finished checkpoints
    but none can be read; nothing is removed then.
    """
    problems, damaged = [], False
    for path, finished in reversed(ranks.gather(_tried(lambda: _existing(folder)))[0]):
        checkpoint, problem = None, f"checkpoint {path} was not finished"
        if finished:
            checkpoint, problem = _load_or_say(path, ranks)
        found = [other for other in ranks.gather(problem) if other]
        if not found:
            return checkpoint, problems
        problems.append(found[0])
        damaged |= finished
    if damaged:
        raise CheckpointError("; ".join(problems))
    return None, problems


def load_weights(folder: Path) -> tuple[int, dict[str, Tensor]]:
    """Agent steps and weights of the newest checkpoint whose weights are whole, on the CPU.

    However many ranks wrote it. Raises CheckpointError where there is none.
    """
    problems = []
    for path, _ in reversed(_existing(folder)):
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
            weights = safetensors.torch.load(_verified(path, manifest, _WEIGHTS))
            return manifest["agent_steps"], weights
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            problems.append(f"checkpoint {path} cannot be used: {error}")
    raise CheckpointError("; ".join(problems) or f"there is no checkpoint in {folder}")


_WEIGHTS, _SHARED, _MANIFEST, _UNFINISHED = "weights.safetensors", "shared.pt", "manifest.json", "unfinished"


def _rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def _existing(folder: Path) -> list[tuple[Path, bool]]:
    """Directories of checkpoints, oldest first, and whether each was finished (it may be damaged since)."""
    found = sorted(path for path in folder.glob("[0-9]*") if path.is_dir())
    return [(path, _is_finished(path)) for path in found]


def _is_finished(path: Path) -> bool:
    if (path / _MANIFEST).exists():
        return True
    return not (path / _UNFINISHED).exists() and any(path.glob("[!.]*"))  # with a dot begins what is being written


def _load_or_say(path: Path, ranks: Ranks) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint, or what is wrong with it."""
    try:
        return _tried(lambda: _load(path, ranks)), None
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        return None, f"checkpoint {path} cannot be used: {error}"


def _load(path: Path, ranks: Ranks) -> Checkpoint:
    manifest = json.loads((path / _MANIFEST).read_text())
    written_by = manifest["world_size"]
    shared = from_bytes(_verified(path, manifest, _SHARED), ranks.device)
    parts = overlapping(ranks.rank, ranks.world_size, written_by)
    mine = [from_bytes(_verified(path, manifest, _rank_file(part)), ranks.device) for part in parts]
    own = mine[0] if written_by == ranks.world_size else share(mine, ranks.rank, ranks.world_size, written_by)
    weights = safetensors.torch.load(_verified(path, manifest, _WEIGHTS))
    return Checkpoint(
        manifest["agent_steps"], {name: weight.to(ranks.device) for name, weight in weights.items()}, shared, own
    )


def _verified(path: Path, manifest: dict[str, Any], name: str) -> bytes:
    """The file's content. Raises ValueError unless it is what the manifest says."""
    data = (path / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != manifest["files"][name]:
        raise ValueError(f"{name} is damaged")
    return data


def _tried(read: Callable[[], T]) -> T:
    """What `read` returns, tried again where the file system fails; that a file is not there is no failure."""
    for wait in READ_WAITS_S:
        try:
            return read()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(wait)
    return read()
