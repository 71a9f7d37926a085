"""One request at a time, in the caller's own process: kbert's export beside the peers.

Purpose: a text of 128 tokens, in float32 and from the same weights, is answered by
kbert's SavedModel (a plain string in, tokenizer included) in at most 1.15 times the
time of ONNX Runtime and 1 / 1.5 of PyTorch's, both behind `tokenizers`; the answers
agree to 1e-4. Texts of 32 tokens and dynamic int8 are measured for the record.

    python -m benchmarks.speed.serve_one --peer-python venv-peers/bin/python \\
        --data-dir $DATA --preset $PRESET

A process for each side on the same two cores, which answer in turn, segment by segment.
Takes about 5 minutes. Prints a table and a JSON line; exits with 1 where a promise is
broken.
"""

import argparse
import contextlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.servers import only_cores
from benchmarks.speed.materials import Materials
from benchmarks.speed.report import (
    NUM_CORES,
    Promise,
    conclude,
    make_parser,
    parse,
    run_process,
    undisturbed,
)
from benchmarks.speed.reviews import read_reviews
from benchmarks.turns import Side, started, take_turns

LENGTHS, PROMISED_LENGTH = (32, 128), 128
KBERT, TORCH, INT8 = "kbert", "PyTorch", "ONNX Runtime int8"
# As torch exports it, and with ONNX Runtime's optimizer for transformers: the faster
# one counts.
ONNX = {"ONNX Runtime": "plain", "ONNX Runtime, fused": "fused"}
ENGINES = {**ONNX, INT8: "int8", TORCH: "torch"}
PROMISED_ONNX, PROMISED_TORCH, TOLERANCE = 1.15, 1.5, 1e-4
NUM_TEXTS, WARM_UP = 50, 50


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--segments", type=int, default=8, help="for each side")
    parser.add_argument("--requests", type=int, default=100, help="a segment")
    arguments = parse(parser)
    if arguments.quick:
        arguments.segments, arguments.requests = 2, 5
    with only_cores(NUM_CORES):
        bench = Bench(arguments)
        figures = {length: bench.run(length) for length in LENGTHS}
    return judge(figures)


class Bench:
    """Has the models, and lets the sides answer."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._folder: Path = arguments.folder
        materials = Materials.of(arguments)
        self._export = materials.export()
        self._model = materials.hugging_face_run()
        self._onnx = self._folder / "onnx"
        if not self._onnx.exists():
            new = self._onnx.with_name("onnx.new")
            command = [self._arguments.peer_python, "-m"]
            command += ["benchmarks.speed.peer_export_onnx", str(self._model), str(new)]
            fused = run_process(command, self._folder / "onnx.log").answer
            print(f"ONNX Runtime's optimizer has fused {fused}", flush=True)
            new.rename(self._onnx)
        vocabulary = (self._model / "vocab.txt").read_text("utf-8").splitlines()
        reviews, _ = read_reviews(materials.reviews("test", 4 * NUM_TEXTS))
        self._texts = {
            length: texts_of_length(reviews, set(vocabulary), length)
            for length in LENGTHS
        }

    def run(self, length: int) -> dict[str, Any]:
        """Lets all sides answer texts of so many tokens in turn."""
        texts = self._folder / f"texts{length}.json"
        texts.write_text(json.dumps(self._texts[length]), "utf-8")
        print(f"{length} tokens, {len(self._texts[length])} texts", flush=True)
        with contextlib.ExitStack() as stack:
            sides = [
                stack.enter_context(self._side(name, texts))
                for name in (KBERT, *ENGINES)
            ]
            others = take_turns(
                sides,
                num_segments=self._arguments.segments,
                num_steps=self._arguments.requests,
                describe=lambda segment: (
                    f"{1000 * statistics.median(segment.seconds):.2f} ms a request"
                ),
            )
        answers = {side.name: side.losses[: len(self._texts[length])] for side in sides}
        return {
            "cores_used_by_others": round(others, 2),
            "sides": {
                side.name: {
                    "versions": side.description,
                    "p50_ms": round(1000 * statistics.median(side.seconds), 3),
                    "p95_ms": round(1000 * float(np.quantile(side.seconds, 0.95)), 3),
                    "largest_difference": float(
                        np.max(np.abs(np.subtract(answers[side.name], answers[KBERT])))
                    ),
                    "processor_ms": round(
                        1000 * side.processor_seconds / len(side.seconds), 2
                    ),
                }
                for side in sides
            },
        }

    def _side(self, name: str, texts: Path) -> contextlib.AbstractContextManager[Side]:
        if name == KBERT:
            command = [sys.executable, "-m", "benchmarks.speed.kbert_serve_one"]
            command += [str(self._export), str(texts)]
            settings = {}
        else:
            python = self._arguments.peer_python
            command = [python, "-m", "benchmarks.speed.peer_serve_one"]
            command += [str(self._model), str(self._onnx), str(texts)]
            settings = {"engine": ENGINES[name]}
        log = self._folder / "serve_one.log"
        return started(Side, name, command, settings, log, warm_up_steps=WARM_UP)


def texts_of_length(reviews: list[str], vocabulary: set[str], length: int) -> list[str]:
    """Texts of exactly so many tokens: the words of reviews that are one token each."""
    texts = []
    for review in reviews:
        words = [word for word in review.split() if word.lower() in vocabulary]
        if len(words) >= length - 2:  # [CLS] and [SEP] come to them
            texts.append(" ".join(words[: length - 2]))
    return texts[:NUM_TEXTS]


def judge(figures: dict[int, dict[str, Any]]) -> int:
    """Prints what came out; returns the exit code."""
    print("\n| tokens | side | p50 ms | p95 ms | processor ms | differs by |")
    print("|---|---|---|---|---|---|")
    for length, found in figures.items():
        for name, side in found["sides"].items():
            print(
                f"| {length} | {name} | {side['p50_ms']} | {side['p95_ms']} | "
                f"{side['processor_ms']} | {side['largest_difference']:.1e} |"
            )
    sides = figures[PROMISED_LENGTH]["sides"]
    ours = sides[KBERT]["p50_ms"]
    onnx = min(sides[name]["p50_ms"] for name in ONNX)
    differences = [
        found["sides"][name]["largest_difference"]
        for found in figures.values()
        for name in (*ONNX, TORCH)
    ]
    promises = [
        Promise("128 tokens: time / ONNX Runtime's", ours / onnx, PROMISED_ONNX, False),
        Promise("128 tokens: x PyTorch", sides[TORCH]["p50_ms"] / ours, PROMISED_TORCH),
        Promise("difference of answers", max(differences), TOLERANCE, False),
        *(undisturbed(found["cores_used_by_others"]) for found in figures.values()),
    ]
    return conclude("serve_one", promises, {str(k): v for k, v in figures.items()})


if __name__ == "__main__":
    sys.exit(main())
