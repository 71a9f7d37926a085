"""A folder with one sub-folder a class and one text a file, as aclImdb has it."""

import hashlib
from collections.abc import Generator
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path

from kbert.bounded import read_bounded
from kbert.data.compressed import unreadable
from kbert.data.examples import (
    Columns,
    EncodingErrors,
    ReadOptions,
    Row,
    RowSource,
    limited,
    sort_labels,
)
from kbert.data.lines import MAX_LINE_BYTES
from kbert.data.values import decode
from kbert.errors import DataError

_SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_UNLABELLED = "unsup"  # aclImdb's folder of reviews without label
_LAYOUT = (
    "A folder needs one sub-folder a class with one text a .txt file in it: "
    "reviews/pos/1.txt, reviews/neg/1.txt."
)
_BOM = b"\xef\xbb\xbf"


def folder_splits(path: str | Path) -> dict[str, Path]:
    """Returns the splits that a folder holds as sub-folders: `{"train": path, ...}`.

    A sub-folder `train`, `test`, `validation` (or `valid`, `val`, `dev`) is a split
    if it holds class folders; it is a class if it holds texts itself.
    """
    splits = {}
    for split, names in _SPLIT_NAMES.items():
        for name in names:
            folder = Path(path) / name
            if folder.is_dir() and not _texts(folder) and _sub_folders(folder):
                splits[split] = folder
                break
    return splits


def open_folder(path: Path, split: str | None, options: ReadOptions) -> RowSource:
    """Opens a folder of class folders, or one split of a folder of splits.

    Texts come by file name, one of each class in turn, so that a limit leaves
    examples of every class.

    Raises:
        DataError: The folder is laid out otherwise or has no such split; while
            iterating, a file is not UTF-8.
    """
    folder = _split_folder(path, split)
    classes = _sub_folders(folder)
    notes: tuple[str, ...] = ()
    if any(c.name == _UNLABELLED for c in classes):
        classes = [c for c in classes if c.name != _UNLABELLED]
        notes = (f"{folder / _UNLABELLED} is left out: its texts have no label",)
    if not classes:
        raise DataError(f"{folder} has no class folders. {_LAYOUT}")
    names = [c.name for c in classes]
    files = [_texts(c) for c in classes]
    for class_folder, texts in zip(classes, files, strict=True):
        if not texts:
            raise DataError(
                f"{class_folder} is a class without texts: it has no .txt file. "
                f"Fill or remove it. {_LAYOUT}"
            )
    nested = folder != path
    return RowSource(
        name="/".join((path.resolve() / folder.relative_to(path)).parts[-1 - nested :]),
        columns=Columns("text", None, "label" if options.labelled else None),
        rows=partial(_examples, files, options.encoding_errors),
        label_names=tuple(sort_labels(names)) if options.labelled else None,
        notes=notes,
        num_examples=limited(sum(map(len, files)), options.limit),
        limit=options.limit,
        content=partial(_content, files),
    )


def _examples(files: list[list[Path]], errors: EncodingErrors) -> Generator[Row]:
    for one_of_each in zip_longest(*files):
        for file in one_of_each:
            if file is not None:
                yield _read_text(file, errors), None, file.parent.name


def _content(files: list[list[Path]]) -> str:
    """Tells the texts by name, size and time of change: reading each takes too long."""
    digest = hashlib.sha256()
    for file in chain.from_iterable(files):
        try:
            status = file.stat()
        except OSError as error:
            raise unreadable(file, error) from None
        name = f"{file.parent.name}/{file.name}".encode(errors="surrogateescape")
        digest.update(b"%b %d %d\0" % (name, status.st_size, status.st_mtime_ns))
    return f"folder {digest.hexdigest()}"


def _read_text(file: Path, errors: EncodingErrors) -> str:
    data = read_bounded(file, MAX_LINE_BYTES, DataError).removeprefix(_BOM)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return decode(data, errors, f"{file}, line {line}")


def _split_folder(path: Path, split: str | None) -> Path:
    splits = folder_splits(path)
    if not splits:
        if split in (None, "train"):
            return path
        raise DataError(
            f'{path} has no split "{split}": it has no folder {split}/ with class '
            f"folders in it. {_LAYOUT}"
        )
    if split in splits:
        return splits[split]
    there = ", ".join(f"{name} ({folder})" for name, folder in splits.items())
    raise DataError(
        f"{path} holds splits, so a split must be named. Splits: {there}. "
        f"Received: {split}. Or give one of these folders itself."
    )


def _sub_folders(path: Path) -> list[Path]:
    return [p for p in listed(path) if p.is_dir()]


def _texts(folder: Path) -> list[Path]:
    return [p for p in listed(folder) if p.suffix.lower() == ".txt" and p.is_file()]


def listed(folder: Path) -> list[Path]:
    """Returns what is in a folder by name, hidden files left out."""
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from error
