"""A corpus: documents without labels, streamed from files of any format and size."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kbert.data.corpus_parts import (
    TABLES,
    CorpusOptions,
    NoteBroken,
    Part,
    open_file,
    open_named,
)
from kbert.data.corpus_paths import SPECS, and_more_files, find_files, is_named
from kbert.data.corpus_report import ReadingReport
from kbert.data.pieces import MAX_PIECE_CHARACTERS, Piece, Place
from kbert.data.sources import file_kind
from kbert.display import list_some
from kbert.errors import DataError

__all__ = [
    "MAX_PIECE_CHARACTERS",
    "Corpus",
    "CorpusFile",
    "CorpusOptions",
    "Piece",
    "Place",
    "ReadingReport",
    "open_corpus",
]

SMALL_BYTES = 1_000_000
"""Files below this size are read together, as one ..."""
TOGETHER_BYTES = 8_000_000
"""... of about this size."""

_AS_USUAL = CorpusOptions()


@dataclass(frozen=True)
class CorpusFile:
    """A file of a corpus, several small ones read as one, or a data set.

    Attributes:
        name: for messages: a path, `tfds:imdb_reviews unsupervised`, or `a.txt and 9
            more files`.
        num_bytes: the size on disk; None for a data set and the sample.
        fingerprint: changes when what is in it does; names do not enter.
    """

    name: str
    num_bytes: int | None
    fingerprint: str
    _read: Callable[[NoteBroken, Place | None], Iterator[Piece]] = field(
        repr=False, compare=False
    )
    _readings: list[ReadingReport] = field(
        default_factory=list, repr=False, compare=False
    )

    @property
    def report(self) -> ReadingReport:
        """Of all readings, the one that came farthest."""
        return max(self._readings, key=lambda r: r.num_bytes, default=ReadingReport())

    def pieces(self, start: Place | None = None) -> Iterator[Piece]:
        """Yields the documents in order, each as one piece or, if long, as several.

        Args:
            start: of an earlier piece of this file, the first to yield now. Where it
                has an offset, what is before is not read, nor in the report.

        Raises:
            DataError: The file can no longer be read, is damaged, a row of a table is
                faulty, or bytes are no UTF-8 and `encoding_errors` is "strict".
        """
        report = ReadingReport()
        self._readings[:] = [self.report, report]
        is_sought = start is not None and start.offset is not None
        num_left_out = 0 if start is None or is_sought else start.number
        pieces = self._read(report.note_broken, start if is_sought else None)
        for number, piece in enumerate(pieces):
            report.num_documents = piece.document + 1
            report.num_bytes += len(piece.text.encode())
            if number >= num_left_out:
                yield piece


@dataclass(frozen=True)
class Corpus:
    """Documents in files.

    Attributes:
        name: short, for the name of a run: `imdb_reviews`, `reviews`.
        files: in an order that does not depend on that of the sources.
        notes: what was guessed or left out, a sentence each.
        idle: setting -> why it has no effect on this corpus.
    """

    name: str
    files: tuple[CorpusFile, ...]
    notes: tuple[str, ...] = ()
    idle: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> ReadingReport:
        """What has been read so far, over all files."""
        total = ReadingReport()
        for file in self.files:
            total.add(file.report)
        return total

    @property
    def num_bytes(self) -> int | None:
        """The size of all files on disk; None if one has none."""
        sizes = [file.num_bytes for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


def open_corpus(sources: Sequence[str], options: CorpusOptions = _AS_USUAL) -> Corpus:
    """Opens a corpus; each file is opened and its first bytes are looked at.

    Small files are read together, several as one `CorpusFile`: a corpus may be a
    hundred thousand of them.

    Args:
        sources: files, globs, folders (all files below them), `tfds:NAME[/CONFIG]`,
            `sample`. A file is a table if its name ends in .csv, .tsv, .jsonl, .ndjson
            or .parquet, else plain text; each may be compressed (.gz .bz2 .xz .zst).
        options: how they are read.

    Raises:
        DataError: A source does not exist, cannot be read, is no text, or has no text
            column; or all files are empty.
    """
    specs = [source for source in sources if source.strip()]
    if not specs:
        raise DataError(f"A corpus needs at least one of {SPECS}. None was given.")
    if options.limit is not None and options.limit < 1:
        raise DataError(f"data.limit must be at least 1. Received: {options.limit}")
    named = sorted({s for s in specs if is_named(s)})
    paths, notes = find_files([spec for spec in specs if spec not in named])
    parts = [open_file(path, options) for path in paths]
    if not named and not any(part.num_bytes for part in parts):
        raise DataError(
            f"The corpus is empty: {list_some([p.name for p in parts], 3)} has no "
            "bytes at all."
        )
    groups = [*_together(parts), *([open_named(spec, options)] for spec in named)]
    return Corpus(
        name=_short_name(specs[0]),
        files=tuple(_as_file(group, options.limit) for group in groups),
        notes=(
            *notes,
            *_guesses([part for group in groups for part in group]),
        ),
        idle=dict(_without_effect(options, paths, named)),
    )


def _together(parts: list[Part]) -> Iterator[list[Part]]:
    """Yields groups: small files that follow one another, and each large one alone."""
    group: list[Part] = []
    size = 0
    for part in parts:
        assert part.num_bytes is not None
        if part.num_bytes >= SMALL_BYTES:
            yield [part]
            continue
        group.append(part)
        size += part.num_bytes
        if size >= TOGETHER_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _as_file(parts: list[Part], limit: int | None) -> CorpusFile:
    is_one = len(parts) == 1

    def read(note_broken: NoteBroken, start: Place | None) -> Iterator[Piece]:
        first = 0
        for part in parts:
            document = -1
            for piece in part.read(note_broken, start):
                if piece.document == limit:
                    break
                document = first + piece.document
                # Of several files there is no offset. They are small.
                offset = piece.offset if is_one else None
                yield Piece(piece.text, document, piece.line, offset)
            first = max(first, document + 1)

    if is_one:
        name, fingerprint = parts[0].name, parts[0].fingerprint
    else:
        name = f"{parts[0].name}{and_more_files(len(parts) - 1)}"
        every = "\n".join(part.fingerprint for part in parts)
        fingerprint = hashlib.sha256(every.encode()).hexdigest()
    sizes = [part.num_bytes for part in parts]
    num_bytes = None if None in sizes else sum(size or 0 for size in sizes)
    return CorpusFile(name, num_bytes, fingerprint, read)


def _short_name(spec: str) -> str:
    if spec.startswith("tfds:"):
        return spec.removeprefix("tfds:").partition("/")[0].partition(":")[0]
    name = Path(spec).expanduser().resolve().name.partition(".")[0]
    return "".join(c for c in name if c.isalnum() or c in "-_") or "corpus"


def _guesses(parts: list[Part]) -> Iterator[str]:
    """What was guessed about tables, once for all those it was guessed of."""
    names: dict[str, list[str]] = {}
    for part in parts:
        for note in part.notes:
            names.setdefault(note, []).append(part.name)
    for note, tables in names.items():
        yield f"{list_some(tables, 3)}: {note}"


def _without_effect(
    options: CorpusOptions, paths: list[Path], named: list[str]
) -> Iterator[tuple[str, str]]:
    is_table = [file_kind(path) in TABLES for path in paths]
    if options.document != "blank_line" and all(is_table):
        yield "data.document", "a row of a table is a document"
    if options.text is not None and not named and not any(is_table):
        yield "data.text", "plain text has no columns"
    if options.split != "train" and not named:
        yield "data.train_split", "files have no splits"
    if options.data_dir and not any(spec.startswith("tfds:") for spec in named):
        yield "data.data_dir", "only a tfds:NAME data set has one"
