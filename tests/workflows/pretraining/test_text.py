"""The text of a pretraining: what is held out is not trained on."""

import io
import logging
from pathlib import Path

import pytest

from kbert.errors import ConfigError, DataError
from kbert.pretrain_settings import PretrainConfig, PretrainDataSettings
from kbert.workflows.pretraining.preparing import prepare_only
from kbert.workflows.pretraining.text import open_text, open_validation, texts_of


def settings(*sources: str, **values: str) -> PretrainDataSettings:
    return PretrainDataSettings(sources=list(sources), **values)


@pytest.fixture
def tfds_folder(shared_dir: Path) -> str:
    """Where the real IMDB reviews are prepared."""
    return str(shared_dir / "data" / "tfds")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "corpus" / name).write_text("One. Two.\n\nThree. Four.\n")
    (tmp_path / "link.txt").symlink_to(tmp_path / "corpus" / "b.txt")
    return tmp_path


@pytest.mark.parametrize("source", ["corpus/a.txt", "corpus/*.txt", "corpus"])
@pytest.mark.parametrize("validation", ["corpus/a.txt", "corpus"])
def test_text_that_is_trained_on_is_not_held_out(
    folder: Path, source: str, validation: str
):
    data = settings(str(folder / source), validation=str(folder / validation))
    with pytest.raises(ConfigError, match=r"not trained on. Received: .*a\.txt"):
        open_validation(data)


def test_a_link_to_it_is_found(folder: Path):
    data = settings(str(folder / "corpus"), validation=str(folder / "link.txt"))
    with pytest.raises(ConfigError, match=r"b\.txt"):
        open_validation(data)


def test_the_same_split_is_refused(tfds_folder: str):
    data = settings("tfds:imdb_reviews", validation="train", data_dir=tfds_folder)
    with pytest.raises(ConfigError, match=r"Received: train of tfds.*data.train_spl"):
        open_validation(data)


def test_a_split_goes_before_a_folder_of_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    (folder / "corpus").rename(folder / "validation")
    held_out = open_validation(settings("sample", validation="validation"))
    assert held_out is not None
    assert [file.name for file in held_out.files] == ["sample validation"]
    other = open_validation(settings("sample", validation="validation/a.txt"))
    assert other is not None
    assert [Path(file.name).name for file in other.files] == ["a.txt"]


@pytest.mark.parametrize(
    ("split", "shared"), [("train[:10%]", "2,500"), ("test+train[99%:]", "250")]
)
def test_splits_that_overlap_are_refused(tfds_folder: str, split: str, shared: str):
    data = settings("tfds:imdb_reviews", validation=split, data_dir=tfds_folder)
    with pytest.raises(ConfigError) as caught:
        open_validation(data)
    assert f"of which {shared} examples are in train, the split" in str(caught.value)
    for source in ("sample", "tfds:imdb_reviews"):
        prepared = PretrainConfig(
            data=data.model_copy(update={"sources": [source, *data.sources]})
        )
        with pytest.raises(ConfigError, match=f"{shared} examples"):
            prepare_only(prepared, None)


@pytest.mark.parametrize(
    ("validation", "name"),
    [
        ("test[:10]", "tfds:imdb_reviews test[:10]"),
        ("tfds:imdb_reviews", "tfds:imdb_reviews test"),
        ("sample", "sample validation"),
    ],
)
def test_splits_and_data_sets_that_are_apart_are_opened(
    tfds_folder: str, validation: str, name: str, caplog: pytest.LogCaptureFixture
):
    data = settings("tfds:imdb_reviews", validation=validation, data_dir=tfds_folder)
    with caplog.at_level(logging.INFO, "kbert"):
        corpus = open_validation(data)
    assert corpus is not None
    assert [file.name for file in corpus.files] == [name]
    assert f"held out: {name}" in caplog.text


def test_a_path_beside_a_data_set_is_a_path(tmp_path: Path):
    data = settings("tfds:imdb_reviews", validation=str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        open_validation(data)


def test_the_sample_has_held_out_text_too():
    corpus = open_validation(settings("sample", validation="sample"))
    assert corpus is not None
    assert [file.name for file in corpus.files] == ["sample validation"]
    data = settings("sample", validation="sample", train_split="validation")
    with pytest.raises(ConfigError, match="Received: validation of sample, the split"):
        open_validation(data)


def test_a_run_is_no_text(tmp_path: Path):
    for name in ("config.toml", "task.json"):
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=rf"is a run.*TEXT --preset {tmp_path}"):
        open_text(settings(str(tmp_path)))


def test_a_progress_line_counts_documents(folder: Path):
    shown = io.StringIO()
    corpus = open_text(settings(str(folder / "corpus"), document="file"))
    assert len(list(texts_of(corpus, shown, "vocabulary"))) == 2
    assert shown.getvalue().startswith("vocabulary  documents 2")
    assert "examples" not in shown.getvalue()


def test_other_text_is_opened(folder: Path):
    data = settings(
        str(folder / "corpus" / "a.txt"), validation=str(folder / "corpus" / "b.txt")
    )
    corpus = open_validation(data)
    assert corpus is not None
    texts = [piece.text for file in corpus.files for piece in file.pieces()]
    assert texts == ["One. Two.", "Three. Four."]
