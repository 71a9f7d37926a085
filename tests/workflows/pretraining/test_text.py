"""The text of a pretraining: what is held out is not trained on."""

from pathlib import Path

import pytest

from kbert.errors import ConfigError
from kbert.pretrain_settings import PretrainDataSettings
from kbert.workflows.pretraining.text import open_validation


def settings(*sources: str, **values: str) -> PretrainDataSettings:
    return PretrainDataSettings(sources=list(sources), **values)


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


def test_the_same_split_is_refused():
    data = settings("tfds:imdb_reviews", validation="train")
    with pytest.raises(ConfigError, match="Received: train, which is among"):
        open_validation(data)


def test_other_text_is_opened(folder: Path):
    data = settings(
        str(folder / "corpus" / "a.txt"), validation=str(folder / "corpus" / "b.txt")
    )
    corpus = open_validation(data)
    assert corpus is not None
    texts = [piece.text for file in corpus.files for piece in file.pieces()]
    assert texts == ["One. Two.", "Three. Four."]
