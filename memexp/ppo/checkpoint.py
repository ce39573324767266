"""Checkpoints: everything a run is, written so that a crash at any moment leaves the previous one whole.

    checkpoints/<agent steps>/
        weights.safetensors   the policy
        shared.pt             optimiser, random generators, counters (the same on every rank)
        rank-00000.pt         worlds and memory of one rank
        manifest.json         SHA-256 of each file, world size; written last

A checkpoint is built beside its place and renamed into it; the last two are kept; loading verifies every hash.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from memexp.ppo.distributed import Ranks

KEEP = 2
"""Checkpoints kept."""


class CheckpointError(RuntimeError):
    """No checkpoint of the run can be read; the message names each and what is wrong with it."""


@dataclass
class Checkpoint:
    """What is saved: weights, what all ranks share, what this rank alone has."""

    agent_steps: int
    weights: dict[str, Tensor]
    shared: dict[str, Any]
    mine: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, ranks: Ranks) -> Path:
    """Write `checkpoint` (every rank its part, the first rank the rest) below `folder`; returns its directory."""
    final = folder / f"{checkpoint.agent_steps:015d}"
    building = folder / f".{final.name}.tmp"
    if ranks.is_first:
        for torn in folder.glob(".[0-9]*"):  # a crash left it
            shutil.rmtree(torn, ignore_errors=True)
        building.mkdir(parents=True)
    ranks.barrier()
    mine = building / _rank_file(ranks.rank)
    torch.save(_pack(checkpoint.mine), mine)
    hashes = dict(ranks.gather((mine.name, _sha256(mine))))
    if ranks.is_first:
        save_file({k: v.detach().cpu().contiguous() for k, v in checkpoint.weights.items()}, building / _WEIGHTS)
        torch.save(_pack(checkpoint.shared), building / _SHARED)
        hashes |= {name: _sha256(building / name) for name in (_WEIGHTS, _SHARED)}
        manifest = {"agent_steps": checkpoint.agent_steps, "world_size": ranks.world_size, "files": hashes}
        (building / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        _publish(building, final)
        past = [path for path in _existing(folder) if path <= final]
        for path in set(_existing(folder)) - set(past[-KEEP:]):  # a later one could not be read when the run resumed
            shutil.rmtree(path, ignore_errors=True)
    ranks.barrier()
    return final


def load_latest(folder: Path, ranks: Ranks) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole (None where there is none), and a line about each newer one that is not.

    Whole means whole on every rank: all take the same one. Raises CheckpointError when there are checkpoints but none
    can be read.
    """
    problems = []
    for path in reversed(ranks.gather(_existing(folder))[0]):
        checkpoint, problem = None, None
        try:
            checkpoint = _load(path, ranks)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            problem = f"checkpoint {path} cannot be used: {error}"
        found = [other for other in ranks.gather(problem) if other]
        if not found:
            return checkpoint, problems
        problems.append(found[0])
    if problems:
        raise CheckpointError("; ".join(problems))
    return None, []


def load_weights(folder: Path) -> tuple[int, dict[str, Tensor]]:
    """Agent steps and weights of the newest checkpoint whose weights are whole, on the CPU.

    However many ranks wrote it. Raises CheckpointError where there is none.
    """
    problems = []
    for path in reversed(_existing(folder)):
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
            _verify(path, manifest, _WEIGHTS)
            return manifest["agent_steps"], load_file(path / _WEIGHTS)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            problems.append(f"checkpoint {path} cannot be used: {error}")
    raise CheckpointError("; ".join(problems) or f"there is no checkpoint in {folder}")


_WEIGHTS, _SHARED, _MANIFEST = "weights.safetensors", "shared.pt", "manifest.json"


def _rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def _existing(folder: Path) -> list[Path]:
    """Directories of finished checkpoints, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


def _load(path: Path, ranks: Ranks) -> Checkpoint:
    manifest = json.loads((path / _MANIFEST).read_text())
    if manifest["world_size"] != ranks.world_size:
        raise ValueError(f"it was written by {manifest['world_size']} ranks, this run has {ranks.world_size}")
    for name in (_WEIGHTS, _SHARED, _rank_file(ranks.rank)):
        _verify(path, manifest, name)
    shared, mine = (
        _unpack(torch.load(path / name, map_location=ranks.device, weights_only=True))
        for name in (_SHARED, _rank_file(ranks.rank))
    )
    weights = load_file(path / _WEIGHTS, device=str(ranks.device))
    return Checkpoint(manifest["agent_steps"], weights, shared, mine)


def _verify(path: Path, manifest: dict[str, Any], name: str) -> None:
    """Raises ValueError unless the file is what the manifest says."""
    if _sha256(path / name) != manifest["files"][name]:
        raise ValueError(f"{name} is damaged")


def _publish(building: Path, final: Path) -> None:
    """Make the finished directory durable, then visible under its name."""
    for file in building.iterdir():
        _fsync(file)
    _fsync(building)
    replaced = building.with_suffix(".old")
    if final.exists():  # a resumed run has reached this step again; the earlier one may be damaged
        os.rename(final, replaced)
    os.rename(building, final)
    _fsync(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(value: Any) -> Any:
    """Numpy arrays as marked tensors, so that files hold tensors and plain values only (`weights_only` loading)."""
    if isinstance(value, np.ndarray):
        return {"__ndarray__": torch.from_numpy(np.array(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _pack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_pack(item) for item in value)
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"__ndarray__"}:
            return value["__ndarray__"].cpu().numpy()
        return {key: _unpack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_unpack(item) for item in value)
    return value
