"""The tokenizer at work, as the reading of training data has it."""

import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from kbert.data.encoded import encode_source
from kbert.data.examples import Row, RowSource
from kbert.data.sources import (
    Columns,
    file_kind,
    open_source,
    read_plain_texts,
    source_splits,
)
from kbert.errors import ConfigError, DataError
from kbert.presets import resolve_preset
from kbert.settings import DataSettings, FinetuneConfig
from kbert.workflows.benching.timing import Clock, Timing, format_seconds, showing
from kbert.workflows.machine import machine, peak_memory, versions
from kbert.workflows.predictor import build_encoder
from kbert.workflows.resolving import DEFAULT_MAX_LENGTH

# A pass is at least so much text, a short data set over and over.
PASS_BYTES = 4_000_000
# What --set may say here.
_USED_SETTINGS = (
    "data.text",
    "data.data_dir",
    "data.train_split",
    "data.encoding_errors",
    "data.limit",
    "data.max_length",
    "data.truncation",
    "model.lowercase",
    "model.strip_accents",
)
_PLAIN = (".txt", "")
# `encode_source` takes so many texts at a time: a pass is a multiple of it.
_CHUNK = 512


@dataclass(frozen=True)
class TokenizeSpeed:
    """What was measured.

    Attributes:
        num_examples: texts of a pass.
        num_bytes: of these in UTF-8.
        num_tokens: of these before cutting, [CLS] and [SEP] included.
        memory_bytes: the process's peak.
    """

    preset: str
    data: str
    num_examples: int
    num_bytes: int
    num_tokens: int
    timing: Timing
    memory_bytes: int

    @property
    def megabytes_per_second(self) -> float:
        """Of text, at the median pass; a megabyte is 1,000,000 bytes."""
        return self.num_bytes / 1e6 / self.timing.median

    @property
    def tokens_per_second(self) -> float:
        """At the median pass."""
        return self.num_tokens / self.timing.median

    @property
    def examples_per_second(self) -> float:
        """At the median pass."""
        return self.num_examples / self.timing.median

    def to_dict(self) -> dict[str, Any]:
        """All figures, in seconds and bytes, for JSON."""
        return {
            "bench": "tokenize",
            "preset": self.preset,
            "data": self.data,
            "examples_per_pass": self.num_examples,
            "bytes_per_pass": self.num_bytes,
            "tokens_per_pass": self.num_tokens,
            "first_pass_seconds": self.timing.first_seconds,
            "passes": len(self.timing.seconds),
            "pass_seconds": self.timing.to_dict(),
            "megabytes_per_second": self.megabytes_per_second,
            "tokens_per_second": self.tokens_per_second,
            "examples_per_second": self.examples_per_second,
            "peak_memory_bytes": self.memory_bytes,
            "machine": machine(),
            "versions": versions(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """The figures by name, for people."""
        first = format_seconds(self.timing.first_seconds)
        return [
            ("tokenizer", f"of {self.preset}"),
            (
                "a pass",
                f"{self.num_examples:,} texts of {self.data}, "
                f"{self.num_bytes / 1e6:.1f} MB, {self.num_tokens:,} tokens",
            ),
            ("first pass", f"{first}, tracing included"),
            ("pass", self.timing.summary()),
            ("MB/s", f"{self.megabytes_per_second:,.1f}"),
            ("tokens/s", f"{self.tokens_per_second:,.0f}"),
            ("texts/s", f"{self.examples_per_second:,.0f}"),
            ("memory", f"{self.memory_bytes / 1e9:.2f} GB at most"),
        ]


def check_effect(assignments: Sequence[str]) -> None:
    """Checks that each `section.key=value` has an effect on the tokenizer's work.

    Raises:
        ConfigError: one has none.
    """
    for key in (item.partition("=")[0].strip() for item in assignments):
        if key not in _USED_SETTINGS:
            raise ConfigError(
                f"{key} has no effect on tokenizing. What may be set: "
                f"{', '.join(_USED_SETTINGS)}."
            )


def measure_tokenizer(
    config: FinetuneConfig,
    *,
    num_passes: int,
    progress: TextIO | None = None,
    clock: Clock = time.perf_counter,
) -> TokenizeSpeed:
    """Times passes over texts in memory, from strings to columns of token ids.

    Args:
        config: `model.preset`, `data.source` and what `check_effect` lets pass
            count.
        num_passes: those that count; one more goes before them.
        progress: where to show how far it is; None for nowhere.

    Raises:
        UserError: the preset or the data cannot be used.
    """
    model, data = config.model, config.data
    preset = resolve_preset(
        model.preset, lowercase=model.lowercase, strip_accents=model.strip_accents
    )
    max_length = data.max_length or min(DEFAULT_MAX_LENGTH, preset.max_sequence_length)
    encoder = build_encoder(preset, max_length=max_length, truncation=data.truncation)
    name, texts = _read(data)
    rows = partial(_rows, texts, 1 + num_passes)
    ends = [clock()]
    num_seen = 0
    with showing(1 + num_passes, progress, unit="passes") as on_pass:

        def on_batch(num_examples: int, num_tokens: int) -> None:
            nonlocal num_seen
            num_seen += num_examples
            if num_seen % len(texts) == 0:
                ends.append(clock())
                on_pass(len(ends) - 1, len(texts), 0)

        source = RowSource(name, Columns("text"), rows)
        report = encode_source(source, encoder, on_batch=on_batch).report
    first, *seconds = (end - start for start, end in itertools.pairwise(ends))
    return TokenizeSpeed(
        preset=preset.name,
        data=name,
        num_examples=len(texts),
        num_bytes=sum(len(text.encode()) for text in texts),
        num_tokens=(report.num_tokens + report.num_tokens_lost) // (1 + num_passes),
        timing=Timing(first, tuple(seconds)),
        memory_bytes=peak_memory(),
    )


def _read(data: DataSettings) -> tuple[str, list[str]]:
    """A data set's name, and the texts of a pass: some of it, or all of it repeated."""
    name, found = _open(data)
    texts: list[str] = []
    num_bytes = 0
    for text in found:
        texts.append(text)
        num_bytes += len(text.encode())
        if num_bytes >= PASS_BYTES and len(texts) % _CHUNK == 0:
            return name, texts
    if not num_bytes:
        raise DataError(f"{name} has no text in it.")
    wanted = max(len(texts), -(-PASS_BYTES * len(texts) // num_bytes))
    size = -(-wanted // _CHUNK) * _CHUNK
    return name, list(itertools.islice(itertools.cycle(texts), size))


def _open(data: DataSettings) -> tuple[str, Iterator[str]]:
    spec = data.source
    path = Path(spec).expanduser()
    if spec != "sample" and path.is_file() and file_kind(path) in _PLAIN:
        texts = read_plain_texts(path, data.encoding_errors)
        return spec, itertools.islice(texts, data.limit)
    own = source_splits(spec, data.data_dir)
    source = open_source(
        spec,
        split=data.train_split if own else None,
        columns=Columns(data.text),
        data_dir=data.data_dir,
        encoding_errors=data.encoding_errors,
        limit=data.limit,
        labelled=False,
    )
    chunks = source.chunks()
    return source.name, itertools.chain.from_iterable(chunk.texts for chunk in chunks)


def _rows(texts: list[str], num_passes: int) -> Generator[Row]:
    for _ in range(num_passes):
        for text in texts:
            yield text, None, None
