"""Steps of batches of the widths it is told, each announced on stderr."""

import sys

import numpy as np

from kbert.tasks import TextClassification
from kbert.training.compiling import compile_to_train
from kbert.training.feeding import Fed
from kbert.training.loop import update
from kbert.training.optimizer import AdamW
from tests.tiny import build_model

TASK = TextClassification(labels=("no", "yes"))


def batch(rows: int, width: int) -> Fed:
    """A full batch of random tokens."""
    rng = np.random.default_rng([rows, width])
    mask = np.ones((rows, width), np.int32)
    features = {
        "token_ids": rng.integers(5, 15, (rows, width)).astype(np.int32),
        "segment_ids": np.zeros_like(mask),
        "padding_mask": mask,
    }
    targets = rng.integers(0, 2, rows).astype(np.int32)
    weights = np.ones(rows, np.float32)
    return Fed(features, targets, weights, rows, mask.size, np.arange(rows))


def main(widths: list[int]) -> None:
    model = build_model(TASK, num_layers=2, dropout=0.1)
    compile_to_train(
        model,
        AdamW(1e-3, global_clipnorm=1.0),
        loss=TASK.loss(),
        precision="float32",
        jit_compile=False,
        varying_shapes=True,
    )
    for number, width in enumerate(widths):
        print(f"step of width {width}", file=sys.stderr, flush=True)
        update(model, [batch(4, width)], number)


if __name__ == "__main__":
    main([int(width) for width in sys.argv[1:]])
