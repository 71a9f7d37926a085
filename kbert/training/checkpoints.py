"""Checkpoints: what a training needs to go on, on the disk.

    checkpoints/step-00000120/
        state.json          where the training is, as whoever trains describes it
        variables.npz       the variables, an array each: numpy.load reads it
        SHA256SUMS          of the two, as sha256sum -c checks them

A checkpoint is written beside and renamed, so that it is whole or not there. One that
was damaged later does not pass its checksums, and the one before it is used. Nothing
in it is ever run, and no more is read of it than the model has room for.
"""

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kbert.bounded import read_json
from kbert.checksums import damage, write_sums
from kbert.errors import RunError
from kbert.files import recover_folder, replace_folder, temporary_beside

logger = logging.getLogger(__name__)

FORMAT = 1
# Says that there has been a checkpoint, also when somebody has deleted all.
KEPT = ".kept"
STATE, VARIABLES = "state.json", "variables.npz"
# What zipfile and NumPy, which parses a header as Python, raise for no array of theirs.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,  # encrypted; RecursionError, NotImplementedError
    TypeError,
    ValueError,
)
_NAME = re.compile(r"step-(\d{8,18})")
# The members of variables.npz have their sizes in front of them, and names.
_BYTES_BESIDE_A_VARIABLE = 1_000


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """All that changes in training, by a name that is the same in every process.

    Weights, the seeds of dropout, and the optimizer's: moments, its step, gradients
    that are accumulated, the scale of a loss in float16.

    Args:
        model: compiled, with an optimizer that is built.
    """
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {
        f"{group}/{number:04}.{variable.name}": variable
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def num_bytes_of(variables: Mapping[str, keras.Variable]) -> int:
    """What a checkpoint of these takes on the disk, about."""
    return sum(
        math.prod(v.shape) * np.dtype(v.dtype).itemsize + _BYTES_BESIDE_A_VARIABLE
        for v in variables.values()
    )


def write_checkpoint(
    folder: Path,
    step: int,
    variables: Mapping[str, keras.Variable],
    state: Mapping[str, Any],
    *,
    keep: int,
) -> None:
    """Writes a checkpoint, and deletes the oldest of more than `keep`.

    Args:
        folder: of all checkpoints; made where it is not there.
        step: the updates made.
        state: JSON.
        keep: how many of the last stay, this one included.

    Raises:
        OSError: the disk is full or fails. It names the checkpoint, and the earlier
            ones are as they were.
    """
    target = folder / f"step-{step:08}"
    temporary = temporary_beside(target)
    try:
        folder.mkdir(exist_ok=True)
        if shutil.disk_usage(folder).free < num_bytes_of(variables):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write_variables(temporary / VARIABLES, variables)
        content = json.dumps({"format": FORMAT, **state}, allow_nan=False)
        (temporary / STATE).write_text(content + "\n", "utf-8")
        write_sums(temporary)
        replace_folder(temporary, target)
        (folder / KEPT).touch()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, reason, str(target)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    delete_old_checkpoints(folder, keep=keep)


def delete_later_checkpoints(path: Path) -> None:
    """Deletes those after one that a training goes on from: they are damaged."""
    others = list_checkpoints(path.parent)
    for later in others[others.index(path) + 1 :]:
        shutil.rmtree(later, ignore_errors=True)


def delete_old_checkpoints(folder: Path, *, keep: int) -> None:
    """Deletes all checkpoints but the last `keep`, and what was left half-written."""
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    for left in folder.glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, rising by their step, whole or not."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def read_latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The last checkpoint that is whole, and its state.

    Those that are damaged are named in the log.

    Returns:
        None where there has not been any.

    Raises:
        RunError: there are some, and all are damaged.
    """
    for aside in folder.glob(".step-*.old"):  # killed between two renames
        recover_folder(folder / aside.name.removeprefix(".").removesuffix(".old"))
    damages = []
    for path in reversed(list_checkpoints(folder)):
        try:
            state = _read_state(path)
        except _DamagedError as error:
            damages.append(f"{path} is damaged: {error}")
            continue
        for sentence in damages:
            logger.warning("%s. Going on from the one before, %s.", sentence, path.name)
        return path, state
    if damages:
        raise RunError(
            f"No checkpoint in {folder} is whole. {'. '.join(damages)}. Put one back "
            "from a copy, or train anew with another --output."
        )
    return None


def restore(path: Path, variables: Mapping[str, keras.Variable]) -> None:
    """Gives variables the values of a checkpoint.

    Args:
        path: a checkpoint that `read_latest` found whole.
        variables: of the same model as those that were written.

    Raises:
        RunError: they are not; none is changed then.
    """
    file = path / VARIABLES
    try:
        with zipfile.ZipFile(file) as archive:
            _check_members(archive, variables)
            for name, variable in variables.items():
                with archive.open(f"{name}.npy") as member:
                    value = np.lib.format.read_array(member, allow_pickle=False)
                variable.assign(value.astype(variable.dtype, copy=False))
    except (_DamagedError, *_UNREADABLE) as error:
        raise RunError(
            f"{file} does not fit the model of this run: {error}. It "
            f"is of another training; delete {path} to go on from the one before."
        ) from None


class _DamagedError(Exception):
    """What is wrong with a checkpoint."""


def _write_variables(path: Path, variables: Mapping[str, keras.Variable]) -> None:
    # One after the other: numpy.savez wants them all in memory at once.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, variable in variables.items():
            value = keras.ops.convert_to_numpy(variable.value)
            # Of a fixed date, so that equal states are equal files.
            member = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, value, allow_pickle=False)


def _read_state(path: Path) -> dict[str, Any]:
    """The state of a checkpoint whose files are all as they were written."""
    if found := damage(path, needed=(STATE, VARIABLES)):
        raise _DamagedError(found)
    try:
        state = read_json(path / STATE, RunError)
    except RunError as error:
        raise _DamagedError(str(error)) from None
    if state.get("format") != FORMAT:
        raise _DamagedError(f"{STATE} is not of format {FORMAT}, the known one")
    return state


def _check_members(
    archive: zipfile.ZipFile, variables: Mapping[str, keras.Variable]
) -> None:
    """Checks names, shapes and types before anything is read."""
    members = {info.filename: info for info in archive.infolist()}
    wanted = {f"{name}.npy" for name in variables}
    if members.keys() != wanted:
        different = sorted(members.keys() ^ wanted)
        raise _DamagedError(
            f"{len(members)} variables for the {len(wanted)} of the model, "
            f"{different[0]} is in one of them only"
        )
    for name, variable in variables.items():
        info = members[f"{name}.npy"]
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise _DamagedError(f"{name} is compressed or encrypted")
        with archive.open(info) as member:
            shape, dtype = _read_header(member)
        fits = _are_alike(dtype, np.dtype(variable.dtype))
        if shape != tuple(variable.shape) or not fits:
            raise _DamagedError(
                f"{name} is {dtype} {shape} there and {variable.dtype} "
                f"{tuple(variable.shape)} in the model"
            )


def _read_header(member: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise _DamagedError(f"an array of NumPy's format {version}")
    shape, _, dtype = read(member)
    return shape, dtype


def _are_alike(one: np.dtype, other: np.dtype) -> bool:
    """Whether values of one type are some of the other: seeds are uint32 or int64."""
    return one == other or {one.kind, other.kind} <= {"i", "u"}


def digest_of(*texts: str) -> str:
    """The SHA-256 of texts, in hexadecimal: whether they are those of before."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
