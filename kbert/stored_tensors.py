"""What tensors a weights file holds, from its header alone, and whether it is honest.

Both formats can ask for far more memory than they have bytes, and HDF5 can name other
files. Keras and safetensors refuse some of it, while they read; here all of it is
refused before anything is read.
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import safetensors

from kbert.bounded import check_regular
from kbert.errors import PresetError

MAX_TENSORS = 100_000
"""Of one file. A BERT of 24 layers has 400."""

# Floats, whole numbers and, as HDF5 has bfloat16, opaque bytes; no texts, references
# or tables, for which other files or memory of any size can be asked.
_NUMBERS = "fiuV"
_SAFETENSORS_NUMBERS = re.compile(r"F16|F32|F64|BF16|[IU](8|16|32|64)")
_MAX_ITEM_BYTES = 8


class Stored(NamedTuple):
    """Where a tensor is kept and how large it is."""

    file: Path
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def h5_tensors(files: list[Path]) -> dict[str, Stored]:
    """The datasets of HDF5 files, by path.

    Raises:
        PresetError: a file is damaged, or has links, data of other files, compressed
            data, data that are no numbers, or more data than bytes.
    """
    import h5py

    stored: dict[str, Stored] = {}
    for file in files:
        check_regular(file, PresetError)
        try:
            with h5py.File(file, "r") as weights:
                for name, dataset in _datasets(file, weights):
                    _check_dataset(file, name, dataset)
                    stored[name] = Stored(file, tuple(dataset.shape))
        except PresetError:
            raise
        except (
            OSError,
            RuntimeError,
            LookupError,
            ValueError,
            TypeError,
            MemoryError,
        ) as error:
            raise damaged(file, error) from None
    return stored


def safetensors_tensors(files: list[Path]) -> dict[str, Stored]:
    """The tensors of safetensors files, by name.

    The library checks that they lie one behind the other and end with the file.

    Raises:
        PresetError: a file is damaged.
    """
    stored: dict[str, Stored] = {}
    for file in files:
        check_regular(file, PresetError)
        try:
            with safetensors.safe_open(file, framework="np") as weights:
                for name in weights.keys():  # it is no dict
                    tensor = weights.get_slice(name)
                    if not _SAFETENSORS_NUMBERS.fullmatch(tensor.get_dtype()):
                        raise PresetError(
                            "Weights are floats or whole numbers of at least 8 bits. "
                            f"Received: {tensor.get_dtype()} in {file}, {name}."
                        )
                    stored[name] = Stored(file, tuple(tensor.get_shape()))
        except PresetError:
            raise
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise damaged(file, error) from None
    return stored


# What safetensors raises for a file that is none, or is damaged.
SAFETENSORS_ERRORS = (
    OSError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    safetensors.SafetensorError,
)


def damaged(file: Path, error: Exception) -> PresetError:
    """The error of a file that its library cannot read."""
    return PresetError(
        f"{file} is damaged or incomplete: {in_short(error)}. Copy or download it "
        "again."
    )


def in_short(error: Exception) -> str:
    """A library's message on one line, cut to 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."


def _datasets(file: Path, weights: Any) -> list[tuple[str, Any]]:
    """All datasets with their paths; no link is followed."""
    import h5py

    found: list[tuple[str, Any]] = []
    seen: set[int] = set()  # groups, by address: a hard link may lead back up
    count = 0
    waiting = [("", weights)]
    while waiting:
        prefix, group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            raise _refused(file, prefix, "a group that is there twice")
        seen.add(address)
        count += len(group)
        if count > MAX_TENSORS:
            raise _refused(file, prefix, f"more than {MAX_TENSORS:,} entries")
        for name in group:
            path = f"{prefix}/{name}".lstrip("/")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise _refused(file, path, "a link to elsewhere")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append((path, item))
            elif isinstance(item, h5py.Dataset):
                found.append((path, item))
    return found


def _check_dataset(file: Path, name: str, dataset: Any) -> None:
    if dataset.is_virtual or dataset.external:
        raise _refused(file, name, "data of other files")
    if dataset.shape is None:
        raise _refused(file, name, "a tensor without a shape")
    kind = dataset.dtype
    is_number = kind.kind in _NUMBERS and kind.names is None and kind.subdtype is None
    if not is_number or kind.itemsize > _MAX_ITEM_BYTES:
        raise _refused(file, name, f"data of type {kind}")
    # Keras compresses none. What unpacks may grow without a bound.
    if dataset.id.get_create_plist().get_nfilters():
        raise _refused(file, name, "compressed data")
    num_bytes = math.prod(dataset.shape) * kind.itemsize
    there = min(dataset.id.get_storage_size(), file.stat().st_size)
    if num_bytes > there:
        raise _refused(
            file, name, f"the shape {dataset.shape}, {num_bytes:,} bytes of {there:,}"
        )


def _refused(file: Path, name: str, what: str) -> PresetError:
    return PresetError(
        f"A weights file holds plain tensors, all of them inside. Received: {what}, "
        f"in {file}, {name or '/'}. Save the weights again with Keras."
    )
