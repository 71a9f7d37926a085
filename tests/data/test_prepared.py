"""Prepared folders: read back as written, and refused where they are not whole."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from kbert.data.prepared import PreparedExamples, open_prepared
from kbert.data.preparing import Plan, prepare
from kbert.data.pretraining_examples import Examples
from kbert.data.shards import read_shard
from kbert.errors import DataError
from tests.data.pretraining_texts import random_corpus, recipe, rows_of, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eleven shards of pairs, so two blocks."""
    folder = tmp_path_factory.mktemp("prepared")
    plan = Plan(
        recipes=[recipe(16)],
        seed=0,
        keep=lambda *document: True,
        validation=lambda recipe: Examples.concatenate([]),
        choices={},
        window_bytes=2500,
    )
    prepared = prepare(random_corpus(), tiny_tokenizer(), folder, plan)
    assert 8 < len(prepared.training_shards(16)) < 16
    return folder


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "copied")


def epoch_of(folder: Path, epoch: int = 0, first_block: int = 0, seed: int = 0):
    source = PreparedExamples(open_prepared(folder), 16, seed=seed)
    return [rows_of(block) for block in source.blocks(epoch, first_block)]


def flat(blocks):
    return [row for block in blocks for row in block]


def counted(rows) -> Counter:
    return Counter((tuple(tokens), first, label) for tokens, first, label in rows)


def test_every_epoch_has_every_example(folder):
    prepared = open_prepared(folder)
    stored = [
        row
        for shard in prepared.training_shards(16)
        for row in rows_of(read_shard(folder, shard))
    ]
    assert PreparedExamples(prepared, 16, seed=0).num_examples == len(stored)
    orders = [flat(epoch_of(folder, epoch)) for epoch in (0, 1)]
    orders.append(flat(epoch_of(folder, seed=1)))
    for order in orders:
        assert order != stored
        assert counted(order) == counted(stored)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_same_seed_and_epoch_give_the_same_blocks(folder):
    blocks = epoch_of(folder, 5)
    assert len(blocks) == 2
    assert blocks == epoch_of(folder, 5)


def test_blocks_before_the_first_are_not_read(folder, monkeypatch):
    blocks = epoch_of(folder, 2)
    read = []

    def reading(folder, shard):
        read.append(shard)
        return read_shard(folder, shard)

    monkeypatch.setattr("kbert.data.prepared.read_shard", reading)
    assert epoch_of(folder, 2, 1) == blocks[1:]
    assert len(read) == len(open_prepared(folder).training_shards(16)) - 8
    assert epoch_of(folder, 2, 2) == epoch_of(folder, 2, 3) == []
    assert PreparedExamples(open_prepared(folder), 16, seed=0).bookmark(2, 1) is None


def test_length_that_was_not_prepared(folder):
    prepared = open_prepared(folder)
    message = "at most 16 tokens. Received: 128"
    with pytest.raises(DataError, match=message):
        PreparedExamples(prepared, 128, seed=0)
    with pytest.raises(DataError, match=message):
        prepared.validation_examples(128)


def test_folder_that_is_none(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match=r"holds prepared\.json; .* does not"):
            open_prepared(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"prepared\.json cannot be read"),
        ("[]", "not of format 1"),
        ('{"format": 1}', "not of format 1"),
        ('{"format": 2, "complete": true, "settings": {}}', "not of format 1"),
    ],
)
def test_damaged_manifest(copied, content, message):
    (copied / "prepared.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_prepared(copied)


def test_incomplete_folder(copied):
    path = copied / "prepared.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"complete": False}))
    with pytest.raises(DataError, match=r"not complete.*Run the command"):
        open_prepared(copied)


def test_damaged_list_of_shards(copied):
    path = copied / "shards.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    with pytest.raises(DataError, match=r"shards\.jsonl is missing or cut off"):
        open_prepared(copied)
    path.write_text("".join(["{}\n", *lines]))
    with pytest.raises(DataError, match=r"shards\.jsonl is damaged"):
        open_prepared(copied)
    path.unlink()
    with pytest.raises(DataError, match=r"shards\.jsonl is missing or cut off"):
        open_prepared(copied)


def test_shards_that_are_cut_off(copied):
    shards = open_prepared(copied).training_shards(16)
    for shard in shards[:3]:
        path = copied / shard.file
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        DataError, match=rf"{shards[0].file} is missing .*, and 2 more files\. Run"
    ):
        open_prepared(copied)


def test_shard_that_is_damaged_inside(copied):
    prepared = open_prepared(copied)
    shard = prepared.training_shards(16)[0]
    path = copied / shard.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    source = PreparedExamples(prepared, 16, seed=0)
    with pytest.raises(DataError, match=rf"{shard.file} is damaged.*Delete this file"):
        list(source.blocks(0))
    path.unlink()
    with pytest.raises(DataError, match="the file is gone"):
        list(source.blocks(0))


def test_shard_with_a_record_too_few(copied):
    first, second = open_prepared(copied).training_shards(16)[:2]
    shutil.copy(copied / first.file, copied / second.file)
    with pytest.raises(DataError, match=rf"{second.file} is damaged: .* examples of"):
        read_shard(copied, second)


def test_other_vocabulary(copied):
    path = copied / "vocab.txt"
    path.write_text(path.read_text().replace("word7\n", "word_7\n"))
    prepared = open_prepared(copied)
    with pytest.raises(DataError, match="not the vocabulary that the examples were"):
        _ = prepared.vocabulary
