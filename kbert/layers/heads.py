"""What BERT is pretrained with: masked words, and the next sentence.

Axes: B batch, T tokens, P prediction slots, D hidden, V vocabulary.
"""

from typing import Any

import keras
from keras import ops

from kbert.layers.fused import fused_gelu
from kbert.layers.initializers import bert_initializer
from kbert.layers.tables import restore_token_embedding


@keras.saving.register_keras_serializable(package="kbert")
class MaskedLMHead(keras.layers.Layer):
    """Which token stood at a masked position (Devlin et al. 2019, section 3.1).

    A dense layer, GELU and LayerNorm, then a product with the token embeddings, which
    it shares with the encoder, and a bias of its own. Only the masked positions are
    computed: the product with the vocabulary is most of a small BERT's work.

    Args:
        token_embedding: the encoder's table of `[V, D]`.
        approximate_gelu: GELU's tanh form; by default the exact one, as in keras-hub's
            MaskedLMHead.
        layer_norm_epsilon: what is added to the variance; as in keras-hub's.

    Input: `[B, T, D]` and positions `[B, P]` int, or the masked positions alone,
    `[B, P, D]`. Output: logits `[B, P, V]` float32.
    """

    def __init__(
        self,
        token_embedding: keras.layers.Embedding,
        *,
        approximate_gelu: bool = False,
        layer_norm_epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.token_embedding = token_embedding
        self.approximate_gelu = approximate_gelu
        self.layer_norm_epsilon = layer_norm_epsilon

    def build(self, inputs_shape: Any, mask_positions_shape: Any = None) -> None:
        """Makes the dense layer, the norm and the bias for inputs `[B, T, D]`."""
        hidden_dim = inputs_shape[-1]
        if not self.token_embedding.built:
            self.token_embedding.build()
        self.dense = keras.layers.Dense(
            hidden_dim,
            kernel_initializer=bert_initializer(),
            dtype=self.dtype_policy,
            name="dense",
        )
        self.dense.build((None, hidden_dim))
        self.norm = keras.layers.LayerNormalization(
            epsilon=self.layer_norm_epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build((None, hidden_dim))
        self.bias = self.add_weight(
            name="bias",
            shape=(self.token_embedding.input_dim,),
            initializer="zeros",
            autocast=False,
        )
        super().build(inputs_shape)

    def call(self, inputs, mask_positions=None):  # type: ignore[no-untyped-def]
        """See the class."""
        masked = inputs
        if mask_positions is not None:
            positions = ops.cast(mask_positions, "int32")[..., None]  # (B, P, 1)
            masked = ops.take_along_axis(inputs, positions, axis=1)  # (B, P, D)
        x = self.dense(ops.reshape(masked, (-1, ops.shape(masked)[-1])))  # (B P, D)
        x = self.norm(fused_gelu(x, approximate=self.approximate_gelu))
        embeddings = ops.cast(self.token_embedding.embeddings, self.compute_dtype)
        logits = ops.matmul(x, ops.transpose(embeddings))  # (B P, V)
        # Half precision would make many logits equal, and lose small differences.
        logits = ops.cast(logits, "float32") + self.bias
        batch, slots, _ = ops.shape(masked)
        return ops.reshape(logits, (batch, slots, self.token_embedding.input_dim))

    def compute_output_shape(self, inputs_shape, mask_positions_shape=None):  # type: ignore[no-untyped-def]
        """`[B, P, V]`."""
        batch_and_slots = mask_positions_shape or inputs_shape[:-1]
        return (*batch_and_slots, self.token_embedding.input_dim)

    def compute_output_spec(self, inputs, mask_positions=None):  # type: ignore[no-untyped-def]
        """Float32, whatever the policy."""
        positions_shape = None if mask_positions is None else mask_positions.shape
        shape = self.compute_output_shape(inputs.shape, positions_shape)
        return keras.KerasTensor(shape, dtype="float32")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MaskedLMHead":
        return cls(**restore_token_embedding(config))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "token_embedding": self.token_embedding,
            "approximate_gelu": self.approximate_gelu,
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }


@keras.saving.register_keras_serializable(package="kbert")
class NextSentenceHead(keras.layers.Layer):
    """Whether the second segment follows the first (Devlin et al. 2019, section 3.1).

    Input: the pooled [CLS], `[B, D]`. Output: logits `[B, 2]` float32; the first is of
    "follows", the second of "comes from elsewhere".
    """

    def build(self, input_shape: Any) -> None:
        """Makes the dense layer for inputs `[B, D]`."""
        self.dense = keras.layers.Dense(
            2, kernel_initializer=bert_initializer(), dtype="float32", name="dense"
        )
        self.dense.build(input_shape)
        super().build(input_shape)

    def call(self, inputs):  # type: ignore[no-untyped-def]
        """See the class."""
        return self.dense(inputs)

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """`[B, 2]`."""
        return (*input_shape[:-1], 2)

    def compute_output_spec(self, inputs):  # type: ignore[no-untyped-def]
        """Float32, whatever the policy."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), "float32")
