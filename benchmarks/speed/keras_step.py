"""kbert's and keras-hub's sides of step.py: text classifiers that train on command.

    python -m benchmarks.speed.keras_step 6x384_32x128 full '{"side": "kbert"}'

The second argument is `full` or `quick`. Lines of stdin are numbers of steps; see
`benchmarks.pretraining.worker`. A third side, `matmul`, measures what kbert's products
can reach: a step of it gives `matmul_rates` of its precision as its loss.
"""

# ruff: noqa: E402 - what comes first decides what Keras imports

import json
import os
import sys
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # on the CPU, as the peer

from kbert_cli.heap import share_one_heap
from kbert_cli.messages import import_tensorflow_quietly

share_one_heap()
import_tensorflow_quietly()  # as a command of kbert does; keras-hub gains by it too

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from benchmarks.pretraining.batches import VOCABULARY_SIZE, Batch, Shape
from benchmarks.pretraining.worker import obey
from benchmarks.speed.classifiers import (
    CASES,
    CLIP_NORM,
    DROPOUT,
    LEARNING_RATE,
    NUM_CLASSES,
    QUICK,
    WEIGHT_DECAY,
    Case,
    make_batches,
)
from kbert.models import BertForTextClassification
from kbert.preset_files import Architecture
from kbert.tasks import TextClassification
from kbert.training.compiling import compile_to_train
from kbert.training.feeding import Fed
from kbert.training.loop import update
from kbert.training.matmul_rate import matmul_rates
from kbert.training.optimizer import AdamW

FEATURES = ("token_ids", "segment_ids", "padding_mask")

Step = Callable[[int], float]


def main() -> int:
    name, size, settings = sys.argv[1:]
    case = (QUICK if size == "quick" else CASES)[name]
    obey(lambda: make_step(case, **json.loads(settings)))
    return 0


def make_step(
    case: Case, *, side: str, precision: str, jit_compile: bool | str = False
) -> tuple[str, Step]:
    """The training step of a side: forward, backward, clipping, AdamW.

    Args:
        precision: a Keras dtype policy.
        jit_compile: as Keras takes it; keras-hub's side only.
    """
    keras.utils.set_random_seed(0)
    description = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    if side == "matmul":
        dtype = "bfloat16" if precision == "mixed_bfloat16" else precision
        return description, lambda number: matmul_rates([dtype])[dtype]
    batches = make_batches(case)
    if side == "kbert":
        model = kbert_model(case.shape, precision=precision, dropout=DROPOUT)
        return description, kbert_step(model, batches, precision)
    plain = keras_hub_model(case.shape, precision=precision, dropout=DROPOUT)
    description += f", keras-hub {keras_hub.__version__}"
    return description, keras_hub_step(plain, batches, jit_compile)


def kbert_model(
    shape: Shape, *, precision: str, dropout: float
) -> BertForTextClassification:
    """A new model as `kbert finetune` builds it."""
    task = TextClassification(labels=tuple(map(str, range(NUM_CLASSES))))
    return task.build_model(
        architecture(shape, dropout), head_dropout=dropout, dtype=precision
    )


def kbert_step(
    model: BertForTextClassification, batches: list[Batch], precision: str
) -> Step:
    """One update as `kbert finetune` makes it."""
    optimizer = AdamW(LEARNING_RATE, decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM)
    task = TextClassification(labels=tuple(map(str, range(NUM_CLASSES))))
    compile_to_train(
        model, optimizer, loss=task.loss(), precision=precision, jit_compile=False
    )
    fed = [feed(batch) for batch in batches]
    return lambda number: update(model, [fed[number % len(fed)]], number + 1).loss


def keras_hub_model(
    shape: Shape, *, precision: str, dropout: float
) -> keras_hub.models.BertTextClassifier:
    """A new model of keras-hub's own layers, without its preprocessor."""
    arguments = vars(architecture(shape, dropout))
    backbone = keras_hub.models.BertBackbone(**arguments, dtype=precision)
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=NUM_CLASSES, preprocessor=None, dropout=dropout
    )


def keras_hub_step(
    model: keras_hub.models.BertTextClassifier,
    batches: list[Batch],
    jit_compile: bool | str,
) -> Step:
    """One update as Keras makes it."""
    optimizer = keras.optimizers.AdamW(
        LEARNING_RATE, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=jit_compile)
    fed = [(features(batch), targets(batch)) for batch in batches]

    def step(number: int) -> float:
        logs = model.train_on_batch(*fed[number % len(fed)], return_dict=True)
        return float(logs["loss"])

    return step


def architecture(shape: Shape, dropout: float) -> Architecture:
    """All sizes of a shape."""
    return Architecture(
        **shape._asdict(),
        vocabulary_size=VOCABULARY_SIZE,
        max_sequence_length=512,
        num_segments=2,
        dropout=dropout,
    )


def feed(batch: Batch) -> Fed:
    """The batch as a training feeds it; its counts are not used."""
    classes = targets(batch)
    weights = np.ones(len(classes), np.float32)
    return Fed(features(batch), classes, weights, 0, 0, np.arange(len(classes)))


def features(batch: Batch) -> Batch:
    """What the models take."""
    return {name: batch[name] for name in FEATURES}


def targets(batch: Batch) -> np.ndarray:
    """The classes, `[B]` int32."""
    return batch["next_sentence_labels"]


if __name__ == "__main__":
    sys.exit(main())
