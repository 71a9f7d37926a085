"""The folder of a model: numbered versions, each published in one step.

TensorFlow Serving looks at the folder every second and loads the highest number. A
version is therefore built under a hidden name and renamed when it is complete.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kbert.errors import ExportError
from kbert.files import flush_tree_to_disk

_LARGEST = 2**63 - 1
_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def model_name(folder: Path) -> str:
    """The name under which a server offers the models of `saved_models/NAME`.

    Raises:
        ExportError: the name cannot stand in a server's addresses.
    """
    name = Path(os.path.abspath(folder)).name
    if name.isdigit():
        raise ExportError(
            f"{folder} is named like a version. Give the folder of the model, such as "
            "saved_models/reviews; the version is the next free number in it, or "
            "--version N."
        )
    if not _NAME.fullmatch(name):
        raise ExportError(
            "A model's name is made of ASCII letters, digits, and _ . + - after the "
            f"first: it stands in addresses. Received: {name!r} of {folder}. Choose "
            "another folder name."
        )
    return name


def version_number(name: str) -> int | None:
    """The version that a server sees in a name; None for `v1`, `1.0` or `.export-x`."""
    is_number = name.isascii() and name.isdigit() and int(name) <= _LARGEST
    return int(name) if is_number else None


def versions_in(folder: Path) -> dict[int, Path]:
    """The path of each version that a server would see, by number, increasing.

    Whatever has a number for its name counts, files too. Of names that are the same
    number (1 and 001) it is the shortest.
    """
    if not folder.is_dir():
        return {}
    found: dict[int, Path] = {}
    for name in sorted(os.listdir(folder), key=lambda name: (len(name), name)):
        number = version_number(name)
        if number is not None:
            found.setdefault(number, folder / name)
    return dict(sorted(found.items()))


def check_target(folder: Path, version: int | None) -> None:
    """Checks, before slow work, that a version can be written.

    Raises:
        ExportError: the name is none, the version is taken, or the folder is a file
            or cannot be written.
    """
    model_name(folder)
    if version is not None and not 1 <= version <= _LARGEST:
        raise ExportError(
            f"A version is a whole number from 1 to {_LARGEST}. Received: {version}."
        )
    if version in versions_in(folder):
        raise _taken(folder, version)
    existing = folder
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise ExportError(f"{existing} is a file, so {folder} cannot be a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ExportError(f"{existing} cannot be written to. Choose another folder.")


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Gives a hidden folder in `folder` to build a version in, for `publish`.

    What is not published is deleted at the end.

    Raises:
        OSError: the folder cannot be written.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own: processes of several machines may share a disk.
    hidden = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def publish(hidden: Path, folder: Path, version: int | None) -> Path:
    """Renames a complete folder to a version of `folder`.

    Args:
        hidden: what `building` gave.
        folder: the model's folder.
        version: the number; None for the next free one.

    Raises:
        ExportError: the version has been taken meanwhile.
        OSError: it cannot be renamed.
    """
    _make_readable(hidden)
    flush_tree_to_disk(hidden)
    while True:
        number = version or max(versions_in(folder), default=0) + 1
        target = folder / str(number)
        try:
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(hidden, target)
            return target
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            if version or number >= _LARGEST:
                raise _taken(folder, number) from None


def _make_readable(folder: Path) -> None:
    """Servers often run as another user than the one who exports."""
    for parent, _, names in os.walk(folder):
        os.chmod(parent, 0o755)
        for name in names:
            os.chmod(os.path.join(parent, name), 0o644)


def _taken(folder: Path, version: int | None) -> ExportError:
    return ExportError(
        f"{folder} has a version {version} already, and a version is never "
        "overwritten. Leave --version out for the next free one."
    )
