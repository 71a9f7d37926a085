"""kbert's side of gpu.py, on JAX; TensorFlow is not needed.

    KERAS_BACKEND=jax python -m benchmarks.speed.gpu_kbert training '{}'

A step trains, or predicts, a batch; its loss is that of the update, or the first logit.
See `benchmarks.pretraining.worker`.
"""

import json
import os
import sys
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "jax"
# The peer's process needs memory too.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

import jax
import keras
import numpy as np

from benchmarks.pretraining.batches import VOCABULARY_SIZE
from benchmarks.pretraining.worker import obey
from benchmarks.speed.classifiers import (
    CLIP_NORM,
    CPU_CASE,
    GPU_CASE,
    LEARNING_RATE,
    NUM_CLASSES,
    WEIGHT_DECAY,
    Case,
    make_batches,
)
from kbert.models import BertForTextClassification
from kbert.training.compiling import compile_to_train
from kbert.training.feeding import Fed
from kbert.training.loop import update
from kbert.training.optimizer import AdamW

FEATURES = ("token_ids", "segment_ids", "padding_mask")


def main() -> int:
    work, settings = sys.argv[1:]
    device = json.loads(settings).get("device", "cuda")
    jax.config.update("jax_platforms", device)
    obey(lambda: make_step(work, CPU_CASE if device == "cpu" else GPU_CASE))
    return 0


def make_step(work: str, case: Case) -> tuple[str, Callable[[int], float]]:
    """The step of a work: `training` or `prediction`."""
    keras.utils.set_random_seed(0)
    precision = "mixed_bfloat16"
    model = BertForTextClassification(
        VOCABULARY_SIZE,
        **case.shape._asdict(),
        num_classes=NUM_CLASSES,
        dropout=0.0,
        head_dropout=0.0,
        dtype=precision,
    )
    compile_to_train(
        model,
        AdamW(LEARNING_RATE, decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        precision=precision,
        jit_compile=True,
    )
    fed = []
    for batch in make_batches(case):
        features = {name: batch[name] for name in FEATURES}
        classes = batch["next_sentence_labels"]
        numbers, weights = np.arange(len(classes)), np.ones(len(classes), np.float32)
        fed.append(Fed(features, classes, weights, 0, 0, numbers))

    def train(number: int) -> float:
        return update(model, [fed[number % len(fed)]], number + 1).loss

    def predict(number: int) -> float:
        return float(model.predict_on_batch(fed[number % len(fed)].features)[0, 0])

    description = f"JAX {jax.__version__} on {jax.devices()[0].device_kind}"
    step = train if work == "training" else predict
    return f"{description}, Keras {keras.__version__}", step


if __name__ == "__main__":
    sys.exit(main())
