"""Hugging Face's side of predict.py: a pipeline over the texts of a file.

Runs in an environment of its own (requirements-peers.txt):

    python -m benchmarks.speed.peer_predict MODEL INPUT OUTPUT '{"batch_size": 8}'

Writes a JSON line of label and probabilities for each text, in order, and prints a JSON
line: the seconds that the pipeline's calls took.
"""

import json
import sys
import time
from pathlib import Path

import torch
import transformers

from benchmarks.speed.reviews import read_reviews


def main() -> int:
    model, input_file, output_file, settings = sys.argv[1:]
    seconds = predict(
        model, Path(input_file), Path(output_file), **json.loads(settings)
    )
    print(json.dumps({"seconds": seconds}))
    return 0


def predict(
    model: str,
    input_file: Path,
    output_file: Path,
    *,
    dtype: str = "float32",
    batch_size: int = 8,
    is_sorted: bool = False,
) -> float:
    """Answers all texts.

    Args:
        dtype: of weights and computation.
        is_sorted: whether texts go in by their length, so that batches have little
            padding.
    """
    classify = transformers.pipeline(
        "text-classification", model=model, dtype=getattr(torch, dtype), device="cpu"
    )
    texts, _ = read_reviews(input_file)
    order = list(range(len(texts)))
    if is_sorted:
        order.sort(key=lambda index: len(texts[index]))
    start = time.perf_counter()
    found = classify(
        [texts[index] for index in order],
        batch_size=batch_size,
        truncation=True,
        max_length=classify.tokenizer.model_max_length,
        top_k=None,
    )
    seconds = time.perf_counter() - start
    answers = dict(zip(order, found, strict=True))
    with output_file.open("w", encoding="utf-8") as file:
        for index, text in enumerate(texts):
            scores = {item["label"]: item["score"] for item in answers[index]}
            label = max(scores, key=scores.__getitem__)
            answer = {"text": text, "label": label, "probabilities": scores}
            file.write(json.dumps(answer) + "\n")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
