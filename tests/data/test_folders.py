import pytest

from kbert.data.sources import Columns, folder_splits, open_source, source_splits
from kbert.errors import DataError
from tests.data.source_checks import rows_of, texts_and_labels, write


@pytest.fixture
def reviews(tmp_path):
    """pos has 3 texts, neg 1, beside files that do not count."""
    folder = tmp_path / "reviews"
    for i in range(3):
        write(folder / "pos" / f"{i}.txt", f"pos {i}\n")
    write(folder / "neg" / "0.TXT", "\ufeffneg 0")
    write(folder / "neg" / ".hidden.txt", "no")
    write(folder / "neg" / "notes.md", "no")
    write(folder / ".git" / "0.txt", "no")
    write(folder / "README", "no")
    return folder


def test_takes_one_text_of_each_class_in_turn(reviews):
    source = open_source(str(reviews))
    assert texts_and_labels(source) == [
        ("neg 0", "neg"),
        ("pos 0\n", "pos"),
        ("pos 1\n", "pos"),
        ("pos 2\n", "pos"),
    ]
    assert source.name == "reviews"
    assert source.label_names == ("neg", "pos")
    assert source.num_examples == 4
    assert source.columns == Columns("text", None, "label")
    assert list(source.chunks(3)) == list(source.chunks(3))


def test_limit_and_no_labels(reviews):
    source = open_source(str(reviews), limit=2, labelled=False)
    assert rows_of(source) == [("neg 0", None, None), ("pos 0\n", None, None)]
    assert (source.num_examples, source.label_names) == (2, None)


def test_numbered_classes_are_ordered_by_number(tmp_path):
    for stars in ("10", "9", "1"):
        write(tmp_path / stars / "a.txt", stars)
    assert open_source(str(tmp_path)).label_names == ("1", "9", "10")


@pytest.fixture
def imdb(tmp_path):
    """A folder laid out as aclImdb."""
    folder = tmp_path / "aclImdb"
    for split in ("train", "test"):
        for name in ("pos", "neg"):
            write(folder / split / name / "0_1.txt", f"{split} {name}")
        write(folder / split / "urls_pos.txt.gz", "http")
        write(folder / split / "labeledBow.feat", "0")
    write(folder / "train" / "unsup" / "0_0.txt", "unsup")
    write(folder / "imdb.vocab", "the")
    return folder


def test_splits(imdb):
    expected = {"train": imdb / "train", "test": imdb / "test"}
    assert folder_splits(imdb) == expected
    assert source_splits(str(imdb)) == ("train", "test")
    assert folder_splits(imdb / "train") == {}
    test = open_source(str(imdb), split="test")
    assert texts_and_labels(test) == [("test neg", "neg"), ("test pos", "pos")]
    assert test.name == "aclImdb/test"


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_names_of_the_validation_split(tmp_path, name):
    write(tmp_path / name / "a" / "1.txt", "x")
    assert folder_splits(tmp_path) == {"validation": tmp_path / name}
    assert len(rows_of(open_source(str(tmp_path), split="validation"))) == 1


def test_classes_may_be_named_as_splits(tmp_path):
    for name in ("train", "bus"):
        write(tmp_path / name / "1.txt", name)
    assert folder_splits(tmp_path) == {}
    assert open_source(str(tmp_path)).label_names == ("bus", "train")


def test_unsup_is_left_out_and_said(imdb):
    source = open_source(str(imdb), split="train")
    assert source.label_names == ("neg", "pos")
    assert source.notes == (
        f"{imdb / 'train' / 'unsup'} is left out: its texts have no label",
    )


def test_a_split_must_be_named_and_exist(imdb, reviews):
    with pytest.raises(DataError, match=r"a split must be named\. Splits: train \("):
        open_source(str(imdb))
    with pytest.raises(DataError, match=r"Splits: train .*Received: validation"):
        open_source(str(imdb), split="validation")
    with pytest.raises(DataError, match='has no split "test"'):
        open_source(str(reviews), split="test")
    assert open_source(str(reviews), split="train").num_examples == 4


def test_a_folder_of_files_alone(tmp_path):
    write(tmp_path / "a.txt", "x")
    with pytest.raises(DataError, match=r"no class folders\. .*reviews/pos/1\.txt"):
        open_source(str(tmp_path))


def test_a_class_without_texts(reviews):
    write(reviews / "neutral" / "1.html", "x")
    with pytest.raises(DataError, match=r"neutral is a class without texts"):
        open_source(str(reviews))


def test_invalid_utf8_names_file_and_line(reviews):
    path = write(reviews / "pos" / "1.txt", b"one\ntwo \xff\n")
    with pytest.raises(DataError, match=rf"{path}, line 2: invalid UTF-8 .*0xff"):
        rows_of(open_source(str(reviews)))
    source = open_source(str(reviews), encoding_errors="ignore")
    assert rows_of(source)[2][0] == "one\ntwo \n"


def test_a_folder_may_be_named_as_a_file(tmp_path):
    write(tmp_path / "data.csv" / "a" / "1.txt", "x")
    assert rows_of(open_source(str(tmp_path / "data.csv"))) == [("x", None, "a")]
