"""Reviews in JSON lines, and what all sides of finetune.py train with.

The standard library alone, so that it runs in the peer's environment too.
"""

import json
from pathlib import Path

LABELS = ("neg", "pos")
BATCH_SIZE, MAX_LENGTH, LEARNING_RATE, SEED = 16, 512, 1e-4, 42
WARMUP_RATIO, WEIGHT_DECAY = 0.1, 0.01


def read_reviews(path: Path) -> tuple[list[str], list[int]]:
    """The texts of a file of `Materials.reviews`, and their classes' numbers."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["text"] for row in rows], [LABELS.index(row["label"]) for row in rows]
