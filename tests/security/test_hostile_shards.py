"""Prepared folders: lists of shards and shards that mean harm."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kbert.data.pretraining_examples import Examples
from kbert.data.shards import Shard, read_shard, write_shard
from kbert.errors import DataError

FILE = "length-16/000000.tfrecord"


def _examples() -> Examples:
    return Examples(
        np.arange(12, dtype=np.int32),
        np.array([6, 6]),
        np.array([3, 6]),
        np.array([0, 1], np.int32),
    )


ENTRIES: list[dict[str, Any]] = [
    *({"file": name} for name in (
        "../outside.tfrecord", "/etc/passwd", "length-16/../../x.tfrecord", "", "a",
        "length-16/000000.tfrecord\0", 5, None, ["x"], "length-16\n/1.tfrecord",
    )),
    *({name: value} for name in ("num_examples", "num_tokens", "num_bytes")
      for value in (-1, 1.5, True, "5", None, [1])),
]  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_entry_that_is_none(entry: dict[str, Any]) -> None:
    good = {"file": FILE, "num_examples": 1, "num_tokens": 6, "num_bytes": 100}
    Shard(**good)
    with pytest.raises(ValueError, match=r"of a shard|no shard"):
        Shard(**{**good, **entry})


def _record(length: int, content: bytes = b"") -> bytes:
    return struct.pack("<QI", length, 0) + content


def _feature(**features: list[int]) -> bytes:
    example = tf.train.Example()
    for name, values in features.items():
        example.features.feature[name].int64_list.value.extend(values)
    return example.SerializeToString()


CONTENTS: dict[str, bytes] = {
    "a record of 2**62 bytes": _record(2**62),
    "a record of 2**64 bytes": _record(2**64 - 1),
    "a record of a terabyte": _record(2**40, bytes(100)),
    "noise": os.urandom(5000),
    "zeros": bytes(5000),
    "an archive": b"PK\x03\x04" + bytes(100),
}
FEATURES: dict[str, dict[str, list[int]]] = {
    "a negative token": {
        "token_ids": [-5, 1], "first_length": [1], "next_sentence_label": [0],
    },
    "a first segment that is longer": {
        "token_ids": [1], "first_length": [10**9], "next_sentence_label": [0],
    },
    "a negative length": {
        "token_ids": [1], "first_length": [-1], "next_sentence_label": [0],
    },
    "nothing": {},
    "two lengths": {
        "token_ids": [1], "first_length": [1, 2], "next_sentence_label": [0],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", [*CONTENTS, *FEATURES])
def test_a_shard_that_is_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    if name in CONTENTS:
        path.write_bytes(CONTENTS[name])
    else:
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(_feature(**FEATURES[name]))
    with pytest.raises(DataError, match="000000"):
        read_shard(tmp_path, Shard(FILE, 1, 2, path.stat().st_size))


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    shard = write_shard(inside, FILE, _examples())
    assert shard.is_whole(inside)
    assert len(read_shard(inside, shard)) == 2
    (inside / FILE).rename(tmp_path / "moved")
    (inside / FILE).symlink_to(tmp_path / "moved")
    for use in (shard.is_whole, lambda folder: read_shard(folder, shard)):
        with pytest.raises(DataError, match="leads out of its folder"):
            use(inside)


NUM_CASES = len(ENTRIES) + len(CONTENTS) + len(FEATURES) + 1
