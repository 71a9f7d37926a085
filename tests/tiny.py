"""A BERT small enough for a unit test, and its vocabulary."""

from dataclasses import asdict

import keras_hub
import numpy as np

from kbert.data.encoded import EncodedDataset
from kbert.models import BertEncoder
from kbert.preset_files import Architecture
from kbert.tasks import Task

WORDS = ["good", "bad", "film", "food", "very", "not", "the", "is", "was", "a"]
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)


def architecture(*, num_layers: int = 1, dropout: float = 0.0) -> Architecture:
    return Architecture(
        vocabulary_size=len(VOCABULARY),
        num_layers=num_layers,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=32,
        num_segments=2,
        dropout=dropout,
    )


def build_backbone(
    *, num_layers: int = 1, dropout: float = 0.0
) -> keras_hub.models.BertBackbone:
    sizes = asdict(architecture(num_layers=num_layers, dropout=dropout))
    return keras_hub.models.BertBackbone(**sizes)


def build_model(
    task: Task, *, num_layers: int = 1, dropout: float = 0.0, dtype: str = "float32"
) -> BertEncoder:
    """kbert's model for a task; without dropout, unless told otherwise."""
    return task.build_model(
        architecture(num_layers=num_layers, dropout=dropout),
        head_dropout=dropout,
        dtype=dtype,
    )


def random_dataset(num_examples: int, seed: int = 0) -> EncodedDataset:
    """Random tokens between [CLS] and [SEP]; label 1 where "good" is among them."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 30, num_examples)
    rows = [
        np.concatenate([[2], rng.integers(5, len(VOCABULARY), size - 2), [3]])
        for size in lengths
    ]
    token_ids = np.concatenate(rows).astype(np.int32)
    return EncodedDataset(
        name="random",
        token_ids=token_ids,
        segment_ids=np.zeros(len(token_ids), np.uint8),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        label_ids=np.array([int(5 in row) for row in rows], np.int32),
        label_names=("no", "yes"),
    )
