"""What kbert knows of the inside of keras-hub's BertBackbone."""

import keras
import keras_hub

from kbert.errors import ConfigError


def freeze(
    backbone: keras_hub.models.BertBackbone, *, embeddings: bool, num_layers: int
) -> None:
    """Excludes the embeddings and the first layers from training.

    Args:
        embeddings: token, position and segment tables and their LayerNorm.
        num_layers: encoder layers, counted from the embeddings up.

    Raises:
        ConfigError: the encoder has fewer layers.
    """
    if num_layers > backbone.num_layers:
        raise ConfigError(
            f"train.freeze_layers must be at most {backbone.num_layers}, the layers "
            f"of this preset. Received: {num_layers}."
        )
    frozen = backbone.transformer_layers[:num_layers]
    if embeddings:
        frozen = _embedding_layers(backbone) + frozen
    for layer in frozen:
        layer.trainable = False


def layer_rates(model: keras.Model, *, layer_decay: float) -> dict[str, float]:
    """The factor on the learning rate of each variable, by its path.

    The head and the pooler have 1, the last encoder layer `layer_decay`, and so
    on down to the embeddings (Sun et al. 2019, arXiv 1905.05583, section 5.3.4).
    """
    backbone = model.backbone
    rates = {variable.path: 1.0 for variable in model.variables}
    blocks = [_embedding_layers(backbone)]
    blocks += [[layer] for layer in backbone.transformer_layers]
    for height, block in enumerate(reversed(blocks), start=1):
        for layer in block:
            for variable in layer.variables:
                rates[variable.path] = layer_decay**height
    return rates


def _embedding_layers(
    backbone: keras_hub.models.BertBackbone,
) -> list[keras.layers.Layer]:
    return [
        backbone.token_embedding,
        backbone.position_embedding,
        backbone.segment_embedding,
        backbone.embeddings_layer_norm,
    ]
