"""kbert's side of serve_one.py: an export, loaded with TensorFlow, that answers.

    python -m benchmarks.speed.kbert_serve_one saved_models/NAME/1 texts.json '{}'

A step answers the next text and gives the probability of the first class as its loss;
see `benchmarks.pretraining.worker`. The third argument is not used.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # on the CPU, as the peers

import tensorflow as tf
import tensorflow_text as tf_text

from benchmarks.pretraining.worker import obey


def main() -> int:
    export, texts, _ = sys.argv[1:]
    obey(lambda: make_step(export, json.loads(Path(texts).read_text("utf-8"))))
    return 0


def make_step(export: str, texts: list[str]) -> tuple[str, Callable[[int], float]]:
    """What answers the text of a number."""
    loaded = tf.saved_model.load(export)
    answer = loaded.signatures["serving_default"]

    def step(number: int) -> float:
        found = answer(text=tf.constant([texts[number % len(texts)]]))
        return float(found["probabilities"].numpy()[0, 0])

    # The model lives as long as `loaded` does.
    step.model = loaded  # type: ignore[attr-defined]
    return f"TensorFlow {tf.__version__}, text {tf_text.__version__}", step


if __name__ == "__main__":
    sys.exit(main())
