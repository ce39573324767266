"""Checkpoints: the whole state of a run, written so that a crash at any moment leaves the previous one intact.

    checkpoints/<agent steps>/
        weights.safetensors   the policy
        shared.pt             optimiser, random generators, counters: the same on every rank
        rank-00000.pt         environments and recurrent state of one rank
        manifest.json         SHA-256 of each file and number of ranks; written last
        unfinished            removed after the manifest is written

The last two are kept, and loading verifies every hash. Another number of ranks may continue the run.
"""

import hashlib
import io
import json
import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from memexp.ppo.distributed import Ranks
from memexp.runs.reading import read_bytes, read_json
from memexp.runs.writer import Writer

KEEP = 2
"""Checkpoints kept."""
READ_RETRY_S = (0.5, 2.0, 8.0)
"""Seconds before each retry of a read that failed."""
_WEIGHTS, _SHARED, _MANIFEST, _UNFINISHED = "weights.safetensors", "shared.pt", "manifest.json", "unfinished"

T = TypeVar("T")


class CheckpointError(RuntimeError):
    """No checkpoint of the run can be read; the message names each one and its problem."""


@dataclass
class Checkpoint:
    """What is saved: the weights, what all ranks share, and what this rank alone has."""

    agent_steps: int
    weights: dict[str, Tensor]
    shared: dict[str, Any]
    mine: dict[str, Any]


# Writing.


def name_of(agent_steps: int) -> str:
    """Name of the checkpoint's directory; the names sort like the steps."""
    return f"{agent_steps:015d}"


def write(folder: Path, checkpoint: Checkpoint, keep: Iterable[str], ranks: Ranks, writer: Writer) -> tuple[str, int]:
    """Copy `checkpoint` and order its files below `folder`; every rank calls this at the same moment.

    Returns the group of this rank's orders and the number of the last one. When the files of all ranks are there, the
    first rank writes the manifest and removes every checkpoint but this one and those named in `keep`. Raises
    FloatingPointError if weights are not finite: such a state is never written.
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

    final, group = folder / name_of(checkpoint.agent_steps), writer.new_group()
    writer.order("replace", final / _UNFINISHED, group=group)
    for name, data in files.items():
        last = writer.order("replace", final / name, data, group=group)
    if ranks.is_first:
        manifest = {
            "agent_steps": checkpoint.agent_steps,
            "world_size": ranks.world_size,
            "files": {name: digest for name, _, digest in every},
        }
        sizes = {name: size for name, size, _ in every}
        options = {"needs": sizes, "marker": _UNFINISHED, "keep": list(keep)}
        last = writer.order("commit", final / _MANIFEST, json.dumps(manifest, indent=2).encode(), group, **options)
    return group, last


# Reading.


def load_latest(folder: Path, ranks: Ranks) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is complete on every rank (None if there is none), and the problem of each newer one.

    Raises CheckpointError if there are finished checkpoints but none can be read; nothing is removed then.
    """
    problems, damaged = [], False
    for path, finished in reversed(ranks.gather(_with_retries(lambda: _existing(folder)))[0]):
        checkpoint, problem = None, f"checkpoint {path} was not finished"
        if finished:
            checkpoint, problem = _or_problem(path, lambda path=path: _load(path, ranks))
        found = [other for other in ranks.gather(problem) if other]
        if not found:
            return checkpoint, problems
        problems.append(found[0])
        damaged |= finished
    if damaged:
        raise CheckpointError("; ".join(problems))
    return None, problems


def load_weights(folder: Path) -> tuple[int, dict[str, Tensor]]:
    """Agent steps and weights of the newest checkpoint whose weights can be read, on the CPU.

    Any number of ranks may have written it. Raises CheckpointError if there is none.
    """
    problems = []
    for path, _ in reversed(_existing(folder)):
        found, problem = _or_problem(path, lambda path=path: _load_weights(path, read_json(path / _MANIFEST)))
        if found:
            return int(path.name), found
        problems.append(problem)
    raise CheckpointError(
        "; ".join(problems) or "there is no checkpoint: it has written none yet, or it failed before its first"
    )


def _rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def _existing(folder: Path) -> list[tuple[Path, bool]]:
    """Directories of checkpoints, oldest first, and whether each was finished (it may be damaged since)."""
    found = sorted(path for path in folder.glob("[0-9]" * 15) if path.is_dir())
    return [(path, _is_finished(path)) for path in found]


def _is_finished(path: Path) -> bool:
    if (path / _MANIFEST).exists():
        return True
    # The manifest may be lost. Names of files that are being written begin with a dot.
    return not (path / _UNFINISHED).exists() and any(path.glob("[!.]*"))


def _or_problem(path: Path, load: Callable[[], T]) -> tuple[T | None, str | None]:
    """What `load` returns, or why not: a damaged file may raise anything."""
    try:
        return _with_retries(load), None
    except Exception as error:
        why = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
        return None, f"checkpoint {path} cannot be used: {shorten(why, 300)}"


def _load(path: Path, ranks: Ranks) -> Checkpoint:
    manifest = read_json(path / _MANIFEST)
    written_by = manifest["world_size"]
    shared = from_bytes(_verified(path, manifest, _SHARED), ranks.device)
    parts = overlapping(ranks.rank, ranks.world_size, written_by)
    mine = [from_bytes(_verified(path, manifest, _rank_file(part)), ranks.device) for part in parts]
    own = mine[0] if written_by == ranks.world_size else share(mine, ranks.rank, ranks.world_size, written_by)
    weights = {name: weight.to(ranks.device) for name, weight in _load_weights(path, manifest).items()}
    return Checkpoint(int(path.name), weights, shared, own)


def _load_weights(path: Path, manifest: dict[str, Any]) -> dict[str, Tensor]:
    return safetensors.torch.load(_verified(path, manifest, _WEIGHTS))


def _verified(path: Path, manifest: dict[str, Any], name: str) -> bytes:
    """The file's content. Raises ValueError if its hash is not the manifest's."""
    data = read_bytes(path / name)
    if hashlib.sha256(data).hexdigest() != manifest["files"][name]:
        raise ValueError(f"{name} is damaged")
    return data


def _with_retries(read: Callable[[], T]) -> T:
    """What `read` returns. It is called again if the file system fails; a file that does not exist is no failure."""
    for wait in READ_RETRY_S:
        try:
            return read()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(wait)
    return read()


# States as bytes, and their division among another number of ranks.


def to_bytes(value: Any) -> bytes:
    """A copy of a tree of tensors, arrays and plain values."""
    buffer = io.BytesIO()
    torch.save(pack(value), buffer)
    return buffer.getvalue()


def from_bytes(data: bytes, device: torch.device) -> Any:
    """The tree that `to_bytes` was given, its tensors on `device`. Raises ValueError for code in place of data."""
    try:
        return unpack(torch.load(io.BytesIO(data), map_location=device, weights_only=True))
    except pickle.UnpicklingError:  # PyTorch's message advises to run the code
        raise ValueError("it holds something other than tensors and plain values, perhaps code") from None


def pack(value: Any) -> Any:
    """The tree with NumPy arrays as marked tensors: files hold tensors and plain values only (`weights_only`)."""
    if isinstance(value, np.ndarray):
        return {"__ndarray__": torch.from_numpy(np.array(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(pack(item) for item in value)
    return value


def unpack(value: Any) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, dict):
        if value.keys() == {"__ndarray__"}:
            return value["__ndarray__"].cpu().numpy()
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(unpack(item) for item in value)
    return value


def overlapping(rank: int, world_size: int, parts: int) -> range:
    """Which of `parts` equal shares of the environments overlap the share of `rank` among `world_size`."""
    return range(rank * parts // world_size, -(-(rank + 1) * parts // world_size))


def share(trees: Sequence[Any], rank: int, world_size: int, parts: int) -> Any:
    """The state with which `rank` of `world_size` ranks continues, from the states that `parts` ranks wrote.

    trees: those of the `overlapping` ranks. The first dimension of each leaf is environments or agents in order; leaves
    are joined and divided anew. Raises ValueError for other leaves.
    """
    # In units of which a part has `world_size` and a share has `parts`.
    offset = rank * parts - overlapping(rank, world_size, parts).start * world_size
    return _cut(trees, offset, parts, len(trees) * world_size)


def _cut(trees: Sequence[Any], offset: int, length: int, span: int) -> Any:
    """`length` units from `offset` on, of the joined trees, which are `span` units long."""
    one = trees[0]
    if isinstance(one, dict):
        return {key: _cut([tree[key] for tree in trees], offset, length, span) for key in one}
    if isinstance(one, Tensor | np.ndarray) and one.ndim:
        rows = sum(map(len, trees))
        mine = slice(rows * offset // span, rows * (offset + length) // span)
        return torch.cat(list(trees))[mine].clone() if isinstance(one, Tensor) else np.concatenate(trees)[mine]
    if isinstance(one, list | tuple) and not any(map(len, trees)):
        return one
    raise ValueError(f"it holds a {type(one).__name__} that cannot be divided among another number of ranks")
