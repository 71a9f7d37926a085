"""Which files a corpus consists of: paths, globs and folders, each file once."""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from kbert.data.folders import listed
from kbert.data.sources import not_found
from kbert.errors import DataError

SPECS = "files, globs, folders, tfds:NAME[/CONFIG] and sample"


def is_named(spec: str) -> bool:
    """Whether a source is no path: a TFDS data set, or the sample."""
    return spec == "sample" or spec.startswith("tfds:")


def find_files(specs: Sequence[str]) -> tuple[list[Path], tuple[str, ...]]:
    """Returns the files that paths, globs and folders name, sorted, and notes on them.

    A folder stands for all files in it and in its sub-folders, hidden ones left out.
    A file that is reached twice, by links too, is there once.

    Raises:
        DataError: Nothing is there, or it is no regular file.
    """
    files: dict[str, Path] = {}
    again = []
    for spec in specs:
        for path in _expanded(spec):
            real = os.path.realpath(path)
            if real in files:
                again.append(path)
            else:
                files[real] = path
    notes: tuple[str, ...] = ()
    if again:
        more = and_more_files(len(again) - 1)
        notes = (f"{again[0]}{more}: named twice, read once",)
    return sorted(files.values(), key=str), notes


def and_more_files(number: int) -> str:
    """` and 3 more files`, to follow the name of the first; nothing where it is all."""
    return f" and {number:,} more file{'s' * (number > 1)}" if number else ""


def _expanded(spec: str) -> Iterator[Path]:
    path = Path(spec).expanduser()
    if os.path.exists(path):  # first, as a name may have a bracket in it
        paths = [path]
    elif any(character in spec for character in "*?["):
        paths = [Path(found) for found in glob.glob(str(path), recursive=True)]
        if not paths:
            raise DataError(f"{spec} matches no file.")
    else:
        raise not_found(spec, path, f"A corpus is made of {SPECS}.")
    for found in paths:
        if not found.is_dir():
            _check_is_regular(found)
            yield found
            continue
        empty = True
        for file in _files_below(found, set()):
            empty = False
            yield file
        if empty:
            raise DataError(f"{found} is a folder without files.")


def _files_below(folder: Path, entered: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in entered:  # a link back up would lead round for ever
        return
    entered.add(real)
    for path in listed(folder):
        if path.is_dir():
            yield from _files_below(path, entered)
        else:
            _check_is_regular(path)
            yield path


def _check_is_regular(path: Path) -> None:
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if not is_regular:
        raise DataError(
            f"{path} is no regular file. A corpus is read several times, which a pipe "
            "cannot be: write it to a file first."
        )
