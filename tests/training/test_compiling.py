"""The compiled step: traced and compiled once, whatever the batches' shapes."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kbert.tasks import TextClassification
from kbert.training.compiling import compile_to_train
from kbert.training.loop import update
from kbert.training.optimizer import AdamW
from tests.tiny import build_model
from tests.training.steps_of_widths import batch

TASK = TextClassification(labels=("no", "yes"))


def trained(*, varying_shapes: bool):
    keras.utils.set_random_seed(1)
    model = build_model(TASK)
    compile_to_train(
        model,
        AdamW(1e-2, global_clipnorm=0.5),
        loss=TASK.loss(),
        precision="float32",
        jit_compile=False,
        varying_shapes=varying_shapes,
    )
    batches = [batch(4, 8), batch(4, 16), batch(2, 24), batch(4, 8)]
    losses = [update(model, [fed], number).loss for number, fed in enumerate(batches)]
    return losses, model.get_weights()


def test_one_trace_for_all_shapes_trains_the_same(monkeypatch):
    expected_losses, expected = trained(varying_shapes=False)
    traces = []
    train_step = keras.Model.train_step

    def counted(model, data):
        traces.append(data)
        return train_step(model, data)

    monkeypatch.setattr(keras.Model, "train_step", counted)
    losses, found = trained(varying_shapes=True)
    assert len(traces) == 1
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_xla_compiles_once_for_every_shape():
    """TensorFlow's log has a line a compilation; the process marks each step in it."""
    environment = os.environ | {
        "TF_CPP_MIN_LOG_LEVEL": "0",
        "TF_CPP_VMODULE": "device_compilation_profiler=1",
    }
    log = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.training.steps_of_widths",
            *"8 16 24 16 8".split(),
        ],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    ).stderr
    _, *steps = log.split("step of width ")
    compilations = [step.count(" times, compile time: ") for step in steps]
    first, second, third, *repeated = compilations
    assert repeated == [0, 0]
    # Six functions of attention; forward and backward: the dropouts of embeddings and
    # of the head, GELU, both sums' norm. More would be seconds for every width.
    assert second == third <= first <= 14
