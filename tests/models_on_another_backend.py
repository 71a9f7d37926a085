"""What `test_models.py` compares with TensorFlow; runs on JAX and on PyTorch."""

import json
import sys

import keras
import numpy as np
from keras import ops

from kbert.layers.dropout import HashDropout
from kbert.models import MASKED_LM, NEXT_SENTENCE, BertForPretraining
from kbert.training.optimizer import AdamW


def main(inputs_file: str, outputs_file: str) -> None:
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
    gradients_of = {"jax": jax_gradients, "torch": torch_gradients}
    gradients = gradients_of[keras.config.backend()](model, features)
    for number, gradient in enumerate(gradients):
        outputs[f"gradient {number}"] = gradient
    x = model.embeddings(features["token_ids"], features["segment_ids"])
    attention = model.encoder_layers[0].attention
    outputs["plain"], outputs["scores"] = attention(
        x, features["padding_mask"], return_attention_scores=True
    )
    if keras.config.backend() == "jax":
        outputs |= only_on_jax(model, features, x)
    outputs["share_dropped"] = share_dropped()
    outputs["losses"] = losses_of_training(model, features)  # changes the weights
    found = {name: ops.convert_to_numpy(y) for name, y in outputs.items()}
    np.savez(outputs_file, **found)


def losses_of_training(model, features):
    """Those of the first updates."""
    rows = np.arange(len(features["token_ids"]))
    targets = {
        MASKED_LM: features["token_ids"][rows[:, None], features["mask_positions"]],
        NEXT_SENTENCE: rows % 2,
    }
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = {MASKED_LM: loss, NEXT_SENTENCE: loss}
    jit_compile = keras.config.backend() == "jax"  # a step is minutes there without
    model.compile(AdamW(0.02, decay=0.1), losses, jit_compile=jit_compile)
    return [float(model.train_on_batch(features, targets)[0]) for _ in range(4)]


def jax_gradients(model, features):
    """As `tests.layers.checks.gradients`: each output has a factor of its own."""
    import jax

    def loss(trainable):
        others = [v.value for v in model.non_trainable_variables]
        return weighted_sum(model.stateless_call(trainable, others, features)[0])

    return jax.grad(loss)([v.value for v in model.trainable_variables])


def torch_gradients(model, features):
    weighted_sum(model(features)).backward()
    return [variable.value.grad for variable in model.trainable_variables]


def weighted_sum(outputs):
    flat = [ops.ravel(outputs[name]) for name in (MASKED_LM, NEXT_SENTENCE)]
    factors = [ops.cos(ops.arange(len(y), dtype="float32")) for y in flat]
    return sum(ops.sum(y * f) for y, f in zip(flat, factors, strict=True))


def only_on_jax(model, features, x):
    """A compiled call; the attention's fused branch, and the mask it was given."""
    import jax

    compiled = jax.jit(lambda x: model(x))(features)
    shapes = []
    fused_attention = jax.nn.dot_product_attention

    def spy(*arguments, mask, **options):
        shapes.append(mask.shape)
        return fused_attention(*arguments, mask=mask, **options)

    jax.nn.dot_product_attention = spy
    fused = model.encoder_layers[0].attention(x, features["padding_mask"])
    [mask_shape] = shapes
    outputs = {f"jit {name}": value for name, value in compiled.items()}
    return outputs | {"fused": fused, "mask_shape": mask_shape}


def share_dropped():
    layer = HashDropout(0.1)
    ones = np.ones((100, 101), "float32")
    calls = [layer(ones, training=True) for _ in range(50)]
    return np.mean(np.stack([ops.convert_to_numpy(call) for call in calls]) == 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
