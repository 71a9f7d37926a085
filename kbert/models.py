"""kbert's own BERT: layers put together, no files, no settings.

Axes: B batch, T tokens, Q tokens that are wanted, D hidden, P prediction slots,
V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kbert.layers import (
    BertEmbeddings,
    EncoderLayer,
    MaskedLMHead,
    NextSentenceHead,
)
from kbert.layers.dropout import HashDropout
from kbert.layers.embeddings import PositionEmbedding
from kbert.layers.initializers import bert_initializer

MASKED_LM, NEXT_SENTENCE = "masked_lm", "next_sentence"


@keras.saving.register_keras_serializable(package="kbert")
class BertEncoder(keras.Model):
    """A BERT (Devlin et al. 2019, section 3) without a head.

    Args:
        vocabulary_size: V.
        num_layers: encoder layers.
        num_heads: attention heads of each.
        hidden_dim: D, the encoder's width.
        intermediate_dim: the width of the feed-forward nets.
        dropout: rate in training.
        max_sequence_length: positions.
        num_segments: kinds of segments.
        position_embedding: `learned` or `sinusoidal`.
        approximate_gelu: GELU's tanh form, as keras-hub computes it.

    Input: a dict of `token_ids`, `segment_ids`, `padding_mask`, each `[B, T]` int.
    Output: a dict of `sequence_output` `[B, T, D]` and `pooled_output` `[B, D]`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        *,
        dropout: float = 0.1,
        max_sequence_length: int = 512,
        num_segments: int = 2,
        position_embedding: PositionEmbedding = "learned",
        approximate_gelu: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self._arguments: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "hidden_dim": hidden_dim,
            "intermediate_dim": intermediate_dim,
            "dropout": dropout,
            "max_sequence_length": max_sequence_length,
            "num_segments": num_segments,
            "position_embedding": position_embedding,
            "approximate_gelu": approximate_gelu,
        }
        self._make_layers()
        self.built = True

    def _make_layers(self) -> None:
        arguments, policy = self._arguments, self.dtype_policy
        token_embedding = keras.layers.Embedding(
            arguments["vocabulary_size"],
            self.hidden_dim,
            embeddings_initializer=bert_initializer(),
            dtype=policy,
            name="token_embedding",
        )
        self.embeddings = BertEmbeddings(
            token_embedding,
            max_sequence_length=arguments["max_sequence_length"],
            num_segments=arguments["num_segments"],
            dropout=arguments["dropout"],
            position_embedding=arguments["position_embedding"],
            dtype=policy,
            name="embeddings",
        )
        self.encoder_layers = [
            EncoderLayer(
                arguments["num_heads"],
                arguments["intermediate_dim"],
                dropout=arguments["dropout"],
                approximate_gelu=arguments["approximate_gelu"],
                dtype=policy,
                name=f"encoder_layer_{number}",
            )
            for number in range(arguments["num_layers"])
        ]
        self.pooler = keras.layers.Dense(
            self.hidden_dim,
            activation="tanh",
            kernel_initializer=bert_initializer(),
            dtype=policy,
            name="pooler",
        )
        self.embeddings.build()
        for layer in self.encoder_layers:
            layer.build((None, None, self.hidden_dim))
        self.pooler.build((None, self.hidden_dim))

    def call(self, inputs, training: bool | None = None):  # type: ignore[no-untyped-def]
        """See the class."""
        x = self.encode(inputs, training=training)
        return {"sequence_output": x, "pooled_output": self.pool(x)}

    def encode(  # type: ignore[no-untyped-def]
        self,
        inputs,
        wanted: Callable[[Any], Any] | None = None,
        training: bool | None = None,
    ):
        """The tokens' vectors `[B, T, D]` for `call`'s inputs.

        Args:
            wanted: picks of `[B, T, D]` the tokens `[B, Q, D]` whose vectors are
                wanted; None: all. The last layer computes these alone: of the 12 D^2
                weights of a layer, 10 D^2 are then used for them and not for all.
        """
        x = self.embeddings(
            inputs["token_ids"], inputs["segment_ids"], training=training
        )
        mask = inputs["padding_mask"]
        *layers, last = self.encoder_layers
        for layer in layers:
            x = layer(x, padding_mask=mask, training=training)
        queries = None if wanted is None else wanted(x)
        return last(x, padding_mask=mask, queries=queries, training=training)

    def pool(self, x):  # type: ignore[no-untyped-def]
        """The texts' vectors `[B, D]`: [CLS] of `encode`'s, through one more layer."""
        return self.pooler(x[:, 0])

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype_policy, **self._arguments}


@keras.saving.register_keras_serializable(package="kbert")
class BertForTextClassification(BertEncoder):
    """A BERT that says which class a text is of.

    Args:
        num_classes: C.
        head_dropout: rate of the pooled vector's dropout in training.
        *arguments, **kwargs: see `BertEncoder`.

    Input: as of `BertEncoder`. Output: logits `[B, C]` float32, whatever the policy:
    rounded to half precision, logits tie and their ranks are lost.
    """

    def __init__(
        self, *arguments: Any, num_classes: int, head_dropout: float, **kwargs: Any
    ) -> None:
        super().__init__(*arguments, **kwargs)
        self._arguments |= {"num_classes": num_classes, "head_dropout": head_dropout}
        self.head_dropout = HashDropout(
            head_dropout, dtype=self.dtype_policy, name="head_dropout"
        )
        self.logits = keras.layers.Dense(
            num_classes,
            kernel_initializer=bert_initializer(),
            dtype="float32",
            name="logits",
        )
        self.logits.build((None, self.hidden_dim))

    def call(self, inputs, training: bool | None = None):  # type: ignore[no-untyped-def]
        """See the class."""
        first = self.encode(inputs, lambda x: x[:, :1], training=training)
        pooled = self.pool(first)
        return self.logits(self.head_dropout(pooled, training=training))


@keras.saving.register_keras_serializable(package="kbert")
class BertForPretraining(BertEncoder):
    """A BERT with its two pretraining heads (Devlin et al. 2019, section 3.1).

    Args:
        next_sentence: whether there is a next-sentence head; without one the pooler
            has no gradient and stays as it is.
        head_approximate_gelu: GELU's tanh form in the masked-LM head.
        head_layer_norm_epsilon: of the masked-LM head.
        *arguments, **kwargs: see `BertEncoder`.

    Input: that of `BertEncoder`, and `mask_positions` `[B, P]` int. Output: a dict of
    `masked_lm`, logits `[B, P, V]` float32, and with a next-sentence head
    `next_sentence`, logits `[B, 2]` float32.
    """

    def __init__(
        self,
        *arguments: Any,
        next_sentence: bool = True,
        head_approximate_gelu: bool = False,
        head_layer_norm_epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*arguments, **kwargs)
        self._arguments |= {
            "next_sentence": next_sentence,
            "head_approximate_gelu": head_approximate_gelu,
            "head_layer_norm_epsilon": head_layer_norm_epsilon,
        }
        self.pooler.trainable = next_sentence
        self.next_sentence_head = (
            NextSentenceHead(dtype=self.dtype_policy, name=NEXT_SENTENCE)
            if next_sentence
            else None
        )
        self.masked_lm_head = MaskedLMHead(
            self.embeddings.token_embedding,
            approximate_gelu=head_approximate_gelu,
            layer_norm_epsilon=head_layer_norm_epsilon,
            dtype=self.dtype_policy,
            name=MASKED_LM,
        )
        self.masked_lm_head.build((None, None, self.hidden_dim))
        if self.next_sentence_head is not None:
            self.next_sentence_head.build((None, self.hidden_dim))

    def call(self, inputs, training: bool | None = None):  # type: ignore[no-untyped-def]
        """See the class."""
        positions = ops.cast(inputs["mask_positions"], "int32")  # (B, P)
        first = ops.zeros_like(positions[:, :1])  # [CLS]
        wanted = ops.concatenate([first, positions], axis=1)[..., None]
        x = self.encode(
            inputs, lambda x: ops.take_along_axis(x, wanted, axis=1), training=training
        )
        outputs = {MASKED_LM: self.masked_lm_head(x[:, 1:])}
        if self.next_sentence_head is not None:
            outputs[NEXT_SENTENCE] = self.next_sentence_head(self.pool(x))
        return outputs
