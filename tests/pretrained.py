"""A run as pretraining leaves it, small enough for a unit test."""

from pathlib import Path

import keras
import keras_hub
import numpy as np

from kbert.files import write_json, write_text
from kbert.tasks import MaskedLM
from tests.tiny import VOCABULARY

# Two tokens that join to the word before them, behind those of the tiny language.
TOKENS = (*VOCABULARY, "##s", "##y")
MAX_LENGTH = 16


def write_pretrained_run(folder: Path, *, max_length: int = MAX_LENGTH) -> Path:
    """A run with random weights, large enough that every mask is filled its own way."""
    keras.utils.set_random_seed(3)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(TOKENS),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=32,
    )
    model = keras_hub.models.BertMaskedLM(backbone)
    generator = np.random.default_rng(3)
    model.set_weights(
        [
            weight + generator.normal(0, 0.5, weight.shape).astype(np.float32)
            for weight in model.get_weights()
        ]
    )
    tokenizer = keras_hub.models.BertTokenizer(list(TOKENS), lowercase=True)
    model.preprocessor = keras_hub.models.BertMaskedLMPreprocessor(
        tokenizer, sequence_length=max_length, mask_selection_length=4
    )
    folder.mkdir(parents=True)
    model.save_to_preset(str(folder / "model"))
    task = MaskedLM(
        max_length=max_length,
        lowercase=True,
        strip_accents=True,
        next_sentence=True,
        mask_selection_rate=0.15,
        whole_word=False,
    )
    write_json(folder / "task.json", task.to_dict())
    write_text(folder / "config.toml", "")
    return folder
