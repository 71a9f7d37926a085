"""Logits and loss of kbert and keras-hub from the same weights, for step.py.

    python -m benchmarks.speed.keras_check 6x384_32x128 full FOLDER

Random weights, biases and LayerNorm's too; a padded batch; no dropout; float32. Writes
the weights to FOLDER for peer_check.py, and prints a JSON line: what the first training
step of each side gives as loss, and the logits before it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors.numpy import save_file

from benchmarks.serving.convert_to_hugging_face import convert_config, convert_weights
from benchmarks.speed.classifiers import CASES, QUICK, make_batches
from benchmarks.speed.keras_step import (
    architecture,
    features,
    kbert_model,
    kbert_step,
    keras_hub_model,
    keras_hub_step,
)
from kbert.encoder import copy_classifier_from_keras_hub

_DEVIATION = 0.05


def main() -> int:
    name, size, folder = sys.argv[1:]
    case = (QUICK if size == "quick" else CASES)[name]
    plain = keras_hub_model(case.shape, precision="float32", dropout=0.0)
    rng = np.random.default_rng(0)
    for variable in plain.trainable_variables:
        # LayerNorm's factors are about 1, all else about 0.
        center = float(variable.name == "gamma")
        variable.assign(rng.normal(center, _DEVIATION, variable.shape))
    ours = kbert_model(case.shape, precision="float32", dropout=0.0)
    copy_classifier_from_keras_hub(plain, ours)
    sizes = architecture(case.shape, 0.0)
    save_file(
        convert_weights(plain, sizes),
        Path(folder, "model.safetensors"),
        metadata={"format": "pt"},
    )
    config = convert_config(sizes, ("0", "1"))
    Path(folder, "config.json").write_text(json.dumps(config))
    batches = make_batches(case, padding=True)[:1]
    results = {
        "kbert": results_of(ours, batches, kbert_step(ours, batches, "float32")),
        "keras-hub": results_of(plain, batches, keras_hub_step(plain, batches, False)),
    }
    print(json.dumps(results))
    return 0


def results_of(model: keras.Model, batches: list[Any], step: Any) -> dict[str, Any]:
    """The logits of the first batch, then the loss of a step on it."""
    logits = model.predict_on_batch(features(batches[0]))
    return {"logits": logits.tolist(), "loss": step(0)}


if __name__ == "__main__":
    sys.exit(main())
