import subprocess
import sys

import pytest

from kbert.data import sources
from kbert.data.sources import Columns, open_source, sort_labels, source_splits
from kbert.errors import DataError
from tests.data.source_checks import texts_and_labels, write


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "-1", "9"], ["-1", "9", "10"]),
        (["b", "a", "10", "9"], ["10", "9", "a", "b"]),
        (["1.5", "1"], ["1", "1.5"]),
        ([], []),
    ],
)
def test_sort_labels(labels, expected):
    assert sort_labels(labels) == expected


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """A sample of two texts in the place of the package's own."""
    write(tmp_path / "sample" / "train.csv", "text,label,review\na,x,r\n")
    write(tmp_path / "sample" / "validation.csv", "text,label,review\nb,y,r\n")
    monkeypatch.setattr(sources.resources, "files", lambda package: tmp_path)


@pytest.mark.usefixtures("sample")
def test_sample():
    train = open_source("sample")
    assert (train.name, train.notes) == ("sample train", ())
    assert train.columns == Columns("text", None, "label")
    assert texts_and_labels(train) == [("a", "x")]
    assert texts_and_labels(train) == [("a", "x")]
    validation = open_source("sample", split="validation")
    assert texts_and_labels(validation) == [("b", "y")]
    assert source_splits("sample") == ("train", "validation")
    with pytest.raises(DataError, match=r'no split "test". Splits: train, validation'):
        open_source("sample", split="test")


@pytest.mark.parametrize("name", ["data.txt", "data.json", "data", "data.txt.gz"])
def test_unknown_ending(tmp_path, name):
    path = write(tmp_path / name, "x")
    ending = name.removeprefix("data") or "no ending"
    with pytest.raises(DataError, match=rf"\.csv, \.tsv, \.jsonl.*Received: {ending}$"):
        open_source(str(path))


def test_a_misspelt_path_gets_the_nearest_names(tmp_path):
    write(tmp_path / "reviews.csv", "x")
    with pytest.raises(DataError, match=rf"Nearest in {tmp_path}: reviews\.csv"):
        open_source(str(tmp_path / "reveiws.csv"))
    with pytest.raises(DataError, match=rf"no folder {tmp_path / 'gone'}"):
        open_source(str(tmp_path / "gone" / "reviews.csv"))
    with pytest.raises(DataError, match="--data takes tfds:NAME"):
        open_source("x" * 5000)
    with pytest.raises(DataError, match="--data is empty"):
        open_source(" ")


def test_a_file_has_no_splits(tmp_path):
    path = str(write(tmp_path / "data.csv", "text,label\na,1\n"))
    assert source_splits(path) == ()
    assert texts_and_labels(open_source(path, split="train")) == [("a", "1")]
    with pytest.raises(DataError, match=r'data\.csv is a file and has no split "test"'):
        open_source(path, split="test")


def test_limit_must_be_positive(tmp_path):
    with pytest.raises(DataError, match=r"data\.limit must be at least 1. Received: 0"):
        open_source("sample", limit=0)


def test_tables_need_no_tensorflow():
    code = "import sys, kbert.data.sources as s; s.open_source('sample')"
    code += "; assert 'tensorflow' not in sys.modules and 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
