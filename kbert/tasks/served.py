"""A trained model behind its tokenizer, in graph ops: what signatures are made of."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
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

    def outputs(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """The head's outputs [B, ...] in float32, whatever the model computes in."""
        # A server's JSON knows no half precision.
        return tf.cast(self.model(features, training=False), tf.float32)

    def text_outputs(
        self, text: tf.Tensor, text_pair: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The head's outputs [B, ...] of [B] texts."""
        return self.outputs(self.encode(text, text_pair))
