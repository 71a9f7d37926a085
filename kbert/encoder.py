"""kbert's BERT from outside: what of it trains, and its weights in keras-hub's models.

A run keeps keras-hub's models; kbert computes with its own.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import keras_hub
import numpy as np

from kbert.errors import ConfigError
from kbert.models import BertEncoder, BertForPretraining, BertForTextClassification


def freeze(model: BertEncoder, *, embeddings: bool, num_layers: int) -> None:
    """Excludes the embeddings and the first layers from training.

    Args:
        embeddings: token, position and segment tables and their LayerNorm.
        num_layers: encoder layers, counted from the embeddings up.

    Raises:
        ConfigError: the encoder has fewer layers.
    """
    if num_layers > len(model.encoder_layers):
        raise ConfigError(
            f"train.freeze_layers must be at most {len(model.encoder_layers)}, the "
            f"layers of this preset. Received: {num_layers}."
        )
    for layer in model.encoder_layers[:num_layers]:
        layer.trainable = False
    if embeddings:
        model.embeddings.trainable = False


def layer_rates(model: BertEncoder, *, layer_decay: float) -> dict[str, float]:
    """The factor on the learning rate of each variable, by its path.

    The head and the pooler have 1, the last encoder layer `layer_decay`, and so
    on down to the embeddings (Sun et al. 2019, arXiv 1905.05583, section 5.3.4).
    """
    rates = {variable.path: 1.0 for variable in model.variables}
    blocks: list[keras.layers.Layer] = [model.embeddings, *model.encoder_layers]
    for height, layer in enumerate(reversed(blocks), start=1):
        for variable in layer.variables:
            rates[variable.path] = layer_decay**height
    return rates


_SIZES = (
    "vocabulary_size",
    "num_layers",
    "num_heads",
    "hidden_dim",
    "intermediate_dim",
    "max_sequence_length",
    "num_segments",
)


class _Pair(NamedTuple):
    """One weight of kbert's, and the one or several of keras-hub that it holds.

    Several lie one after the other on its last axis; keras-hub's have axes of heads.
    """

    ours: keras.Variable
    theirs: tuple[keras.Variable, ...]

    def copy_to_ours(self) -> None:
        """Puts the values of keras-hub's into kbert's."""
        rows = self.ours.shape[:-1]
        values = [keras.ops.convert_to_numpy(theirs) for theirs in self.theirs]
        parts = [value.reshape((*rows, -1)) for value in values]
        self.ours.assign(np.concatenate(parts, axis=-1))

    def copy_to_theirs(self) -> None:
        """Puts the values of kbert's into keras-hub's."""
        value = keras.ops.convert_to_numpy(self.ours)
        parts = np.split(value, len(self.theirs), axis=-1)
        for variable, part in zip(self.theirs, parts, strict=True):
            variable.assign(part.reshape(variable.shape))


def build_backbone(model: BertEncoder) -> keras_hub.models.BertBackbone:
    """keras-hub's model of the same sizes in float32, with weights of its own."""
    config = model.get_config()
    sizes = {name: config[name] for name in (*_SIZES, "dropout")}
    return keras_hub.models.BertBackbone(**sizes, dtype="float32", name="bert_backbone")


def copy_to_keras_hub(
    model: BertForPretraining, masked_lm: keras_hub.models.BertMaskedLM
) -> None:
    """Gives keras-hub's model the weights of kbert's, head and all.

    A sinusoidal position table becomes the values of the learned one.

    Raises:
        ValueError: the models differ in a size.
    """
    _copy_to_theirs(_encoder_pairs(model, masked_lm.backbone))
    _copy_to_theirs(_masked_lm_pairs(model, masked_lm.masked_lm_head))


def copy_classifier_to_keras_hub(
    model: BertForTextClassification, classifier: keras_hub.models.BertTextClassifier
) -> None:
    """Gives keras-hub's model the weights of kbert's, head and all.

    Raises:
        ValueError: the models differ in a size.
    """
    _copy_to_theirs(_classifier_pairs(model, classifier))


def copy_classifier_from_keras_hub(
    classifier: keras_hub.models.BertTextClassifier, model: BertForTextClassification
) -> None:
    """Gives kbert's model the weights of keras-hub's, head and all.

    Raises:
        ValueError: the models differ in a size.
    """
    _copy_to_ours(_classifier_pairs(model, classifier))


def copy_from_keras_hub(
    backbone: keras_hub.models.BertBackbone, model: BertEncoder
) -> None:
    """Gives kbert's encoder the weights of keras-hub's; a head stays as it is.

    Raises:
        ValueError: the models differ in a size.
    """
    _copy_to_ours(_encoder_pairs(model, backbone))


def copy_head_from_keras_hub(
    masked_lm_head: keras.layers.Layer, model: BertForPretraining
) -> None:
    """Gives kbert's masked-LM head the weights of keras-hub's, of the same sizes."""
    _copy_to_ours(_masked_lm_pairs(model, masked_lm_head))


def _copy_to_ours(pairs: Iterable[_Pair]) -> None:
    for pair in pairs:
        pair.copy_to_ours()


def _copy_to_theirs(pairs: Iterable[_Pair]) -> None:
    for pair in pairs:
        pair.copy_to_theirs()


def _require_equal_sizes(
    model: BertEncoder, backbone: keras_hub.models.BertBackbone
) -> None:
    """Weights of another number of heads would fit and compute something else."""
    ours = model.get_config()
    different = [
        f"{name} {ours[name]} and {getattr(backbone, name)}"
        for name in _SIZES
        if ours[name] != getattr(backbone, name)
    ]
    if different:
        raise ValueError(
            "Weights go from one model to another of the same sizes. Received: "
            f"{', '.join(different)} (kbert's and keras-hub's)."
        )


def _encoder_pairs(
    model: BertEncoder, backbone: keras_hub.models.BertBackbone
) -> Iterator[_Pair]:
    _require_equal_sizes(model, backbone)
    ours = model.embeddings
    yield _Pair(ours.token_embedding.embeddings, (backbone.token_embedding.embeddings,))
    yield _Pair(
        ours.segment_embedding.embeddings, (backbone.segment_embedding.embeddings,)
    )
    yield _Pair(ours.positions, (backbone.position_embedding.position_embeddings,))
    yield from _norm(ours.norm, backbone.embeddings_layer_norm)
    layers = zip(model.encoder_layers, backbone.transformer_layers, strict=True)
    for layer, twin in layers:
        attention = twin._self_attention_layer
        yield from _dense(
            layer.attention.query_key_value,
            attention.query_dense,
            attention.key_dense,
            attention.value_dense,
        )
        yield from _dense(layer.attention.attention_output, attention.output_dense)
        yield from _norm(layer.attention_norm, twin._self_attention_layer_norm)
        yield from _dense(layer.intermediate, twin._feedforward_intermediate_dense)
        yield from _dense(layer.output_dense, twin._feedforward_output_dense)
        yield from _norm(layer.output_norm, twin._feedforward_layer_norm)
    yield from _dense(model.pooler, backbone.pooled_dense)


def _classifier_pairs(
    model: BertForTextClassification, classifier: keras_hub.models.BertTextClassifier
) -> Iterator[_Pair]:
    yield from _encoder_pairs(model, classifier.backbone)
    yield from _dense(model.logits, classifier.output_dense)


def _masked_lm_pairs(
    model: BertForPretraining, head: keras.layers.Layer
) -> Iterator[_Pair]:
    yield from _dense(model.masked_lm_head.dense, head._intermediate_dense)
    yield from _norm(model.masked_lm_head.norm, head._intermediate_layer_norm)
    yield _Pair(model.masked_lm_head.bias, (head._bias,))


def _dense(layer: keras.layers.Dense, *twins: keras.layers.Layer) -> Iterator[_Pair]:
    yield _Pair(layer.kernel, tuple(twin.kernel for twin in twins))
    yield _Pair(layer.bias, tuple(twin.bias for twin in twins))


def _norm(
    layer: keras.layers.LayerNormalization, twin: keras.layers.LayerNormalization
) -> Iterator[_Pair]:
    yield _Pair(layer.gamma, (twin.gamma,))
    yield _Pair(layer.beta, (twin.beta,))
