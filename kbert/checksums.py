"""SHA-256 sums of a folder's files, as `sha256sum -c SHA256SUMS` checks them."""

import errno
import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from kbert.bounded import read_bounded, resolve_inside
from kbert.errors import UserError

SUMS = "SHA256SUMS"
_MOST_BYTES = 1_000_000
# A file with more holes than this is no weights, and takes long to read for nothing.
_MOST_HOLES = 4 << 30
# Of a disk, a network or a process, and not of what is written in a file.
_MAY_PASS = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EACCES,
    errno.EPERM,
}


def write_sums(folder: Path) -> None:
    """Writes `SHA256SUMS` of all files below a folder."""
    names = _files(folder)
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def digest_of_sums(folder: Path) -> str | None:
    """One digest of all files that have sums; None where there are none."""
    return _sha256(folder / SUMS) if (folder / SUMS).is_file() else None


def damage(
    folder: Path, *, needed: Collection[str] = (), more_allowed: bool = False
) -> str | None:
    """What is not as it was when `write_sums` wrote it; None where all is.

    Args:
        folder: one with the file `SHA256SUMS`.
        needed: files that have to be listed.
        more_allowed: whether there may be files that are not listed.

    Raises:
        OSError: a file is there and cannot be read now: whether it is as it was,
            nobody can tell.
    """
    try:
        wanted = _read_sums(folder)
    except (UserError, ValueError) as error:
        _raise_what_may_pass(error.__cause__)
        return f"{SUMS} is not as it was written"
    there = _files(folder)
    if missing := sorted({*wanted, *needed} - {*there}):
        return f"{missing[0]} is missing"
    if unlisted := sorted({*needed} - {*wanted}):
        return f"{unlisted[0]} is not listed in {SUMS}"
    for name in there:
        if name not in wanted:
            if more_allowed:
                continue
            return f"{name} is new"
        if _is_mostly_holes(folder / name):
            return f"{name} is mostly holes"
        if _sha256(folder / name) != wanted[name]:
            return f"{name} is not as it was written"
    return None


def _read_sums(folder: Path) -> dict[str, str]:
    """The sums by the name of the file.

    Raises:
        UserError: there is no such file, or no regular one.
        ValueError: it is not what `write_sums` writes.
    """
    path = resolve_inside(folder, SUMS, UserError)
    text = read_bounded(path, _MOST_BYTES, UserError).decode("utf-8")
    lines = text.removesuffix("\n").split("\n")
    return dict(line.split("  ", 1)[::-1] for line in lines)


def _raise_what_may_pass(error: BaseException | None) -> None:
    """Raises an error that is none of the file: another time it may be read."""
    if isinstance(error, OSError) and error.errno in _MAY_PASS:
        raise error


def _is_mostly_holes(path: Path) -> bool:
    """Whether a file is far larger than what is in it: reading it would take long."""
    status = path.stat()
    return status.st_size - 512 * status.st_blocks > _MOST_HOLES


def check_whole(folder: Path, error: type[UserError]) -> None:
    """Checks that a folder with sums is as it was written; others are let pass.

    Without it a flipped bit of a weight would just be another weight. Files that are
    not listed are harmless: one publishes a model with a README.

    Raises:
        UserError: of the type `error`; it names the file.
        OSError: a file cannot be read now.
    """
    has_sums = os.path.lexists(folder / SUMS)
    if has_sums and (found := damage(folder, more_allowed=True)):
        raise error(
            f"{folder} is damaged: {found}. Put it back from a copy, or train again. "
            f"Where the change was meant, delete {folder / SUMS}."
        )


def _files(folder: Path) -> list[str]:
    """The files below a folder by their names in it; links are none."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path != folder / SUMS
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
