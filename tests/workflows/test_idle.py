"""Settings without effect are named."""

from typing import Any

import pytest

from kbert.config import FinetuneConfig, TrainSettings, load_config
from kbert.training.loop import Plan
from kbert.workflows.datasets import open_sources
from kbert.workflows.idle import idle_settings, idle_steps


def idle(**options: Any) -> list[str]:
    named = {key.replace("__", "."): value for key, value in options.items()}
    config = load_config(FinetuneConfig, options=named)
    return list(idle_settings(config, open_sources(config.data)))


def test_the_defaults_are_quiet() -> None:
    assert idle() == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"data__validation_share": 0.3},
            "data.validation_share = 0.3 has no effect: validation is sample "
            "validation.",
        ),
        (
            {"data__data_dir": "/tfds"},
            "data.data_dir = /tfds has no effect: only a tfds:NAME data set has one.",
        ),
        (
            {"train__batch_size": 8, "train__tokens_per_batch": 512},
            "train.batch_size = 8 has no effect: train.tokens_per_batch takes its "
            "place.",
        ),
    ],
)
def test_what_has_no_effect_is_named(options: dict[str, Any], sentence: str) -> None:
    assert idle(**options) == [sentence]


def test_a_file_has_no_splits(tmp_path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("text,label\na,b\nc,d\n")
    found = idle(data__source=str(file), data__train_split="training")
    assert found == [
        f"data.train_split = training has no effect: {file} has no splits."
    ]
    named = {
        "data__text": "text",
        "data__label": "label",
        "data__validation_share": 0.5,
    }
    assert idle(data__source=str(file), **named) == []


def test_a_folder_has_no_columns(tmp_path) -> None:
    for label in ("no", "yes"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text("a")
    found = idle(data__source=str(tmp_path), data__label="stars")
    assert found == [
        f"data.label = stars has no effect: {tmp_path} has no columns to choose from."
    ]


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        ({}, []),
        ({"max_steps": 19, "eval_steps": 18, "warmup_steps": 18, "patience": 1}, [
            "train.patience = 1 has no effect: there are only 2 evaluations.",
        ]),
        ({"eval_steps": 5, "patience": 2}, []),
        ({"max_steps": 20}, [
            "train.max_steps = 20 has no effect: 2 epochs are 20 steps.",
        ]),
        ({"max_steps": 8, "eval_steps": 8, "warmup_steps": 8}, [
            "train.eval_steps = 8 has no effect: the training has 8 steps, and is "
            "evaluated at its end in any case.",
            "train.warmup_steps = 8: the training has 8 steps, so that the learning "
            "rate only rises.",
        ]),
        ({"patience": 3}, [
            "train.patience = 3 has no effect: there are only 2 evaluations.",
        ]),
    ],
)  # fmt: skip
def test_steps_that_never_come(settings: dict[str, int], sentences: list[str]) -> None:
    train = TrainSettings(epochs=2, **settings)
    plan = Plan(
        total_steps=min(20, train.max_steps or 20),
        eval_steps=train.eval_steps or 10,
        metric="accuracy",
        patience=train.patience,
    )
    assert list(idle_steps(train, plan, steps_per_epoch=10)) == sentences
