"""kbert's own BERT, as it is pretrained: layers put together, no files, no settings.

Axes: B batch, T tokens, P prediction slots, V vocabulary.
"""

from typing import Any

import keras

from kbert.layers import (
    BertEmbeddings,
    EncoderLayer,
    MaskedLMHead,
    NextSentenceHead,
)
from kbert.layers.embeddings import PositionEmbedding
from kbert.layers.initializers import bert_initializer

MASKED_LM, NEXT_SENTENCE = "masked_lm", "next_sentence"


@keras.saving.register_keras_serializable(package="kbert")
class BertForPretraining(keras.Model):
    """A BERT with its two pretraining heads (Devlin et al. 2019, section 3.1).

    Args:
        vocabulary_size: V.
        num_layers: encoder layers.
        num_heads: attention heads of each.
        hidden_dim: the encoder's width.
        intermediate_dim: the width of the feed-forward nets.
        dropout: rate in training.
        max_sequence_length: positions.
        num_segments: kinds of segments.
        position_embedding: `learned` or `sinusoidal`.
        next_sentence: whether there is a next-sentence head; without one the pooler
            has no gradient and stays as it is.
        approximate_gelu: GELU's tanh form in the encoder, as keras-hub computes it.
        head_approximate_gelu: the same in the masked-LM head.
        head_layer_norm_epsilon: of the masked-LM head.

    Input: a dict of `token_ids`, `segment_ids`, `padding_mask`, each `[B, T]` int, and
    `mask_positions` `[B, P]` int. Output: a dict of `masked_lm`, logits `[B, P, V]`
    float32, and with a next-sentence head `next_sentence`, logits `[B, 2]` float32.
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
        next_sentence: bool = True,
        approximate_gelu: bool = True,
        head_approximate_gelu: bool = False,
        head_layer_norm_epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
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
            "next_sentence": next_sentence,
            "approximate_gelu": approximate_gelu,
            "head_approximate_gelu": head_approximate_gelu,
            "head_layer_norm_epsilon": head_layer_norm_epsilon,
        }
        self._make_encoder()
        self._make_heads()
        self.built = True

    def _make_encoder(self) -> None:
        arguments, policy = self._arguments, self.dtype_policy
        token_embedding = keras.layers.Embedding(
            arguments["vocabulary_size"],
            arguments["hidden_dim"],
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
            arguments["hidden_dim"],
            activation="tanh",
            kernel_initializer=bert_initializer(),
            dtype=policy,
            trainable=arguments["next_sentence"],
            name="pooler",
        )
        self.embeddings.build()
        for layer in self.encoder_layers:
            layer.build((None, None, arguments["hidden_dim"]))
        self.pooler.build((None, arguments["hidden_dim"]))

    def _make_heads(self) -> None:
        arguments, policy = self._arguments, self.dtype_policy
        self.next_sentence_head = (
            NextSentenceHead(dtype=policy, name=NEXT_SENTENCE)
            if arguments["next_sentence"]
            else None
        )
        self.masked_lm_head = MaskedLMHead(
            self.embeddings.token_embedding,
            approximate_gelu=arguments["head_approximate_gelu"],
            layer_norm_epsilon=arguments["head_layer_norm_epsilon"],
            dtype=policy,
            name=MASKED_LM,
        )
        self.masked_lm_head.build((None, None, arguments["hidden_dim"]))
        if self.next_sentence_head is not None:
            self.next_sentence_head.build((None, arguments["hidden_dim"]))

    def call(self, inputs, training: bool | None = None):  # type: ignore[no-untyped-def]
        """See the class."""
        x = self.encode(inputs, training=training)
        outputs = {MASKED_LM: self.masked_lm_head(x, inputs["mask_positions"])}
        if self.next_sentence_head is not None:
            pooled = self.pooler(x[:, 0])
            outputs[NEXT_SENTENCE] = self.next_sentence_head(pooled)
        return outputs

    def encode(self, inputs, training: bool | None = None):  # type: ignore[no-untyped-def]
        """The encoder's output `[B, T, D]` for `call`'s inputs."""
        x = self.embeddings(
            inputs["token_ids"], inputs["segment_ids"], training=training
        )
        for layer in self.encoder_layers:
            x = layer(x, padding_mask=inputs["padding_mask"], training=training)
        return x

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype_policy, **self._arguments}
