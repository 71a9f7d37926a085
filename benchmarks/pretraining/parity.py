"""kbert's pretraining loss and its gradients beside Hugging Face's, weight by weight.

Purpose: fed the same masked batch and the same weights, `BertForPretraining` and
transformers' `BertForPreTraining` give the same MLM and NSP loss and gradients, in
float32 on the CPU without dropout: once with the exact GELU throughout, once with its
tanh form (`gelu_new`). kbert's batch is fed and its loss compiled by the code that
`kbert pretrain` trains with. The batch has padding, unused prediction slots and both
segments; all weights are random, biases and LayerNorm's too.

    python -m benchmarks.pretraining.parity --peer-python venv-peers/bin/python

A gradient's difference is divided by its largest entry. It is taken of kbert's weights:
the bias of the keys has a gradient of zero but for rounding, whatever the input, and is
compared as a part of the fused bias that it belongs to. As a control, the other form of
GELU in kbert has to differ by more than is allowed.

Takes a minute. Prints the largest differences and a JSON line; exits with 1 where one
is above 1e-4.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # on the CPU, as the peer

import keras
import numpy as np
import tensorflow as tf

from benchmarks.pretraining.batches import (
    SHAPES,
    Batch,
    Shape,
    hugging_face_config,
    make_batch,
    to_hugging_face,
)
from benchmarks.pretraining.kbert_training import compiled_model, feed
from benchmarks.pretraining.weight_pairs import pair_weights
from kbert.models import BertForPretraining
from kbert.pretrain_settings import PretrainTrainSettings
from kbert.training.feeding import Fed

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
LAYER_NORM_EPSILON = 1e-12
MAX_LENGTH = 512
LOSSES = ("loss", "masked_lm", "next_sentence")
# Hugging Face's name -> kbert's `approximate_gelu`.
GELUS = {"gelu": False, "gelu_new": True}


class Result(NamedTuple):
    """What a side says of a batch; gradients by kbert's names, `[weights]`."""

    losses: dict[str, float]
    gradients: dict[str, np.ndarray]


def main() -> int:
    arguments = parse_arguments()
    batch = make_batch(
        arguments.seed, batch_size=8, length=128, num_slots=19, padding=True
    )
    reports = {}
    for shape_name, shape in SHAPES.items():
        for activation, approximate in GELUS.items():
            model = make_model(shape, approximate, arguments.seed)
            ours = compute(model, batch)
            theirs = ask_peer(arguments.peer_python, model, shape, activation, batch)
            other = make_model(shape, not approximate, arguments.seed)
            report = compare(ours, theirs)
            control = compare(compute(other, batch), theirs)
            # The comparison would notice the wrong form.
            report["worst_relative_of_other_form"] = control["worst_relative"]
            report["kept"] &= not control["kept"]
            reports[f"{shape_name}, {activation}"] = report
            print_report(shape_name, activation, report)
    kept = all(report["kept"] for report in reports.values())
    print(json.dumps({"kept": kept, "cases": reports}))
    return 0 if kept else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", required=True, help="Python of its packages")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batch")
    arguments = parser.parse_args()
    # A link to Python stays a link: it is how a virtual environment is recognised.
    arguments.peer_python = str(Path(arguments.peer_python).absolute())
    return arguments


def make_model(shape: Shape, approximate: bool, seed: int) -> BertForPretraining:
    """kbert's model, compiled as for a training, every weight of it random."""
    model = compiled_model(
        shape,
        PretrainTrainSettings(
            learning_rate=1e-3, precision="float32", jit_compile=False
        ),
        dropout=0.0,
        max_sequence_length=MAX_LENGTH,
        approximate_gelu=approximate,
        head_approximate_gelu=approximate,
        head_layer_norm_epsilon=LAYER_NORM_EPSILON,
    )
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        mean = 1.0 if variable.name == "gamma" else 0.0
        variable.assign(rng.normal(mean, 0.05, variable.shape))
    return model


def compute(model: BertForPretraining, batch: Batch) -> Result:
    """kbert's losses and gradients, of the batch as a training feeds it."""
    (fed,) = feed([batch])
    with tf.GradientTape() as tape:
        outputs = model(fed.features, training=True)
        loss = compiled_loss(model, fed, outputs, fed.weights)
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    losses = {"loss": float(loss)}
    for name in outputs:  # each alone: the others weigh nothing
        alone = {n: w if n == name else 0 * w for n, w in fed.weights.items()}
        losses[name] = float(compiled_loss(model, fed, outputs, alone))
    return Result(
        losses,
        {
            variable.path: tf.convert_to_tensor(gradient).numpy()
            for variable, gradient in zip(variables, gradients, strict=True)
        },
    )


def compiled_loss(
    model: BertForPretraining, fed: Fed, outputs: dict[str, tf.Tensor], weights: Batch
) -> tf.Tensor:
    """The loss that a step of the compiled model takes the gradients of."""
    return model.compute_loss(
        x=fed.features,
        y=fed.targets,
        y_pred=outputs,
        sample_weight=weights,
        training=True,
    )


def ask_peer(
    python: str,
    model: BertForPretraining,
    shape: Shape,
    activation: str,
    batch: Batch,
) -> Result:
    """Hugging Face's losses and gradients, from kbert's weights."""
    pairs = list(pair_weights(model))
    config = {
        **hugging_face_config(shape, activation, dropout=0.0),
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "max_position_embeddings": MAX_LENGTH,
    }
    arrays = {"config": np.array(json.dumps(config))}
    for pair in pairs:
        for name, value in pair.split(keras.ops.convert_to_numpy(pair.ours)).items():
            arrays[f"weights/{name}"] = np.ascontiguousarray(value)
    for name, value in to_hugging_face(batch).items():
        arrays[f"batch/{name}"] = value
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(inputs, **arrays)
        subprocess.run(
            [python, "-m", "benchmarks.pretraining.peer_parity", inputs, outputs],
            cwd=ROOT,
            check=True,
        )
        with np.load(outputs) as results:
            found = dict(results)
    losses = {name: float(found.pop(name)) for name in LOSSES}
    gradients = {
        name.removeprefix("gradients/"): value for name, value in found.items()
    }
    joined = {pair.ours.path: pair.join(gradients) for pair in pairs}
    compared = {name for pair in pairs for name in pair.theirs}
    assert compared == set(gradients), compared ^ set(gradients)
    return Result(losses, joined)


def compare(ours: Result, theirs: Result) -> dict[str, Any]:
    """The largest differences, and where they are."""
    losses = {
        name: abs(loss - theirs.losses[name]) for name, loss in ours.losses.items()
    }
    absolute, relative = {}, {}
    for path, gradient in ours.gradients.items():
        difference = np.abs(gradient - theirs.gradients[path]).max()
        absolute[path] = float(difference)
        relative[path] = float(difference / np.abs(theirs.gradients[path]).max())
    worst = max(relative, key=relative.__getitem__)
    return {
        "kept": max(losses.values()) <= TOLERANCE and relative[worst] <= TOLERANCE,
        "losses": ours.losses,
        "loss_differences": losses,
        "num_gradients": len(relative),
        "worst_relative": relative[worst],
        "worst_relative_of": worst,
        "worst_absolute": max(absolute.values()),
        "worst_absolute_of": max(absolute, key=absolute.__getitem__),
    }


def print_report(shape: str, activation: str, report: dict[str, Any]) -> None:
    print(f"{shape}, {activation}: {'agrees' if report['kept'] else 'DIFFERS'}")
    for name, loss in report["losses"].items():
        print(f"  {name} {loss:.6f}, difference {report['loss_differences'][name]:.1e}")
    print(
        "  with the other form of GELU the gradients differ by "
        f"{report['worst_relative_of_other_form']:.1e}"
    )
    print(
        f"  {report['num_gradients']} gradients, largest difference relative to the "
        f"largest entry {report['worst_relative']:.1e} "
        f"({report['worst_relative_of']}), "
        f"absolute {report['worst_absolute']:.1e} ({report['worst_absolute_of']})",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
