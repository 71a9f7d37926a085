"""A text of the tiny language and settings of a pretraining of a few seconds."""

import itertools
import json
from pathlib import Path
from typing import Any

from kbert.config import load_config
from kbert.pretrain_settings import PretrainConfig

MAX_LENGTH = 24


def documents() -> list[str]:
    """Four short sentences each: what is said of a thing is said again."""
    return [
        f"{article} {noun} {verb} {word}. {other} {noun} is not {opposite}.\n"
        f"is {article} {noun} {opposite}? {noun} {verb} very {word}."
        for article, other in (("the", "a"), ("a", "the"))
        for noun, verb in itertools.product(("film", "food"), ("is", "was"))
        for word, opposite in (("good", "bad"), ("bad", "good"))
    ] * 3


def write_corpus(path: Path) -> Path:
    """The documents as plain text, blank lines between them."""
    path.write_text("\n\n".join(documents()) + "\n", encoding="utf-8")
    return path


def settings_for(*sources: Path | str, **others: Any) -> dict[str, Any]:
    """Settings of a tiny BERT; `train__seed=1` stands for `train.seed`."""
    settings = {
        "model.vocabulary_size": 60,
        "model.num_layers": 1,
        "model.num_heads": 2,
        "model.hidden_dim": 16,
        "model.dropout": 0.0,
        "data.sources": [str(source) for source in sources],
        "data.max_length": MAX_LENGTH,
        "data.validation_share": 0.2,
        "train.batch_size": 8,
        "train.max_steps": 120,
        "train.eval_steps": 60,
        "train.learning_rate": 0.01,
        "train.precision": "float32",
    }
    settings |= {name.replace("__", "."): value for name, value in others.items()}
    return {name: value for name, value in settings.items() if value is not None}


def options_for(**others: object) -> list[str]:
    """`--set` for each setting of a tiny pretraining."""
    settings = settings_for(**(others | {"data__sources": None}))
    return [
        part
        for name, value in settings.items()
        for part in ("--set", f"{name}={json.dumps(value)}")
    ]


def config_for(*sources: Path | str, **others: Any) -> PretrainConfig:
    """The same as a config; None leaves a setting out."""
    return load_config(PretrainConfig, options=settings_for(*sources, **others))


def adapting(preset: Path, **others: Any) -> dict[str, Any]:
    """What takes the place of the settings of a new model."""
    new = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim")
    return dict.fromkeys(f"model__{name}" for name in new) | {
        "model__preset": str(preset),
        **others,
    }
