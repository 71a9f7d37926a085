"""From `--data SPEC` to a source of examples, whatever its format."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from kbert.bounded import check_regular
from kbert.data.compressed import is_compressed
from kbert.data.csv_files import open_csv
from kbert.data.examples import (
    Chunk,
    Columns,
    EncodingErrors,
    ReadOptions,
    Source,
    sort_labels,
)
from kbert.data.folders import folder_splits, open_folder
from kbert.data.json_lines import open_json_lines
from kbert.data.lines import read_plain_texts
from kbert.errors import DataError

__all__ = [
    "Chunk",
    "Columns",
    "EncodingErrors",
    "Source",
    "file_kind",
    "folder_splits",
    "not_found",
    "open_source",
    "read_plain_texts",
    "sort_labels",
    "source_splits",
]

_FORMATS = ".csv, .tsv, .jsonl, .ndjson, .parquet; each also with .gz .bz2 .xz .zst"
_SPECS = f"tfds:NAME[/CONFIG], a file ({_FORMATS}), a folder or sample"
_SAMPLE_SPLITS = ("train", "validation")
_ANY_COLUMNS = Columns()


def open_source(
    spec: str,
    *,
    split: str | None = None,
    columns: Columns = _ANY_COLUMNS,
    data_dir: str | None = None,
    encoding_errors: EncodingErrors = "strict",
    limit: int | None = None,
    labelled: bool = True,
) -> Source:
    """Opens the examples that `--data SPEC` names.

    Args:
        spec: `tfds:NAME[/CONFIG]`, a file, a folder with one sub-folder a class, or
            `sample`.
        split: The split of a TFDS data set (a slice such as `train[:10%]` too), of a
            folder with folders `train`, `test`, or of the sample. A file, or a
            folder without splits, has only "train".
        columns: The columns to read; what is None is guessed where there is one
            plausible choice. Folders have no columns and ignore it.
        data_dir: Where TFDS keeps prepared data sets.
        encoding_errors: What invalid UTF-8 does: "strict" raises, "replace" puts
            U+FFFD, "ignore" drops it.
        limit: Read only the first so many examples.
        labelled: Whether labels are needed; if not, none are read.

    Returns:
        A source, checked as far as is cheap: it exists, is not empty, and has the
        columns. Faulty rows raise `DataError` while it is iterated.

    Raises:
        DataError: The data set does not exist or does not fit.
    """
    if not spec.strip():
        raise DataError(f"--data is empty; it takes {_SPECS}.")
    if limit is not None and limit < 1:
        raise DataError(f"data.limit must be at least 1. Received: {limit}")
    options = ReadOptions(columns, encoding_errors, limit, labelled)
    if spec.startswith("tfds:"):
        # Only here: this imports TensorFlow, which a CSV file does not need.
        from kbert.data.tfds import open_tfds

        return open_tfds(spec, split, data_dir, options)
    if spec == "sample":
        return _open_sample(split, options)
    path = Path(spec).expanduser()
    if not os.path.exists(path):  # unlike Path's, False for a name that is too long
        raise not_found(spec, path, f"--data takes {_SPECS}.")
    if path.is_dir():
        return open_folder(path, split, options)
    check_regular(path, DataError)
    if split not in (None, "train"):
        raise DataError(f'{spec} is a file and has no split "{split}".')
    return _open_file(path, options)


def source_splits(spec: str, data_dir: str | None = None) -> tuple[str, ...]:
    """Returns the names of the splits that `--data SPEC` has of its own.

    A file and a folder of classes have none, and neither has what does not exist.

    Raises:
        DataError: A TFDS data set is neither prepared nor can it be downloaded.
    """
    if spec.startswith("tfds:"):
        from kbert.data.tfds import tfds_splits

        return tuple(tfds_splits(spec, data_dir))
    if spec == "sample":
        return _SAMPLE_SPLITS
    path = Path(spec).expanduser()
    return tuple(folder_splits(path)) if path.is_dir() else ()


def file_kind(path: Path) -> str:
    """Returns the ending that tells a file's format: `.csv` of `A.CSV.gz` too."""
    if is_compressed(path):
        path = path.with_suffix("")
    return path.suffix.lower()


def _open_file(path: Path, options: ReadOptions) -> Source:
    kind = file_kind(path)
    if kind == ".csv":
        return open_csv(path, options, delimiter=",")
    if kind == ".tsv":
        return open_csv(path, options, delimiter="\t")
    if kind in (".jsonl", ".ndjson"):
        return open_json_lines(path, options)
    if kind == ".parquet":
        # Only here: pyarrow takes a while to import.
        from kbert.data.parquet_files import open_parquet

        return open_parquet(path, options)
    packed = is_compressed(path)
    ending = "".join(path.suffixes[-2:] if packed else path.suffixes[-1:])
    raise DataError(
        f"{path}: the ending of a data file tells its format. Supported: {_FORMATS}. "
        f"Received: {ending or 'no ending'}"
    )


def _open_sample(split: str | None, options: ReadOptions) -> Source:
    if split not in (None, *_SAMPLE_SPLITS):
        raise DataError(
            f'The sample has no split "{split}". Splits: {", ".join(_SAMPLE_SPLITS)}.'
        )
    split = split or "train"
    asked = options.columns
    columns = Columns(asked.text or "text", asked.text_pair, asked.label or "label")
    with _sample_file(f"{split}.csv") as path:
        source = open_csv(path, replace(options, columns=columns), delimiter=",")
    return replace(source, name=f"sample {split}")


@contextmanager
def _sample_file(name: str) -> Iterator[Path]:
    with resources.as_file(resources.files("kbert.data") / "sample" / name) as path:
        yield path


def not_found(spec: str, path: Path, takes: str) -> DataError:
    """Returns the error about a path that does not exist; `takes` says what would."""
    parent = path.parent
    if not parent.is_dir():
        return DataError(f"{spec} does not exist: there is no folder {parent}.")
    names = ["sample", *(p.name for p in parent.iterdir())]
    near = get_close_matches(path.name, names, n=3)
    return DataError(
        f"{spec} does not exist."
        + (f" Nearest in {parent}: {', '.join(near)}." if near else "")
        + f" {takes}"
    )
