"""Whether two runs are the same, bit for bit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kbert.checksums import SUMS
from kbert.runs import RunFolder
from kbert.training.checkpoints import STATE, VARIABLES, list_checkpoints

# What may differ: when it was, and how long it took.
_TIMES = ("seconds",)
_DATED = ("metadata.json", SUMS)
_FIGURES = ("status", "steps", "skipped_steps", "best_step", "train_tokens")


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two finished runs: weights, optimizer, history, metrics."""
    return [
        name
        for name, first, second in _pairs(RunFolder(one), RunFolder(other))
        if not _equal(first, second)
    ]


def _pairs(one: RunFolder, other: RunFolder) -> Iterator[tuple[str, Any, Any]]:
    for name in ("config.toml", "task.json", "metrics.json", "history.jsonl"):
        yield name, (one.path / name).read_bytes(), (other.path / name).read_bytes()
    for name in _FIGURES:
        yield name, one.read_info().get(name), other.read_info().get(name)
    yield "model", _model(one.model_folder), _model(other.model_folder)
    (first,), (second,) = (list_checkpoints(r.checkpoints_folder) for r in (one, other))
    yield "last checkpoint", first.name, second.name
    yield VARIABLES, (first / VARIABLES).read_bytes(), (second / VARIABLES).read_bytes()
    yield STATE, _state(first), _state(second)


def _model(folder: Path) -> dict[str, Any]:
    """All that a preset holds: files by name, and each array of the weights."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        if file.suffix == ".h5":
            with h5py.File(file) as weights:

                def keep(key: str, item: Any, name: str = name) -> None:
                    if isinstance(item, h5py.Dataset):
                        found[f"{name}/{key}"] = item[()]

                weights.visititems(keep)
        elif name not in _DATED:
            found[name] = file.read_bytes()
    return found


def _state(checkpoint: Path) -> dict[str, Any]:
    state = json.loads((checkpoint / STATE).read_text("utf-8"))
    del state["listener"]["best_digest"]  # of the model's files, one of them dated
    return {key: value for key, value in state.items() if key not in _TIMES}


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            _equal(first[key], second[key]) for key in first
        )
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.tobytes() == second.tobytes()
    return first == second
