"""kbert's side of step.py: a BertForPretraining that trains on command.

    python -m benchmarks.pretraining.kbert_step mini '{"precision": "float32"}'

Lines of stdin are numbers of steps; see worker.py.
"""

import json
import os
import sys
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # on the CPU, as the peer

import keras
import numpy as np
import tensorflow as tf

from benchmarks.pretraining.batches import (
    BATCH_SIZE,
    DROPOUT,
    LEARNING_RATE,
    SHAPES,
    TOTAL_STEPS,
    VOCABULARY_SIZE,
    WARMUP_STEPS,
    WEIGHT_DECAY,
    make_batches,
)
from benchmarks.pretraining.worker import obey
from kbert.models import MASKED_LM, NEXT_SENTENCE, BertForPretraining
from kbert.training.optimizer import AdamW, WarmupSchedule

INPUTS = ("token_ids", "segment_ids", "padding_mask", "mask_positions")


def main() -> int:
    shape_name, settings = sys.argv[1:]
    obey(lambda: make_step(shape_name, **json.loads(settings)))
    return 0


def make_step(shape_name: str, *, precision: str) -> tuple[str, Callable[[int], float]]:
    """The training step of a shape: forward, backward, clipping, AdamW."""
    keras.utils.set_random_seed(0)
    shape = SHAPES[shape_name]
    model = BertForPretraining(
        VOCABULARY_SIZE,
        *(shape.num_layers, shape.num_heads, shape.hidden_dim, shape.intermediate_dim),
        dropout=DROPOUT,
        dtype=precision,
    )
    schedule = WarmupSchedule(
        LEARNING_RATE,
        warmup_steps=WARMUP_STEPS,
        total_steps=TOTAL_STEPS,
        shape="linear",
    )
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(
        AdamW(schedule, decay=WEIGHT_DECAY, global_clipnorm=1.0),
        loss={MASKED_LM: cross_entropy, NEXT_SENTENCE: cross_entropy},
        jit_compile=False,
    )
    batches = make_batches()
    row_weights = np.ones(BATCH_SIZE, np.float32)

    def step(number: int) -> float:
        batch = batches[number % len(batches)]
        targets = {
            MASKED_LM: batch["mask_ids"],
            NEXT_SENTENCE: batch["next_sentence_labels"],
        }
        # Keras reports the mean over the steps since a reset, not the step's own.
        model.reset_metrics()
        logs = model.train_on_batch(
            {name: batch[name] for name in INPUTS},
            targets,
            sample_weight={
                MASKED_LM: batch["mask_weights"],
                NEXT_SENTENCE: row_weights,
            },
            return_dict=True,
        )
        return float(logs["loss"])

    return f"TensorFlow {tf.__version__}, Keras {keras.__version__}", step


if __name__ == "__main__":
    sys.exit(main())
