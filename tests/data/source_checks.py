"""What the tests of the readers share."""

from collections.abc import Iterable
from pathlib import Path

from kbert.data.sources import Source


def rows_of(source: Source, size: int = 1024) -> list[tuple]:
    """All rows of a source as (text, text_pair, label)."""
    rows: list[tuple] = []
    for chunk in source.chunks(size):
        assert 1 <= len(chunk) <= size
        nothing = [None] * len(chunk)
        rows += zip(
            chunk.texts,
            nothing if chunk.text_pairs is None else chunk.text_pairs,
            nothing if chunk.labels is None else chunk.labels,
            strict=True,
        )
    return rows


def texts_and_labels(source: Source) -> list[tuple[str, str]]:
    return [(text, label) for text, _, label in rows_of(source)]


def write(path: Path, content: str | bytes | Iterable[str]) -> Path:
    """Writes bytes as they are and lines with LF ends."""
    if isinstance(content, str):
        content = content.encode()
    elif not isinstance(content, bytes):
        content = "".join(f"{line}\n" for line in content).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
