"""Reading what a stranger may have written: bounded, regular files, inside a folder.

Every file that kbert does not stream is read through here: nothing larger than its
bound is read or parsed, a pipe or a device is refused in place of being waited for, and
a name in a preset, a run or an export cannot lead out of it.
"""

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbert.errors import UserError

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_JSON_BYTES = 100_000_000
"""A confusion matrix of 2,000 classes takes 50 MB as indented JSON."""
MAX_JSON_CONTAINERS = 2_000_000
"""Lists and objects of one JSON: each takes up to 200 bytes of memory for 2 of text."""

_SHOWN = 100  # characters of a wrong value that a message repeats


def read_bounded(path: Path, max_bytes: int, error: type[UserError]) -> bytes:
    """The content of a regular file of at most `max_bytes`.

    Args:
        path: the file.
        max_bytes: its bound.
        error: what is raised for a file that cannot be read.

    Raises:
        UserError: of the type `error`; the file is missing, no regular file, larger,
            or cannot be read. Nothing of a larger one is read.
    """
    try:
        # Without O_NONBLOCK a pipe without a writer would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_kind(path, status.st_mode, error)
            if status.st_size > max_bytes:
                raise _too_large(path, max_bytes, error)
            content = file.read(max_bytes + 1)
    except OSError as problem:
        raise error(
            f"{path} cannot be read: {problem.strerror or problem}."
        ) from problem
    except UserError:
        raise
    except ValueError as problem:  # a NUL in the name
        raise error(f"{path!r} cannot be read: {problem}.") from None
    if len(content) > max_bytes:
        raise _too_large(path, max_bytes, error)
    return content


def check_regular(path: Path, error: type[UserError]) -> None:
    """Checks that a library which opens `path` meets neither a pipe nor a device.

    Raises:
        UserError: of the type `error`; it is missing, or no regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path} cannot be read: {reason}.") from None
    _check_kind(path, mode, error)


def resolve_inside(
    folder: Path, name: str, error: type[UserError], *, root: Path | None = None
) -> Path:
    """The path of `name` in `folder`, whether or not there is such a file.

    Args:
        folder: where it has to be.
        name: from a file that a stranger may have written, or fixed.
        error: what is raised for a name that leads elsewhere.
        root: a folder around `folder` that links may lead to; None for `folder`.

    Raises:
        UserError: of the type `error`; by `..`, from the root or through a symbolic
            link it leads out of the folder.
    """
    path = folder / name
    try:
        inside = os.path.realpath(root or folder)
        real = os.path.realpath(path)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        raise error(f"{path} cannot be read: {problem}.") from None
    if real != inside and not real.startswith(inside.rstrip(os.sep) + os.sep):
        raise error(
            f"{path} leads out of its folder, to {real}. A folder from elsewhere is "
            "read only inside: put the file itself in place of the link or the name."
        )
    return path


def check_no_way_out(folder: Path, error: type[UserError]) -> None:
    """Checks that nothing below a folder is a link that leads out of it.

    For a folder that is written to: what is written must not land elsewhere.

    Raises:
        UserError: of the type `error`; something does.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(parent, name)):
                resolve_inside(Path(parent), name, error, root=folder)


def parse_json(content: bytes) -> Any:
    """Parses JSON whose memory is bounded by `MAX_JSON_CONTAINERS` and its size.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or holds too many lists and
            objects.
    """
    containers = content.count(b"[") + content.count(b"{")
    if containers > MAX_JSON_CONTAINERS:
        raise ValueError(
            f"it holds {containers:,} lists and objects, more than "
            f"{MAX_JSON_CONTAINERS:,}"
        )
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(
    path: Path, error: type[UserError], *, max_bytes: int = MAX_JSON_BYTES
) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: of the type `error`; the file is missing, too large, no regular
            file, or holds no JSON object.
    """
    if not os.path.lexists(path):
        raise error(f"{path.parent} has no {path.name}.")
    content = read_bounded(path, max_bytes, error)
    try:
        values = parse_json(content)
    except ValueError as problem:
        raise error(f"{path} must be a JSON file: {problem}.") from None
    if not isinstance(values, dict):
        raise error(f"{path} must hold a JSON object, {{...}}.")
    return values


def shown(value: object, length: int = _SHOWN) -> str:
    """A value of any size and depth for a message, cut to `length` characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= length else text[:length] + "..."


def first_problem(error: "ValidationError") -> str:
    """Where the first thing is that pydantic refuses, and why: `a.b: it should be`."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON can spell half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_kind(path: Path, mode: int, error: type[UserError]) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    kind = kinds.get(stat.S_IFMT(mode), "something else")
    raise error(f"{path} must be a regular file. Received: {kind}.")


def _too_large(path: Path, max_bytes: int, error: type[UserError]) -> UserError:
    return error(f"{path} is larger than {max_bytes:,} bytes. Is it the right file?")
