"""Which weights of kbert's BERT are which of Hugging Face's BertForPreTraining's."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np

from kbert.models import BertForPretraining


class Pair(NamedTuple):
    """One weight of kbert's, and the one or several of Hugging Face's that it holds.

    Several lie one after the other on its last axis. Hugging Face has kernels
    transposed.
    """

    ours: keras.Variable
    theirs: tuple[str, ...]
    is_kernel: bool

    def split(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """kbert's value under Hugging Face's names."""
        parts = np.split(value, len(self.theirs), axis=-1)
        if self.is_kernel:
            parts = [part.T for part in parts]
        return dict(zip(self.theirs, parts, strict=True))

    def join(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Hugging Face's values as kbert has them."""
        parts = [values[name] for name in self.theirs]
        if self.is_kernel:
            parts = [part.T for part in parts]
        return np.concatenate(parts, axis=-1)


def pair_weights(model: BertForPretraining) -> Iterator[Pair]:
    """Every weight of kbert's with Hugging Face's name of it."""

    def table(variable: keras.Variable, name: str) -> Iterator[Pair]:
        yield Pair(variable, (f"bert.embeddings.{name}_embeddings.weight",), False)

    def dense(layer: keras.layers.Dense, *names: str) -> Iterator[Pair]:
        yield Pair(layer.kernel, tuple(f"{name}.weight" for name in names), True)
        yield Pair(layer.bias, tuple(f"{name}.bias" for name in names), False)

    def norm(layer: keras.layers.LayerNormalization, name: str) -> Iterator[Pair]:
        yield Pair(layer.gamma, (f"{name}.weight",), False)
        yield Pair(layer.beta, (f"{name}.bias",), False)

    embeddings, head = model.embeddings, model.masked_lm_head
    yield from table(embeddings.token_embedding.embeddings, "word")
    yield from table(embeddings.segment_embedding.embeddings, "token_type")
    yield from table(embeddings.positions, "position")
    yield from norm(embeddings.norm, "bert.embeddings.LayerNorm")
    for number, layer in enumerate(model.encoder_layers):
        name = f"bert.encoder.layer.{number}"
        roles = [f"{name}.attention.self.{role}" for role in ("query", "key", "value")]
        yield from dense(layer.attention.query_key_value, *roles)
        output = f"{name}.attention.output"
        yield from dense(layer.attention.attention_output, f"{output}.dense")
        yield from norm(layer.attention_norm, f"{output}.LayerNorm")
        yield from dense(layer.intermediate, f"{name}.intermediate.dense")
        yield from dense(layer.output_dense, f"{name}.output.dense")
        yield from norm(layer.output_norm, f"{name}.output.LayerNorm")
    yield from dense(model.pooler, "bert.pooler.dense")
    yield from dense(head.dense, "cls.predictions.transform.dense")
    yield from norm(head.norm, "cls.predictions.transform.LayerNorm")
    yield Pair(head.bias, ("cls.predictions.bias",), False)
    yield from dense(model.next_sentence_head.dense, "cls.seq_relationship")
