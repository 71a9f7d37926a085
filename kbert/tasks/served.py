"""A trained model behind its tokenizer, in graph ops: what signatures are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kbert.data.encoded import Encoder
from kbert.tokenization import pad

# Texts are padded to the longest of a batch, rounded up to a multiple of this.
LENGTH_MULTIPLE = 16

FEATURES = ("token_ids", "segment_ids", "padding_mask")


@dataclass(frozen=True)
class Signature:
    """One way to call an exported model.

    Attributes:
        function: takes one tensor an input, by position, and returns named tensors
            whose first dimension is the batch.
        inputs: shape, type and name of each input.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: tuple[tf.TensorSpec, ...]


@dataclass(frozen=True)
class ServedModel:
    """Texts in, the model's outputs out; all of it becomes part of the export.

    Attributes:
        encoder: the run's tokenizer, and how it cuts.
        model: takes `FEATURES`, gives the outputs of the task's head.
        is_paired: whether an example is two texts.
    """

    encoder: Encoder
    model: keras.Model
    is_paired: bool

    @property
    def text_inputs(self) -> tuple[tf.TensorSpec, ...]:
        """`text` and, for pairs, `text_pair`: [B] strings."""
        names = ("text", "text_pair") if self.is_paired else ("text",)
        return tuple(tf.TensorSpec([None], tf.string, name=name) for name in names)

    @property
    def feature_inputs(self) -> tuple[tf.TensorSpec, ...]:
        """`token_ids`, `segment_ids` and `padding_mask`: [B, T] int32."""
        return tuple(
            tf.TensorSpec([None, None], tf.int32, name=name) for name in FEATURES
        )

    def encode(
        self, text: tf.Tensor, text_pair: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Tokenizes, cuts, packs and pads [B] texts: `FEATURES`, each [B, T] int32."""
        return pad(
            self.encoder.pack(text, text_pair),
            pad_id=self.encoder.tokenizer.pad_id,
            max_length=self.encoder.max_length,
            multiple_of=LENGTH_MULTIPLE,
        )

    def examples_of(
        self, signature: Signature, columns: Mapping[str, Sequence[str]]
    ) -> dict[str, np.ndarray]:
        """The inputs with which a signature is asked about texts.

        Args:
            signature: takes texts, examples or features.
            columns: the texts by input name, each [B].
        """
        names = tuple(spec.name for spec in signature.inputs)
        texts = {
            name: np.array([text.encode() for text in column], object)
            for name, column in columns.items()
        }
        if names == FEATURES:
            features = self.encode(*(tf.constant(column) for column in texts.values()))
            return {name: features[name].numpy() for name in names}
        if set(names) == texts.keys():
            return texts
        (name,) = names
        examples = [
            _serialized_example(dict(zip(texts, row, strict=True)))
            for row in zip(*texts.values(), strict=True)
        ]
        return {name: np.array(examples, object)}

    def outputs(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """The head's outputs [B, ...] in float32, whatever the model computes in."""
        # A server's JSON knows no half precision.
        return tf.cast(self.model(features, training=False), tf.float32)

    def text_outputs(
        self, text: tf.Tensor, text_pair: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The head's outputs [B, ...] of [B] texts."""
        return self.outputs(self.encode(text, text_pair))


def _serialized_example(texts: Mapping[str, bytes]) -> bytes:
    example = tf.train.Example()
    for name, text in texts.items():
        example.features.feature[name].bytes_list.value.append(text)
    return bytes(example.SerializeToString(deterministic=True))
