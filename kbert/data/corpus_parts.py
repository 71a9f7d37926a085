"""One file, data set or the sample as a part of a corpus: checked, then streamed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kbert.data.compressed import READ_ERRORS, open_unpacked, unreadable
from kbert.data.examples import Columns, EncodingErrors, Source
from kbert.data.fingerprints import fingerprint_of
from kbert.data.lines import HEAD, check_is_text
from kbert.data.pieces import DocumentEnd, Piece, Place, cut_text, read_pieces
from kbert.data.sources import file_kind, open_source
from kbert.errors import DataError

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_ROWS = 64  # few, as each may be long
_REPLACEMENT = "\ufffd"

NoteBroken = Callable[[str], None]
"""Is told each place, such as "a.txt, line 3", with bytes that are no UTF-8."""


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read.

    Attributes:
        document: what ends a document of plain text: a blank line, a line, or the
            file. A row of a table always is one.
        text: the column of tables and data sets that holds the text; None where there
            is one plausible choice.
        split: the split of `tfds:` data sets and of the sample.
        data_dir: where TFDS keeps prepared data sets.
        encoding_errors: what bytes do that are no UTF-8: "replace" puts U+FFFD,
            "ignore" drops them, "strict" raises.
        limit: read only the first so many documents of each file.
    """

    document: DocumentEnd = "blank_line"
    text: str | None = None
    split: str = "train"
    data_dir: str | None = None
    encoding_errors: EncodingErrors = "replace"
    limit: int | None = None


@dataclass(frozen=True)
class Part:
    """What a corpus is read from, piece by piece.

    Attributes:
        name: for messages.
        num_bytes: its size on disk; None if it is no single file.
        fingerprint: facts that change when what is in it does, its name not included.
        read: yields the pieces, and tells the places with broken bytes; from a place
            on, if it has an offset.
        notes: what was guessed, for the user.
    """

    name: str
    num_bytes: int | None
    fingerprint: str
    read: Callable[[NoteBroken, Place | None], Iterator[Piece]]
    notes: tuple[str, ...] = ()


def open_file(path: Path, options: CorpusOptions) -> Part:
    """Opens a file, plain text unless its ending is that of a table.

    Raises:
        DataError: It cannot be read, or is no text; or a table does not fit.
    """
    kind = file_kind(path)
    if kind == ".json":
        raise DataError(
            f"{path} is JSON and not JSON lines, which has an object with a text a "
            "line: jq -c '.[]' FILE.json > FILE.jsonl"
        )
    if kind in TABLES:
        source = _open_table(str(path), None, options)
        read = partial(_read_table, source, f"{path}, row", options.encoding_errors)
        notes = source.notes
    else:
        _check_head(path)
        read = partial(read_pieces, path, options.document, options.encoding_errors)
        notes = ()
    num_bytes = path.stat().st_size
    return Part(str(path), num_bytes, fingerprint_of(path), read, notes)


def open_named(spec: str, options: CorpusOptions) -> Part:
    """Opens a `tfds:` data set or the sample.

    Raises:
        DataError: It cannot be had, has no such split, or no text column.
    """
    source = _open_table(spec, options.split, options)
    fingerprint = f"{source.name}, {source.num_examples} examples"
    if spec.startswith("tfds:"):
        from kbert.data.tfds_builder import find_builder

        info = find_builder(spec, options.data_dir).info
        fingerprint = f"{info.full_name} {options.split}, {source.num_examples}"
    read = partial(
        _read_table, source, f"{source.name}, example", options.encoding_errors
    )
    return Part(source.name, None, fingerprint, read, source.notes)


def _open_table(spec: str, split: str | None, options: CorpusOptions) -> Source:
    return open_source(
        spec,
        split=split,
        columns=Columns(options.text),
        data_dir=options.data_dir,
        encoding_errors="strict" if options.encoding_errors == "strict" else "replace",
        labelled=False,
    )


def _read_table(
    source: Source,
    where: str,
    errors: EncodingErrors,
    note_broken: NoteBroken,
    start: Place | None,
) -> Iterator[Piece]:
    """Yields each row as a document; of a pair of texts, one below the other."""
    assert start is None, "the pieces of a table have no offset"
    document = row = 0
    for chunk in source.chunks(_ROWS):
        pairs = chunk.text_pairs or [""] * len(chunk)
        for text, pair in zip(chunk.texts, pairs, strict=True):
            row += 1
            text = f"{text}\n{pair}" if pair else text
            # Where the text was broken, the reader of the table has put this character.
            if _REPLACEMENT in text and errors != "strict":
                note_broken(f"{where} {row}")
                if errors == "ignore":
                    text = text.replace(_REPLACEMENT, "")
            begun = False
            for part in cut_text(text):
                begun = True
                yield Piece(part, document, row)
            document += begun


def _check_head(path: Path) -> None:
    try:
        with open_unpacked(path) as stream:
            check_is_text(path, stream.read(HEAD))
    except READ_ERRORS as error:
        raise unreadable(path, error) from error
