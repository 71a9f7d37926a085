"""What `test_models.py` compares with TensorFlow; runs where KERAS_BACKEND is jax."""

import json
import sys

import jax
import jax.numpy as jnp
import keras
import numpy as np

from kbert.layers.dropout import ByteDropout
from kbert.models import MASKED_LM, NEXT_SENTENCE, BertForPretraining


def main(inputs_file: str, outputs_file: str) -> None:
    assert keras.config.backend() == "jax"
    with np.load(inputs_file) as inputs:
        arrays = dict(inputs)
    sizes = json.loads(str(arrays.pop("sizes")))
    weights = [value for name, value in arrays.items() if name.startswith("weight ")]
    features = {
        name: value for name, value in arrays.items() if not name.startswith("weight ")
    }
    model = BertForPretraining(**sizes, dropout=0.0)
    model.set_weights(weights)
    outputs = dict(model(features))
    compiled = jax.jit(lambda x: model(x))(features)
    outputs |= {f"jit {name}": value for name, value in compiled.items()}
    for number, gradient in enumerate(gradients(model, features)):
        outputs[f"gradient {number}"] = gradient
    outputs |= attention_of_both_kinds(model, features)
    outputs["share_dropped"] = share_dropped()
    np.savez(outputs_file, **{name: np.array(y) for name, y in outputs.items()})


def gradients(model, features):
    """As `tests.layers.checks.gradients`: each output has a factor of its own."""

    def loss(trainable):
        others = [v.value for v in model.non_trainable_variables]
        outputs, _ = model.stateless_call(trainable, others, features)
        flat = [outputs[name].ravel() for name in (MASKED_LM, NEXT_SENTENCE)]
        return sum(jnp.sum(y * jnp.cos(jnp.arange(y.size))) for y in flat)

    return jax.grad(loss)([v.value for v in model.trainable_variables])


def attention_of_both_kinds(model, features):
    """The fused branch, the mask that it was given, and the branch with scores."""
    layer = model.encoder_layers[0].attention
    x = model.embeddings(features["token_ids"], features["segment_ids"])
    shapes = []
    fused_attention = jax.nn.dot_product_attention

    def spy(*arguments, mask, **options):
        shapes.append(mask.shape)
        return fused_attention(*arguments, mask=mask, **options)

    jax.nn.dot_product_attention = spy
    fused = layer(x, features["padding_mask"])
    [mask_shape] = shapes
    plain, scores = layer(x, features["padding_mask"], return_attention_scores=True)
    return {"fused": fused, "plain": plain, "scores": scores, "mask_shape": mask_shape}


def share_dropped():
    layer = ByteDropout(0.1)
    calls = [layer(jnp.ones((100, 101)), training=True) for _ in range(50)]
    return np.mean([np.mean(np.array(y) == 0) for y in calls])


if __name__ == "__main__":
    main(*sys.argv[1:])
