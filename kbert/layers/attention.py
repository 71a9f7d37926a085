"""Multi-head self-attention (Vaswani et al. 2017, section 3.2).

Axes: B batch, T tokens, Q tokens that ask, N heads, H head size, D hidden.
"""

import math
from typing import Any

import keras
from keras import ops

from kbert.layers.dropout import HashDropout
from kbert.layers.initializers import bert_initializer

# Added to the score of a padding key: far below any score, and finite in bfloat16.
_MASKED = -1e9


@keras.saving.register_keras_serializable(package="kbert")
class MultiHeadAttention(keras.layers.Layer):
    """Scaled dot-product self-attention of several heads.

    Query, key and value come from one product of `[D, 3 D]`, whose columns are the
    query's, the key's and the value's, each by head. The softmax is computed in
    float32, whatever the policy. Where the backend has a fused attention for what is
    asked (JAX on a GPU, without attention dropout or scores), that is used.

    Args:
        num_heads: N; the hidden size has to be a multiple of it.
        dropout: rate at which attention probabilities are left out in training.

    Input: `[B, T, D]`. Output: `[B, T, D]`, and the attention probabilities
    `[B, N, T, T]`, before dropout, where `return_attention_scores` is true. With
    `queries`, Q takes the place of T, but for the last axis of the probabilities.

    Raises:
        ValueError: `num_heads` is below 1, or, on building, D is no multiple of it.
    """

    def __init__(self, num_heads: int, *, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_heads < 1:
            raise ValueError(f"`num_heads` must be at least 1. Received: {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the two products' weights for inputs `[B, T, D]`."""
        hidden_dim = input_shape[-1]
        if hidden_dim is None or hidden_dim % self.num_heads:
            raise ValueError(
                "The hidden size must be a multiple of `num_heads`. "
                f"Received: hidden size {hidden_dim}, num_heads={self.num_heads}"
            )
        self.head_dim = hidden_dim // self.num_heads
        self.query_key_value = self._dense(3 * hidden_dim, "query_key_value")
        self.attention_output = self._dense(hidden_dim, "attention_output")
        self.attention_dropout = HashDropout(
            self.dropout, dtype=self.dtype_policy, name="attention_dropout"
        )
        for layer in (self.query_key_value, self.attention_output):
            layer.build((None, hidden_dim))
        super().build(input_shape)

    def call(  # type: ignore[no-untyped-def]
        self,
        inputs,
        padding_mask=None,
        queries=None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ):
        """Attends from every token to every token that is not padding.

        Args:
            inputs: `[B, T, D]`.
            padding_mask: `[B, T]`, 0 or false at padding; None: there is none.
            queries: `[B, Q, D]`, the inputs of the tokens that attend, where not all
                are wanted; the output is of these alone.
            return_attention_scores: whether the probabilities are returned too.
        """
        asking = inputs if queries is None else queries
        if self._can_fuse(return_attention_scores, training):
            mask = None if padding_mask is None else _fused_mask(padding_mask, asking)
            query, key, value = self._project(inputs, queries)
            outputs = ops.dot_product_attention(query, key, value, mask=mask)
            return self._merge(outputs, asking)
        if self._can_fuse_on_tensorflow(queries, return_attention_scores, training):
            return self._attend_fused(inputs, padding_mask)
        query, key, value = self._project_by_head(inputs, queries)
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # (B, N, Q, T)
        scores = scores * (1 / math.sqrt(self.head_dim))
        scores = ops.cast(scores, "float32")
        if padding_mask is not None:
            scores = scores + _padding_bias(padding_mask)
        probabilities = ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype)
        # Few tokens need no functions of their own shapes, which are slow to compile.
        left = self.attention_dropout(
            probabilities, training=training, fuse=queries is None
        )
        outputs = ops.matmul(left, value)  # (B, N, Q, H)
        merged = self._merge(ops.transpose(outputs, (0, 2, 1, 3)), asking)
        return (merged, probabilities) if return_attention_scores else merged

    def compute_output_shape(self, inputs_shape, queries_shape=None):  # type: ignore[no-untyped-def]
        """That of the tokens that ask; without the scores."""
        return queries_shape or inputs_shape

    def compute_output_spec(  # type: ignore[no-untyped-def]
        self,
        inputs,
        padding_mask=None,
        queries=None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ):
        """See the class; Keras asks `compute_output_shape` for shapes only."""
        asking = inputs if queries is None else queries
        outputs = keras.KerasTensor(asking.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs
        batch, length, _ = inputs.shape
        shape = (batch, self.num_heads, asking.shape[1], length)
        return outputs, keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_heads": self.num_heads,
            "dropout": self.dropout,
        }

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            kernel_initializer=bert_initializer(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _project(self, inputs, queries):  # type: ignore[no-untyped-def]
        """Query `[B, Q, N, H]`, key and value `[B, T, N, H]`."""
        if queries is None:
            return ops.unstack(self._product(inputs, 0, 3), axis=2)
        (query,) = ops.unstack(self._product(queries, 0, 1), axis=2)
        return query, *ops.unstack(self._product(inputs, 1, 3), axis=2)

    def _project_by_head(self, inputs, queries):  # type: ignore[no-untyped-def]
        """Query `[B, N, Q, H]`, key and value `[B, N, T, H]`."""
        if queries is None:
            # In one go: a transposition of each takes twice as long.
            projected = self._product(inputs, 0, 3)
            return ops.unstack(ops.transpose(projected, (2, 0, 3, 1, 4)), axis=0)
        parts = self._project(inputs, queries)
        return [ops.transpose(part, (0, 2, 1, 3)) for part in parts]

    def _product(self, inputs, first: int, end: int):  # type: ignore[no-untyped-def]
        """Of query, key and value those from `first` to before `end`, by head.

        `[B, T, D]` -> `[B, T, end - first, N, H]`.
        """
        batch, length, hidden_dim = ops.shape(inputs)
        # As a matrix: a product with a third axis is slower in its gradient.
        rows = ops.reshape(inputs, (-1, hidden_dim))
        if (first, end) == (0, 3):
            projected = self.query_key_value(rows)
        else:
            dense = self.query_key_value
            columns = slice(first * hidden_dim, end * hidden_dim)
            projected = ops.matmul(rows, dense.kernel[:, columns]) + dense.bias[columns]
        heads = (batch, length, end - first, self.num_heads, self.head_dim)
        return ops.reshape(projected, heads)

    def _merge(self, outputs, asking):  # type: ignore[no-untyped-def]
        """The heads `[B, Q, N, H]` through the last product: `[B, Q, D]`."""
        hidden_dim = self.num_heads * self.head_dim
        merged = self.attention_output(ops.reshape(outputs, (-1, hidden_dim)))
        return ops.reshape(merged, ops.shape(asking))

    def _attend_fused(self, inputs, padding_mask):  # type: ignore[no-untyped-def]
        """As `call` does in training, with few passes over memory."""
        from kbert.layers.fused_attention import attend
        from kbert.layers.fused_products import add_bias, product

        dense = self.query_key_value
        batch, length, _ = ops.shape(inputs)
        hidden_dim = self.num_heads * self.head_dim
        projected = product(ops.reshape(inputs, (-1, hidden_dim)), dense.kernel)
        if padding_mask is None:
            padding_mask = ops.ones((1, length), "bool")
        outputs = attend(
            ops.reshape(projected, (batch, length, 3 * hidden_dim)),
            dense.bias,
            _padding_bias(padding_mask),
            self.attention_dropout.next_seed(),
            num_heads=self.num_heads,
            dropout=self.dropout,
        )
        last = self.attention_output
        merged = product(ops.reshape(outputs, (-1, hidden_dim)), last.kernel)
        return ops.reshape(add_bias(merged, last.bias), ops.shape(inputs))

    def _can_fuse_on_tensorflow(  # type: ignore[no-untyped-def]
        self, queries, return_attention_scores: bool, training: bool | None
    ) -> bool:
        if keras.config.backend() != "tensorflow" or not training:
            return False
        return queries is None and not return_attention_scores

    def _can_fuse(self, return_attention_scores: bool, training: bool | None) -> bool:
        drops = bool(training) and self.dropout > 0
        wants_plain = return_attention_scores or drops
        return keras.config.backend() == "jax" and not wants_plain


def _fused_mask(padding_mask, asking):  # type: ignore[no-untyped-def]
    """`[B, T]` -> `[B, 1, Q, T]` bool: cuDNN's attention wants the queries' axis."""
    batch, length = ops.shape(padding_mask)
    keys = ops.cast(padding_mask, "bool")[:, None, None, :]
    return ops.broadcast_to(keys, (batch, 1, ops.shape(asking)[1], length))


def _padding_bias(padding_mask):  # type: ignore[no-untyped-def]
    """`[B, T]` -> `[B, 1, 1, T]` float32: 0 for a token, far below 0 for padding."""
    is_token = ops.cast(ops.cast(padding_mask, "bool"), "float32")
    # Multiplied first: TensorFlow may join scaling and masking to the product of query
    # and key, but not where it cannot tell the two by their operations.
    return ((1.0 - is_token) * _MASKED)[:, None, None, :]
