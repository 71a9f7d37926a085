"""SHA-256 sums of a folder's files, as `sha256sum -c SHA256SUMS` checks them."""

import hashlib
from pathlib import Path

from kbert.errors import UserError

SUMS = "SHA256SUMS"
_MOST_BYTES = 1_000_000


def write_sums(folder: Path) -> None:
    """Writes `SHA256SUMS` of all files below a folder."""
    names = _files(folder)
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def digest_of_sums(folder: Path) -> str | None:
    """One digest of all files that have sums; None where there are none."""
    return _sha256(folder / SUMS) if (folder / SUMS).is_file() else None


def damage(folder: Path, *, more_allowed: bool = False) -> str | None:
    """What is not as it was when `write_sums` wrote it; None where all is.

    Args:
        folder: one with the file `SHA256SUMS`.
        more_allowed: whether there may be files that are not listed.
    """
    try:
        if (folder / SUMS).stat().st_size > _MOST_BYTES:
            return f"{SUMS} is too long"
        text = (folder / SUMS).read_text("utf-8")
        lines = text.removesuffix("\n").split("\n")
        wanted = dict(line.split("  ", 1)[::-1] for line in lines)
        there = _files(folder)
        if missing := sorted(wanted.keys() - set(there)):
            return f"{missing[0]} is missing"
        for name in there:
            if name in wanted and _sha256(folder / name) != wanted[name]:
                return f"{name} is not as it was written"
            if name not in wanted and not more_allowed:
                return f"{name} is new"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except ValueError:
        return f"{SUMS} is not as it was written"
    return None


def check_whole(folder: Path, error: type[UserError]) -> None:
    """Checks that a folder with sums is as it was written; others are let pass.

    Without it a flipped bit of a weight would just be another weight. Files that are
    not listed are harmless: one publishes a model with a README.

    Raises:
        UserError: of the type `error`; it names the file.
    """
    if (folder / SUMS).exists() and (found := damage(folder, more_allowed=True)):
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
