"""Data of any size for position.py, made up."""

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kbert.data.prepared import FORMAT, MANIFEST, SHARDS, shard_file
from kbert.data.pretraining import PARTS_OF_A_BLOCK
from kbert.data.pretraining_examples import Examples
from kbert.data.shards import write_shard
from kbert.files import append_line, write_json
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import SPECIAL_TOKENS

LENGTH = 8  # most tokens of a prepared example
SHARD_EXAMPLES = 16_000  # about those of a window, at 128 tokens
BLOCK_EXAMPLES = PARTS_OF_A_BLOCK * SHARD_EXAMPLES
VOCABULARY_SIZE = 1000
FIRST_WORD = len(SPECIAL_TOKENS)
MASK_ID = SPECIAL_TOKENS.index("[MASK]")
CLS_ID, SEP_ID = SPECIAL_TOKENS.index("[CLS]"), SPECIAL_TOKENS.index("[SEP]")

_MEGABYTE = 1_000_000


def write_labelled(path: Path, num_examples: int) -> None:
    """Writes a table of short labelled texts: 10,000 of them, again and again."""
    rng = np.random.default_rng(0)
    words = np.array(_words())
    lengths = rng.integers(2, 11, 10_000)
    lines = [
        f"{' '.join(rng.choice(words, length))},{('no', 'yes')[length % 2]}\n"
        for length in lengths
    ]
    with path.open("w") as file:
        file.write("text,label\n")
        for start in range(0, num_examples, len(lines)):
            file.writelines(lines[: num_examples - start])


def write_prepared(folder: Path, num_examples: int) -> int:
    """Writes a prepared folder of full shards; gives the number of its examples."""
    num_shards = num_examples // SHARD_EXAMPLES
    for number in range(num_shards):
        examples = _random_examples(np.random.default_rng(number))
        shard = write_shard(folder, shard_file(LENGTH, number), examples)
        append_line(folder / SHARDS, json.dumps(asdict(shard)))
    manifest = {
        "format": FORMAT,
        "complete": True,
        "settings": {
            "lengths": {str(LENGTH): {"next_sentence": True, "short_rate": 0.1}},
            "lowercase": True,
            "strip_accents": True,
            "vocabulary_sha256": "",
            "choices": {},
            "files": [],
        },
        "num_shards": num_shards,
    }
    write_json(folder / MANIFEST, manifest)
    return num_shards * SHARD_EXAMPLES


def _random_examples(rng: np.random.Generator) -> Examples:
    """[CLS] a [SEP] b c [SEP], and up to two tokens more in the middle."""
    lengths = rng.integers(LENGTH - 2, LENGTH + 1, SHARD_EXAMPLES)
    ends = np.cumsum(lengths)
    token_ids = rng.integers(FIRST_WORD, VOCABULARY_SIZE, ends[-1], np.int32)
    token_ids[ends - lengths] = CLS_ID
    token_ids[ends - lengths + 2] = token_ids[ends - 1] = SEP_ID
    return Examples(
        token_ids,
        lengths,
        np.full(SHARD_EXAMPLES, 3),
        rng.integers(0, 2, SHARD_EXAMPLES).astype(np.int32),
    )


def tokenizer() -> WordPieceTokenizer:
    """Each word of the texts is a token."""
    tokens = [*SPECIAL_TOKENS, ".", *_words()]
    return WordPieceTokenizer(tokens, lowercase=True, strip_accents=True)


def _words() -> list[str]:
    return [f"word{number}" for number in range(VOCABULARY_SIZE - FIRST_WORD - 1)]


def write_texts(folder: Path, num_megabytes: int) -> Iterator[Path]:
    """Yields the same documents as plain text, compressed, and in a table."""
    plain = folder / "text.txt"
    with plain.open("w") as file:
        for document in _documents(num_megabytes):
            file.write(f"{document}\n\n")
    packed, table = folder / "text.txt.gz", folder / "text.jsonl"
    with plain.open("rb") as source, gzip.open(packed, "wb", 1) as target:
        shutil.copyfileobj(source, target)
    with plain.open() as source, table.open("w") as rows:
        for document in source.read().split("\n\n")[:-1]:
            rows.write(json.dumps({"text": document}) + "\n")
    yield from (plain, packed, table)


def _documents(num_megabytes: int) -> Iterator[str]:
    """Documents of about 3 kB, a paragraph a line; the same again in every megabyte."""
    rng = np.random.default_rng(0)
    words = np.array(_words())
    documents: list[str] = []
    while sum(map(len, documents)) < _MEGABYTE:
        paragraphs = [
            " ".join(" ".join(rng.choice(words, 15)) + "." for _ in range(4))
            for _ in range(6)
        ]
        documents.append("\n".join(paragraphs))
    for _ in range(num_megabytes):
        yield from documents
