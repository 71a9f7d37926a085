"""A prepared folder: the examples of a corpus on disk, ready to train on.

    prepared.json                     how it was prepared, and whether it is complete
    vocab.txt                         a token a line
    shards.jsonl                      a line a finished shard
    length-128/000000.tfrecord        a window's examples of at most 128 tokens
    validation/length-128.tfrecord    the held-out ones

Shards never change once they are finished.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from kbert.bounded import resolve_inside
from kbert.data.ahead import map_ahead
from kbert.data.prepared_files import (
    FORMAT,
    MANIFEST,
    SHARDS,
    read_manifest,
    read_shards,
)
from kbert.data.pretraining import (
    PARTS_OF_A_BLOCK,
    ExampleSource,
    Purpose,
    random_generator,
    shuffled_blocks,
)
from kbert.data.pretraining_examples import Examples
from kbert.data.shards import Shard, read_shard
from kbert.errors import DataError
from kbert.vocabulary import read_vocabulary

__all__ = [
    "FORMAT",
    "MANIFEST",
    "SHARDS",
    "VOCABULARY",
    "Prepared",
    "PreparedExamples",
    "digest_of",
    "open_prepared",
    "read_manifest",
    "read_shards",
    "shard_file",
    "validation_file",
]

VOCABULARY = "vocab.txt"

_THREADS = 2


def shard_file(max_length: int, window_number: int) -> str:
    """Where the examples of a window lie, below the folder."""
    return f"length-{max_length}/{window_number:06}.tfrecord"


def validation_file(max_length: int) -> str:
    """Where the held-out examples lie, below the folder."""
    return f"validation/length-{max_length}.tfrecord"


def digest_of(vocabulary: Sequence[str]) -> str:
    """The SHA-256 of a vocabulary, in hexadecimal."""
    return hashlib.sha256("\n".join(vocabulary).encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """A folder that is complete.

    Attributes:
        folder: where it is.
        settings: what decided the examples; see `prepare`.
        shards: the finished ones, by file.
    """

    folder: Path
    settings: dict[str, Any]
    shards: dict[str, Shard]

    @property
    def lengths(self) -> list[int]:
        """The lengths it was prepared for, rising."""
        return sorted(map(int, self.settings["lengths"]))

    @property
    def num_examples(self) -> int:
        """The examples to train on, of all lengths."""
        return sum(
            shard.num_examples
            for max_length in self.lengths
            for shard in self.training_shards(max_length)
        )

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens in the order of their ids.

        Raises:
            UserError: the file is gone, or another one than that prepared with.
        """
        path = resolve_inside(self.folder, VOCABULARY, DataError)
        vocabulary = read_vocabulary(path)
        if digest_of(vocabulary) != self.settings["vocabulary_sha256"]:
            raise DataError(
                f"{path} is not the vocabulary that the examples were prepared with. "
                "Put that one back, or prepare into another folder."
            )
        return vocabulary

    def training_shards(self, max_length: int) -> list[Shard]:
        """The shards of a length, in the order of their windows.

        Raises:
            DataError: the folder was not prepared for this length.
        """
        self._check_length(max_length)
        start = shard_file(max_length, 0).partition("/")[0] + "/"
        return [
            self.shards[file] for file in sorted(self.shards) if file.startswith(start)
        ]

    def validation_examples(self, max_length: int) -> Examples:
        """The held-out examples of a length.

        Raises:
            DataError: the folder was not prepared for this length, or is damaged.
        """
        self._check_length(max_length)
        return read_shard(self.folder, self.shards[validation_file(max_length)])

    def _check_length(self, max_length: int) -> None:
        if max_length not in self.lengths:
            raise DataError(
                f"{self.folder} was prepared for examples of at most "
                f"{' and '.join(map(str, self.lengths))} tokens. Received: "
                f"{max_length}. Name a length that is there, or prepare another folder."
            )


def open_prepared(folder: Path | str) -> Prepared:
    """Opens a folder that `prepare` completed.

    Raises:
        DataError: it is none, is not complete, or files are missing or damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(
            f"A prepared folder holds {MANIFEST}; {folder} does not. Name the folder "
            "that `kbert pretrain --prepare-only` wrote, or prepare it first."
        )
    again = "Run the command that prepared it again: it makes what is missing."
    shards = read_shards(folder)
    if not manifest["complete"]:
        raise DataError(
            f"{folder} is not complete: its preparation stopped after {len(shards)} "
            f"shards. {again}"
        )
    whole = {file: s for file, s in shards.items() if s.is_whole(folder)}
    lost = sorted(shards.keys() - whole.keys()) or (
        [SHARDS] if len(shards) != manifest.get("num_shards") else []
    )
    if lost:
        raise DataError(
            f"{folder} is damaged: {lost[0]} is missing or cut off"
            f"{f', and {len(lost) - 1} more files' * (len(lost) > 1)}. {again}"
        )
    return Prepared(folder, manifest["settings"], shards)


class PreparedExamples(ExampleSource):
    """An `ExampleSource` of prepared examples; every epoch has all of them.

    Args:
        prepared: the folder.
        max_length: which of its lengths.
        seed: decides the order.

    Raises:
        DataError: the folder was not prepared for this length.
    """

    def __init__(self, prepared: Prepared, max_length: int, *, seed: int) -> None:
        self._folder = prepared.folder
        self._shards = prepared.training_shards(max_length)
        self._seed = seed

    @property
    def num_examples(self) -> int:
        """The examples of an epoch."""
        return sum(shard.num_examples for shard in self._shards)

    def blocks(self, epoch: int, first_block: int = 0) -> Iterator[Examples]:
        """See `ExampleSource`; blocks before the first are not read.

        Raises:
            DataError: a shard is damaged or gone.
        """
        rng = random_generator(Purpose.ORDER, self._seed, epoch)
        order = rng.permutation(len(self._shards))[first_block * PARTS_OF_A_BLOCK :]
        parts = map_ahead(
            partial(read_shard, self._folder),
            [self._shards[number] for number in order],
            num_threads=_THREADS,
            num_ahead=PARTS_OF_A_BLOCK,
        )
        with closing(parts):
            yield from shuffled_blocks(parts, self._seed, epoch, first_block)
