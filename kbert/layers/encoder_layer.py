"""One layer of BERT's encoder (Devlin et al. 2019; Vaswani et al. 2017, section 3.1).

Axes: B batch, T tokens, Q tokens whose outputs are wanted, D hidden, F feed-forward.
"""

from typing import Any

import keras
from keras import ops

from kbert.layers.add_norm import AddNorm
from kbert.layers.attention import MultiHeadAttention
from kbert.layers.fused import gelu
from kbert.layers.initializers import bert_initializer


@keras.saving.register_keras_serializable(package="kbert")
class EncoderLayer(keras.layers.Layer):
    """Self-attention and a feed-forward net, each added to its input and normalized.

    The norm comes after the sum, as in BERT ("post-norm").

    Args:
        num_heads: attention heads.
        intermediate_dim: F, the width of the feed-forward net.
        dropout: rate, of attention probabilities and of both sums' new parts.
        approximate_gelu: GELU's tanh form, which keras-hub's BertBackbone computes;
            false: the exact one, as in Hugging Face's.
        layer_norm_epsilon: what is added to the variance.

    Input: `[B, T, D]`, and `padding_mask` `[B, T]`, 0 or false at padding. Output:
    `[B, T, D]`. With `queries`, the inputs `[B, Q, D]` of some tokens, it is of these
    alone, `[B, Q, D]`, and no more than they need is computed.
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        *,
        dropout: float = 0.1,
        approximate_gelu: bool = True,
        layer_norm_epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.intermediate_dim = intermediate_dim
        self.dropout = dropout
        self.approximate_gelu = approximate_gelu
        self.layer_norm_epsilon = layer_norm_epsilon
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the sublayers for inputs `[B, T, D]`."""
        hidden_dim = input_shape[-1]
        self.attention = MultiHeadAttention(
            self.num_heads,
            dropout=self.dropout,
            dtype=self.dtype_policy,
            name="attention",
        )
        self.attention.build(input_shape)
        self.attention_norm = self._norm("attention_norm", input_shape)
        self.intermediate = self._dense(
            "intermediate", hidden_dim, self.intermediate_dim
        )
        self.output_dense = self._dense("output", self.intermediate_dim, hidden_dim)
        self.output_norm = self._norm("output_norm", input_shape)
        super().build(input_shape)

    def call(  # type: ignore[no-untyped-def]
        self, inputs, padding_mask=None, queries=None, training: bool | None = None
    ):
        """See the class."""
        attended = self.attention(
            inputs, padding_mask=padding_mask, queries=queries, training=training
        )
        # Few tokens need no functions of their own shapes, which are slow to compile.
        fuse = queries is None
        asking = inputs if queries is None else queries
        x = self.attention_norm(asking, attended, training=training, fuse=fuse)
        rows = ops.reshape(x, (-1, ops.shape(x)[-1]))  # (B Q, D)
        if training and fuse and keras.config.backend() == "tensorflow":
            outputs = self._feed_forward_fused(rows)
        else:
            inner = self.intermediate(rows)
            outputs = self.output_dense(self._activate(inner, training))
        outputs = ops.reshape(outputs, ops.shape(x))
        return self.output_norm(x, outputs, training=training, fuse=fuse)

    def _feed_forward_fused(self, rows):  # type: ignore[no-untyped-def]
        """As both layers and GELU do, with few passes over memory."""
        from kbert.layers.fused_products import add_bias, gelu_product, product

        first, second = self.intermediate, self.output_dense
        inner = product(rows, first.kernel)
        outputs = gelu_product(
            inner, first.bias, second.kernel, approximate=self.approximate_gelu
        )
        return add_bias(outputs, second.bias)

    def _activate(self, x, training: bool | None):  # type: ignore[no-untyped-def]
        if training:
            return gelu(x, approximate=self.approximate_gelu)
        # What is served compiles nothing, and TensorFlow joins it to the product: but
        # only where its ops come after the product's in the order of their names.
        with keras.name_scope(f"{self.intermediate.name}_gelu"):
            return keras.activations.gelu(x, approximate=self.approximate_gelu)

    def compute_output_shape(self, inputs_shape, queries_shape=None):  # type: ignore[no-untyped-def]
        """That of the tokens whose outputs are wanted."""
        return queries_shape or inputs_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "approximate_gelu": self.approximate_gelu,
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }

    def _dense(
        self, name: str, inputs: int | None, units: int | None
    ) -> keras.layers.Dense:
        dense = keras.layers.Dense(
            units,
            kernel_initializer=bert_initializer(),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build((None, inputs))
        return dense

    def _norm(self, name: str, input_shape: tuple[int | None, ...]) -> AddNorm:
        norm = AddNorm(
            dropout=self.dropout,
            epsilon=self.layer_norm_epsilon,
            dtype=self.dtype_policy,
            name=name,
        )
        norm.build(input_shape)
        return norm
