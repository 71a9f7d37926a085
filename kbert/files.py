"""Files and folders that are either the old ones or the new ones, never half of both.

What is written goes to a hidden neighbour (`.NAME.tmp-PID`), is flushed to the
disk and renamed over its target, which POSIX makes one step. A full disk or an
interrupt removes the neighbour and leaves the target as it was. A process that is
killed outright leaves the neighbour behind: harmless, and hidden.
"""

import contextlib
import errno
import glob
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def write_atomically(path: PathLike) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` at the end.

    A symbolic link is followed, so that the link stays and its target changes.

    Raises:
        OSError: the file cannot be written (folder missing or read-only, disk
            full). It names `path`, which is as it was before.
    """
    target = _follow_links(path)
    temporary = temporary_beside(target)
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder_to_disk(target.parent)


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write `data` to `path`, wholly or not at all. Raises OSError."""
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: PathLike, text: str) -> None:
    """Write `text` as UTF-8 to `path`, wholly or not at all. Raises OSError."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: PathLike, value: Any) -> None:
    """Write `value` as indented JSON to `path`, wholly or not at all.

    Raises:
        ValueError: `value` holds a NaN or an infinity, which JSON cannot say.
        TypeError: `value` holds something that is no JSON, such as an array.
        OSError: the file cannot be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # UTF-8 has no lone surrogates; Python's escape for one is also JSON's.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def append_line(path: PathLike, line: str) -> None:
    """Add `line` and a newline to the end of `path`, which is made where absent.

    A file that ends in the middle of a line was cut off by a crash while it was
    appended to; that piece is dropped, with a warning in the log.

    Raises:
        ValueError: `line` has a newline in it.
        OSError: the file cannot be written; it is as it was before.
    """
    if "\n" in line:
        raise ValueError(f"`line` must be a single line. Received: line={line!r}")
    with open(path, "a+b", buffering=0) as file:
        end = _end_of_whole_lines(file.fileno())
        if end < os.fstat(file.fileno()).st_size:
            logger.warning("%s ended in the middle of a line; dropped it", path)
            file.truncate(end)
        try:
            _write_all(file.fileno(), line.encode("utf-8", "backslashreplace") + b"\n")
            os.fsync(file.fileno())
        except BaseException as error:
            file.truncate(end)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)
            raise


def temporary_beside(target: PathLike) -> Path:
    """Return the hidden path beside `target` to build its successor under."""
    target = Path(target)
    return target.with_name(f".{target.name}.tmp-{os.getpid()}")


def replace_folder(temporary: PathLike, target: PathLike) -> None:
    """Rename the complete folder `temporary` to `target`, whatever was there.

    A folder cannot be renamed over another: the old one is moved aside first and
    deleted last. Of a crash between the two renames only the one moved aside is
    left; `recover_folder` puts it back. `temporary` has to be on the same disk
    (`temporary_beside` is) and is deleted if this fails. Only one process may write
    `target`: what earlier ones left unfinished beside it is deleted.

    Raises:
        OSError: the folder cannot be renamed; `target` is as it was before.
    """
    temporary, target = Path(temporary), _follow_links(target)
    aside = _aside(target)
    try:
        flush_tree_to_disk(temporary)
        _rename_over(temporary, target, aside)
    except BaseException:
        recover_folder(target)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush_folder_to_disk(target.parent)
    unfinished = target.parent.glob(glob.escape(f".{target.name}.tmp-") + "*")
    for leftover in (aside, *unfinished):
        shutil.rmtree(leftover, ignore_errors=True)


def recover_folder(target: PathLike) -> bool:
    """Put back the old folder if a crash in `replace_folder` left only that one.

    Does nothing else, so that a reader may call it beside a process that writes.

    Returns:
        Whether there was something to put back.
    """
    target = _follow_links(target)
    if target.exists() or not _aside(target).exists():
        return False
    with contextlib.suppress(FileNotFoundError):  # another was faster
        os.rename(_aside(target), target)
        _flush_folder_to_disk(target.parent)
    return True


def _rename_over(temporary: Path, target: Path, aside: Path) -> None:
    for attempts_left in (2, 1, 0):
        recover_folder(target)
        if target.exists():
            if aside.exists():
                shutil.rmtree(aside)
            os.rename(target, aside)
        try:
            os.rename(temporary, target)
            return
        except OSError as error:
            # A reader may have put the old one back at this very moment.
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if not taken or not attempts_left:
                raise


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _follow_links(path: PathLike) -> Path:
    return Path(os.path.realpath(path))


def _end_of_whole_lines(descriptor: int, block: int = 65536) -> int:
    """Return the offset behind the last newline, 0 if there is none."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - block)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _write_all(descriptor: int, data: bytes) -> None:
    while data:  # A nearly full disk takes a part before it refuses.
        data = data[os.write(descriptor, data) :]


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder_to_disk(folder: Path) -> None:
    # Some network file systems cannot; the rename has happened all the same.
    with contextlib.suppress(OSError):
        _flush_to_disk(folder)


def flush_tree_to_disk(folder: Path) -> None:
    """Make sure that a folder with all that is in it survives a power cut."""
    for parent, _, names in os.walk(folder, onerror=_raise):
        for path in (Path(parent, name) for name in names):
            if path.is_file():
                _flush_to_disk(path)
        _flush_folder_to_disk(Path(parent))


def _raise(error: OSError) -> None:
    raise error
