"""Encoded examples that were kept are those that were read, or are not taken."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from kbert.checksums import SUMS, write_sums
from kbert.data.batching import Batching
from kbert.data.encoded import EncodedDataset, Encoder, encode_source
from kbert.data.kept_encodings import keep_encoded, key_of, open_encoded, tidy
from kbert.data.sources import Columns, open_source
from kbert.errors import DataError
from kbert.tokenization import WordPieceTokenizer
from tests.tiny import VOCABULARY

CSV = "text,label\nGood film,pos\nthe food was not very good,neg\n,pos\nbad,neg\n"
COLUMNS = ("token_ids", "segment_ids", "lengths", "label_ids")


def encoder(max_length: int = 6, **tokenizer) -> Encoder:
    how = {"lowercase": True, "strip_accents": True} | tokenizer
    return Encoder(WordPieceTokenizer(VOCABULARY, **how), max_length, "head")


def write(path: Path, content: str = CSV) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")
    return path


def key(path: Path, using: Encoder | None = None, **options) -> str:
    source = open_source(str(path), **options)
    found = key_of(source, using or encoder(), "strict")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncodedDataset, Path]:
    folder = tmp_path_factory.mktemp("kept")
    dataset = encode_source(open_source(str(write(folder / "r.csv"))), encoder())
    keep_encoded(folder / "encoded" / "train", dataset, "key")
    return dataset, folder / "encoded"


@pytest.fixture
def kept(
    _kept: tuple[EncodedDataset, Path], tmp_path: Path
) -> tuple[EncodedDataset, Path]:
    """A data set of four examples, and a folder in which it is kept as "key"."""
    dataset, folder = _kept
    return dataset, Path(shutil.copytree(folder, tmp_path / "encoded")) / "train"


def reopen(folder: Path) -> EncodedDataset | None:
    return open_encoded(folder, "key", encoder(), "r.csv")


def test_what_was_kept_is_what_was_read(kept):
    dataset, folder = kept
    again = reopen(folder)
    for name in (*COLUMNS, "starts"):
        assert getattr(again, name).tolist() == getattr(dataset, name).tolist(), name
    assert again.label_names == dataset.label_names == ("pos", "neg")
    assert again.report == dataset.report
    assert again.name == "r.csv"
    assert sorted(os.listdir(folder.parent)) == ["train"]


def test_what_was_made_otherwise_is_not_taken_and_is_replaced(kept, caplog):
    dataset, folder = kept
    assert open_encoded(folder, "another", encoder(), "r.csv") is None
    assert open_encoded(folder.parent / "test", "key", encoder(), "r.csv") is None
    assert not caplog.records
    keep_encoded(folder, replace(dataset, label_ids=None, label_names=()), "another")
    assert reopen(folder) is None
    again = open_encoded(folder, "another", encoder(), "r.csv")
    assert again.label_ids is None
    assert sorted(os.listdir(folder)) == sorted([SUMS, "about.json", *COLUMNS[:3]])


def test_the_key_is_of_the_text_and_not_of_its_place(tmp_path):
    first = key(write(tmp_path / "a.csv"))
    assert key(write(tmp_path / "far" / "b.csv")) == first
    others = [
        key(write(tmp_path / "c.csv", CSV.replace("bad", "sad"))),
        key(write(tmp_path / "a.tsv", CSV.replace(",", "\t"))),
        key(tmp_path / "a.csv", limit=2),
        key(tmp_path / "a.csv", columns=Columns("label", None, "text")),
        key(tmp_path / "a.csv", encoder(7)),
        key(tmp_path / "a.csv", replace(encoder(), truncation="tail")),
        key(tmp_path / "a.csv", encoder(lowercase=False)),
        key(tmp_path / "a.csv", encoder(strip_accents=False)),
        key_of(open_source(str(tmp_path / "a.csv")), encoder(), "replace"),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_a_word_that_changes_in_a_large_file_changes_the_key(tmp_path):
    lines = ["text,label", *["good film,pos", "bad film,neg"] * 200_000]
    first = key(write(tmp_path / "r.csv", "\n".join(lines)))
    lines[150_000] = "sad film,neg"  # of the same length
    assert key(write(tmp_path / "r.csv", "\n".join(lines))) != first


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_key_of_other_formats(tmp_path, kind):
    def save(words: list[str]) -> Path:
        table = pa.table({"text": words, "label": ["pos", "neg"]})
        path = tmp_path / f"r.{kind}"
        if kind == "parquet":
            pq.write_table(table, path)
        else:
            write(path, "".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        return path

    first = key(save(["good", "bad"]))
    assert key(save(["good", "bad"])) == first
    assert key(save(["good", "sad"])) != first


def test_the_key_of_a_folder_is_of_its_texts_and_their_times(tmp_path):
    for name in ("pos/1.txt", "neg/1.txt"):
        write(tmp_path / "a" / name, "good")
    first = key(tmp_path / "a")
    assert key(tmp_path / "a") == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert key(tmp_path / "b") == first
    changed = write(tmp_path / "b" / "neg" / "1.txt", "evil")
    os.utime(changed, ns=(0, 1))
    assert key(tmp_path / "b") != first


def test_the_key_of_records_is_of_their_files_and_place(tmp_path):
    def prepare(folder: Path, last: str) -> None:
        tfds.dataset_builders.store_as_tfds_dataset(
            name="made",
            version="1.0.0",
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "label": tfds.features.Text()}
            ),
            split_datasets={
                "train": [
                    (number, {"text": text, "label": "x"})
                    for number, text in enumerate(["good", last])
                ]
            },
            data_dir=folder,
        )

    def key_of_records(folder: Path, split: str = "train") -> str:
        source = open_source("tfds:made", split=split, data_dir=str(folder))
        found = key_of(source, encoder(), "strict")
        assert found is not None
        return found

    for name, last in {"a": "bad", "b": "bad", "c": "sad"}.items():
        prepare(tmp_path / name, last)
    first = key_of_records(tmp_path / "a")
    assert key_of_records(tmp_path / "b") == first
    assert key_of_records(tmp_path / "c") != first
    assert key_of_records(tmp_path / "a", "train[:1]") != first


def rewrite(change: Callable[[np.ndarray], np.ndarray], name: str) -> Callable:
    """A damage that a stranger makes, with a checksum that fits."""

    def damage(folder: Path) -> None:
        column = np.fromfile(folder / name, "u1" if name == "segment_ids" else "<i4")
        change(column).tofile(folder / name)
        write_sums(folder)

    return damage


def set_about(**values) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text())
        (folder / "about.json").write_text(json.dumps(about | values))
        write_sums(folder)

    return damage


def set_report(**values) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text())
        set_about(report=about["report"] | values)(folder)

    return damage


def cut(name: str, to: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, to)


def flip(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return damage


def to_pipe(folder: Path) -> None:
    (folder / "token_ids").unlink()
    os.mkfifo(folder / "token_ids")


def put(index: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(column: np.ndarray) -> np.ndarray:
        column[index] = value
        return column

    return change


LARGE = 10**400
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    **{f"{n} flipped": (flip(n), f"{n} is not as it was written") for n in COLUMNS},
    **{f"{n} cut": (cut(n, 4), f"{n} is not as it was written") for n in COLUMNS},
    **{
        f"{n} missing": (lambda folder, n=n: (folder / n).unlink(), f"{n} is missing")
        for n in COLUMNS
    },
    "about.json cut": (cut("about.json", 20), "must be a JSON file"),
    "about.json missing": (lambda f: (f / "about.json").unlink(), "has no about.json"),
    "no sums": (lambda f: (f / SUMS).unlink(), "SHA256SUMS is not as it was written"),
    "no folder": (lambda f: (f.rename(f"{f}2"), f.touch()), "has no about.json"),
    "more in about.json": (set_about(columns={"/etc/passwd": "x"}), "columns"),
    "a report of words": (set_about(report="long"), "report"),
    "labels that are numbers": (set_about(label_names=[1, 2]), "label_names"),
    "fewer labels": (set_about(label_names=["pos"]), "one is no label"),
    "two equal labels": (set_about(label_names=["neg", "neg"]), "the same"),
    "an empty label": (set_about(label_names=["neg", ""]), "label_names"),
    "half a character": (set_about(label_names=["neg", "\ud800"]), "label_names"),
    "another count": (set_report(num_examples=5), "lengths: 4 of 5"),
    "other tokens": (set_report(num_tokens=0), "0 tokens of 15"),
    "a negative count": (set_report(num_cut=-1), "num_cut"),
    "a large count": (set_report(num_tokens_lost=LARGE), "num_tokens_lost"),
    "a count that is none": (set_report(num_empty=1.0), "num_empty"),
    "a pipe": (to_pipe, "token_ids is missing"),
    "holes": (lambda f: os.truncate(f / "lengths", 2**42), "lengths is mostly holes"),
    "a length of 0": (rewrite(put(0, 0), "lengths"), "not within 1 and 6"),
    "a length below 0": (rewrite(put(0, -4), "lengths"), "not within 1 and 6"),
    "a long length": (rewrite(put(0, 7), "lengths"), "not within 1 and 6"),
    "another length": (rewrite(put(0, 3), "lengths"), "do not add up"),
    "more segments": (
        rewrite(lambda c: np.append(c, c), "segment_ids"),
        "do not add up",
    ),
    "fewer label ids": (rewrite(lambda c: c[1:], "label_ids"), "label_ids: 3 of 4"),
    "a label below 0": (rewrite(put(1, -1), "label_ids"), "one is no label"),
    "empty": (rewrite(lambda c: c[:0], "lengths"), "lengths is no column"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_told_and_not_taken(kept, caplog, name):
    damage, message = DAMAGES[name]
    damage(kept[1])
    assert reopen(kept[1]) is None
    (record,) = caplog.records
    assert "the texts are read again" in record.getMessage()
    assert message in record.getMessage()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("token_ids", len(VOCABULARY), f"not within 0 and {len(VOCABULARY) - 1}"),
        ("token_ids", -1, f"not within 0 and {len(VOCABULARY) - 1}"),
        ("segment_ids", 2, "not within 0 and 1"),
    ],
)
def test_an_id_without_an_embedding_is_refused_where_it_is_fed(
    kept, column, value, message
):
    rewrite(put(2, value), column)(kept[1])
    dataset = reopen(kept[1])
    batching = Batching(max_length=6, batch_size=4)
    (group,) = batching.groups(np.full(4, 6))
    with pytest.raises(DataError, match=message):
        list(batching.batches(dataset, group, pad_id=0))


def test_a_full_disk_leaves_what_was_there(kept, monkeypatch):
    dataset, folder = kept

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kbert.data.kept_encodings.np.ascontiguousarray", fail)
    with pytest.raises(OSError, match="No space left"):
        keep_encoded(folder, dataset, "another")
    assert os.listdir(folder.parent) == ["train"]
    assert reopen(folder) is not None


def test_a_disk_that_maps_no_files_costs_a_reading(kept, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr("kbert.data.kept_encodings.np.memmap", fail)
    assert reopen(kept[1]) is None
    assert "No such device" in caplog.text


def test_what_a_kill_left_is_removed_and_links_are(kept, tmp_path):
    folder = kept[1].parent
    (folder / ".train.tmp-123").mkdir()
    (folder / "test").symlink_to(write(tmp_path / "model" / "weights").parent)
    tidy(folder)
    assert os.listdir(folder) == ["train"]
    assert os.listdir(tmp_path / "model") == ["weights"]
    folder.rename(tmp_path / "away")
    folder.symlink_to(tmp_path / "away")
    tidy(folder)
    assert not folder.is_symlink()
    assert os.listdir(tmp_path / "away") == ["train"]
    tidy(folder)  # of nothing
