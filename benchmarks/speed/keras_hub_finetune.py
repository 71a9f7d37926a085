"""keras-hub's side of finetune.py: its classifier and preprocessor, as a user has them.

    python -m benchmarks.speed.keras_hub_finetune PRESET TRAIN TEST FOLDER \\
        '{"precision": "float32"}'

All texts are padded to the same length. Prints a JSON line: seconds of the training and
of the evaluation, and the accuracy.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_hub
import numpy as np

from benchmarks.speed.reviews import (
    BATCH_SIZE,
    LABELS,
    LEARNING_RATE,
    MAX_LENGTH,
    SEED,
    WEIGHT_DECAY,
    read_reviews,
)


def main() -> int:
    preset, train_file, test_file, folder, settings = sys.argv[1:]
    keras.utils.set_random_seed(SEED)
    keras.config.set_dtype_policy(json.loads(settings)["precision"])
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(
        preset, sequence_length=MAX_LENGTH
    )
    classifier = keras_hub.models.BertTextClassifier.from_preset(
        preset, num_classes=len(LABELS), preprocessor=preprocessor
    )
    classifier.compile(
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    texts, labels = read_reviews(Path(train_file))
    start = time.perf_counter()
    classifier.fit(
        np.array(texts, object), np.array(labels), batch_size=BATCH_SIZE, verbose=0
    )
    trained = time.perf_counter()
    texts, labels = read_reviews(Path(test_file))
    figures = classifier.evaluate(
        np.array(texts, object),
        np.array(labels),
        batch_size=BATCH_SIZE,
        verbose=0,
        return_dict=True,
    )
    evaluated = time.perf_counter()
    classifier.save_to_preset(folder)
    result = {
        "training": trained - start,
        "evaluation": evaluated - trained,
        "accuracy": float(figures["accuracy"]),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
