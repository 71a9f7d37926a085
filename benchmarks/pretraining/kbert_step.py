"""kbert's side of step.py: a BertForPretraining that trains on command.

    python -m benchmarks.pretraining.kbert_step mini '{"precision": "float32"}'

Lines of stdin are numbers of steps; see worker.py.
"""

# ruff: noqa: E402 - what comes first decides what Keras imports

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # on the CPU, as the peer

from kbert_cli.heap import share_one_heap
from kbert_cli.messages import import_tensorflow_quietly

share_one_heap()
import_tensorflow_quietly()  # as `kbert pretrain` does

import keras
import tensorflow as tf

from benchmarks.pretraining.batches import (
    DROPOUT,
    LEARNING_RATE,
    SHAPES,
    TOTAL_STEPS,
    WARMUP_STEPS,
    WEIGHT_DECAY,
    make_batches,
)
from benchmarks.pretraining.kbert_training import compiled_model, feed
from benchmarks.pretraining.worker import obey
from kbert.pretrain_settings import PretrainTrainSettings
from kbert.training.loop import update


def main() -> int:
    shape_name, settings = sys.argv[1:]
    obey(lambda: make_step(shape_name, **json.loads(settings)))
    return 0


def make_step(shape_name: str, **settings: Any) -> tuple[str, Callable[[int], float]]:
    """The training step of a shape: forward, backward, clipping, AdamW.

    Args:
        settings: of `[train]`, beside those that both sides share.
    """
    keras.utils.set_random_seed(0)
    train = PretrainTrainSettings(
        learning_rate=LEARNING_RATE,
        warmup_steps=WARMUP_STEPS,
        max_steps=TOTAL_STEPS,
        weight_decay=WEIGHT_DECAY,
        clip_norm=1.0,
        jit_compile=False,
        **settings,
    )
    model = compiled_model(SHAPES[shape_name], train, dropout=DROPOUT)
    batches = feed(make_batches())

    def step(number: int) -> float:
        return update(model, [batches[number % len(batches)]], number + 1).loss

    return f"TensorFlow {tf.__version__}, Keras {keras.__version__}", step


if __name__ == "__main__":
    sys.exit(main())
