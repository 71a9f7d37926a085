"""Logits and loss of Hugging Face's classifier from the weights of keras_check.py.

    python -m benchmarks.speed.peer_check 6x384_32x128 full FOLDER

Prints a JSON line of both, for each implementation of attention.
"""

import json
import sys
from typing import Any

import torch
import transformers

from benchmarks.speed.classifiers import CASES, QUICK, make_batches
from benchmarks.speed.peer_step import to_torch


def main() -> int:
    name, size, folder = sys.argv[1:]
    case = (QUICK if size == "quick" else CASES)[name]
    batch = to_torch(make_batches(case, padding=True)[0])
    results = {
        f"Hugging Face, {attention}": results_of(folder, attention, batch)
        for attention in ("sdpa", "eager")
    }
    print(json.dumps(results))
    return 0


def results_of(
    folder: str, attention: str, batch: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """The logits and the loss of the batch, as in training but without dropout."""
    model = transformers.BertForSequenceClassification.from_pretrained(
        folder, attn_implementation=attention
    )
    outputs = model.eval()(**batch)
    return {"logits": outputs.logits.tolist(), "loss": outputs.loss.item()}


if __name__ == "__main__":
    sys.exit(main())
