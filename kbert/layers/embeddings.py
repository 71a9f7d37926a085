"""What BERT's encoder starts from: token, position and segment, added up.

Axes: B batch, T tokens, D hidden, L positions.
"""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kbert.layers.add_norm import fused_norm_dropout
from kbert.layers.dropout import HashDropout
from kbert.layers.initializers import bert_initializer
from kbert.layers.tables import restore_token_embedding

PositionEmbedding = Literal["learned", "sinusoidal"]

SINUSOIDAL_SCALE = 0.05
"""By what the sinusoidal table is multiplied, which Vaswani et al. add as it is.

They multiply the tokens' embeddings by the root of the width instead (section 3.4),
which brings both to about one. BERT's start at a deviation of 0.02, and beside a table
of ones a model hardly sees them; only the ratio counts, as the sum is normalized.
"""


@keras.saving.register_keras_serializable(package="kbert")
class BertEmbeddings(keras.layers.Layer):
    """The sum of three embeddings, normalized, with dropout (Devlin et al. 2019).

    Args:
        token_embedding: the table `[V, D]`, which a masked-LM head shares.
        max_sequence_length: L, the most tokens of a row.
        num_segments: kinds of segments; 2 in every BERT.
        dropout: rate in training.
        position_embedding: `learned`, or `sinusoidal` for the fixed table of Vaswani
            et al. 2017, scaled by `SINUSOIDAL_SCALE`.
        layer_norm_epsilon: what is added to the variance.

    Input: token ids and segment ids, each `[B, T]`, T at most L. Output: `[B, T, D]`.
    """

    def __init__(
        self,
        token_embedding: keras.layers.Embedding,
        *,
        max_sequence_length: int = 512,
        num_segments: int = 2,
        dropout: float = 0.1,
        position_embedding: PositionEmbedding = "learned",
        layer_norm_epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if position_embedding not in ("learned", "sinusoidal"):
            raise ValueError(
                '`position_embedding` must be "learned" or "sinusoidal". '
                f"Received: {position_embedding!r}"
            )
        self.token_embedding = token_embedding
        self.hidden_dim = token_embedding.output_dim
        self.max_sequence_length = max_sequence_length
        self.num_segments = num_segments
        self.dropout = dropout
        self.position_embedding = position_embedding
        self.layer_norm_epsilon = layer_norm_epsilon

    def build(self, input_shape: Any = None) -> None:
        """Makes the other two tables and the norm."""
        if not self.token_embedding.built:
            self.token_embedding.build()
        self.segment_embedding = keras.layers.Embedding(
            self.num_segments,
            self.hidden_dim,
            embeddings_initializer=bert_initializer(),
            dtype=self.dtype_policy,
            name="segment_embedding",
        )
        self.segment_embedding.build()
        is_learned = self.position_embedding == "learned"
        self.positions = self.add_weight(
            name="positions",
            shape=(self.max_sequence_length, self.hidden_dim),
            initializer=bert_initializer() if is_learned else _sinusoidal_initializer,
            trainable=is_learned,
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=self.layer_norm_epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build((None, None, self.hidden_dim))
        self.sum_dropout = HashDropout(
            self.dropout, dtype=self.dtype_policy, name="sum_dropout"
        )
        super().build(input_shape)

    def call(self, token_ids, segment_ids, training: bool | None = None):  # type: ignore[no-untyped-def]
        """See the class.

        Raises:
            ValueError: a row has more tokens than there are positions.
        """
        length = ops.shape(token_ids)[1]
        if isinstance(length, int) and length > self.max_sequence_length:
            raise ValueError(
                f"A row has at most `max_sequence_length` tokens. Received: {length} "
                f"tokens, max_sequence_length={self.max_sequence_length}"
            )
        positions = ops.cast(self.positions, self.compute_dtype)[:length]  # (T, D)
        x = self.token_embedding(token_ids) + self.segment_embedding(segment_ids)
        if not training:
            return self.norm(x + positions)
        gamma, beta = (
            ops.convert_to_tensor(w, "float32")
            for w in (self.norm.gamma, self.norm.beta)
        )
        return fused_norm_dropout(
            x + positions,
            gamma,
            beta,
            self.sum_dropout.next_seed(),
            rate=self.dropout,
            epsilon=self.layer_norm_epsilon,
        )

    def compute_output_shape(self, token_ids_shape, segment_ids_shape=None):  # type: ignore[no-untyped-def]
        """`[B, T, D]`."""
        return (*token_ids_shape, self.hidden_dim)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BertEmbeddings":
        return cls(**restore_token_embedding(config))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "token_embedding": self.token_embedding,
            "max_sequence_length": self.max_sequence_length,
            "num_segments": self.num_segments,
            "dropout": self.dropout,
            "position_embedding": self.position_embedding,
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }


def sinusoidal_positions(num_positions: int, hidden_dim: int) -> np.ndarray:
    """The table of Vaswani et al. 2017, section 3.5: `[L, D]` float32.

    Even columns hold sines, odd ones cosines; their wavelengths rise from 2 pi to
    10,000 times 2 pi.
    """
    column = np.arange(hidden_dim)
    rates = 10_000.0 ** (-2.0 * (column // 2) / hidden_dim)  # (D,)
    angles = np.arange(num_positions)[:, None] * rates[None, :]  # (L, D)
    table = np.where(column % 2 == 0, np.sin(angles), np.cos(angles))
    return table.astype(np.float32)


def _sinusoidal_initializer(shape: tuple[int, int], dtype: Any = None) -> Any:
    table = SINUSOIDAL_SCALE * sinusoidal_positions(*shape)
    return ops.convert_to_tensor(table, dtype=dtype)
