"""A tiny fine-tuning and a tiny pretraining, run once for all tests of workflows."""

import itertools
from pathlib import Path

import keras
import keras_hub
import pytest

import kbert
from kbert.data.prepared import Prepared
from kbert.runs import RunFolder
from kbert.workflows.pretrain import pretrain
from kbert.workflows.pretraining.preparing import prepare_only
from tests.pretraining_runs import config_for, write_corpus
from tests.tiny import VOCABULARY, build_backbone


def write_examples(path: Path, repeats: int = 3) -> Path:
    """Every sentence of the tiny language; with "good" in it, it is positive."""
    rows = ["review,verdict"]
    for article, noun, adverb, word in itertools.product(
        ("the", "a"),
        ("film", "food"),
        ("is", "was", "is very"),
        ("good", "bad"),
    ):
        verdict = "pos" if word == "good" else "neg"
        rows += [f"{article} {noun} {adverb} {word},{verdict}"]
    path.write_text("\n".join([rows[0], *rows[1:] * repeats]) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    keras.utils.set_random_seed(1)
    build_backbone(dropout=0.1).save_to_preset(str(folder))
    tokenizer = keras_hub.models.BertTokenizer(list(VOCABULARY), lowercase=True)
    tokenizer.save_to_preset(str(folder))
    return folder


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("data") / "examples.csv")


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_preset: Path, examples: Path
) -> kbert.Run:
    return kbert.finetune(
        str(tiny_preset),
        str(examples),
        output=tmp_path_factory.mktemp("runs") / "tiny",
        epochs=15,
        learning_rate=0.02,
        batch_size=8,
        precision="float32",
        settings={
            "data.text": "review",
            "data.label": "verdict",
            "data.test": str(examples),
        },
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt")


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> RunFolder:
    """A finished pretraining with both losses."""
    output = tmp_path_factory.mktemp("runs") / "pretrained"
    return pretrain(config_for(corpus), output=output)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Prepared:
    """The text prepared for two lengths."""
    config = config_for(corpus, data__short_length=12, model__lowercase=True)
    return prepare_only(config, tmp_path_factory.mktemp("prepared") / "corpus")
