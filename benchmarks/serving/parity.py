"""A server's answers, asked with public packages alone, beside `kbert predict`'s.

Purpose: the same labels and the same probabilities (1e-5) for IMDB test reviews and the
hard cases, over REST (requests) and gRPC (grpcio and tensorflow-serving-api's stubs):
:predict in rows and columns, :classify, Predict and Classify, one text a request and
several. Invalid UTF-8 goes over gRPC only.

    python -m benchmarks.serving.texts texts.jsonl --data-dir $DATA --count 1000 \\
        --hard-cases
    kbert predict RUN --input texts.jsonl --output answers.jsonl
    python -m benchmarks.serving.parity answers.jsonl --export saved_models/NAME

Starts `kbert serve` for the export; with `--url` and `--grpc` in its place it asks a
server that runs. Takes about 3 minutes. Prints a line for each way of asking and a JSON
line; exits with 1 where an answer differs.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import requests
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from benchmarks.serving.load import Example, read_examples
from benchmarks.serving.servers import free_port, kbert_server
from benchmarks.serving.texts import INVALID_UTF8

TOLERANCE = 1e-5
TIMEOUT = 60.0  # seconds

# Texts -> for each its label and the probabilities in the order of the labels.
Answers = list[tuple[str, list[float]]]
Ask = Callable[[Sequence[bytes]], Answers]


class Rest:
    """TensorFlow Serving's REST, asked with requests."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()

    def predict_rows(self, texts: Sequence[bytes]) -> Answers:
        """`:predict` with `instances`."""
        body = {"instances": [text.decode() for text in texts]}
        rows = self._post("predict", body)["predictions"]
        return [(row["label"], row["probabilities"]) for row in rows]

    def predict_columns(self, texts: Sequence[bytes]) -> Answers:
        """`:predict` with `inputs`."""
        body = {"inputs": {"text": [text.decode() for text in texts]}}
        outputs = self._post("predict", body)["outputs"]
        return list(zip(outputs["label"], outputs["probabilities"], strict=True))

    def classify(self, texts: Sequence[bytes]) -> Answers:
        """`:classify`."""
        examples = [{"text": text.decode()} for text in texts]
        body = {"signature_name": "classify", "examples": examples}
        return [best(classes) for classes in self._post("classify", body)["results"]]

    def _post(self, call: str, body: dict[str, Any]) -> Any:
        response = self._session.post(f"{self._url}:{call}", json=body, timeout=TIMEOUT)
        if response.status_code != 200:
            raise RuntimeError(f"{response.status_code}: {response.text}")
        return response.json()


class Grpc:
    """TensorFlow Serving's PredictionService, asked with its own stubs."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._name = name

    def predict(self, texts: Sequence[bytes]) -> Answers:
        """Predict."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._name
        tensor = tf.make_tensor_proto(list(texts), dtype=tf.string)
        request.inputs["text"].CopyFrom(tensor)
        outputs = self._stub.Predict(request, timeout=TIMEOUT).outputs
        labels = tf.make_ndarray(outputs["label"])
        probabilities = tf.make_ndarray(outputs["probabilities"])
        return [
            (label.decode(), row.tolist())
            for label, row in zip(labels, probabilities, strict=True)
        ]

    def classify(self, texts: Sequence[bytes]) -> Answers:
        """Classify."""
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = self._name
        request.model_spec.signature_name = "classify"
        for text in texts:
            example = request.input.example_list.examples.add()
            example.features.feature["text"].bytes_list.value.append(text)
        result = self._stub.Classify(request, timeout=TIMEOUT).result
        return [
            best([(each.label, each.score) for each in item.classes])
            for item in result.classifications
        ]


def best(classes: Sequence[tuple[str, float]]) -> tuple[str, list[float]]:
    """The label with the highest score, and all scores."""
    return max(classes, key=lambda pair: pair[1])[0], [score for _, score in classes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("answers", type=Path, help="what kbert predict wrote")
    parser.add_argument("--export", type=Path, help="saved_models/NAME, to be served")
    parser.add_argument("--url", help="of a server: http://HOST:PORT/v1/models/NAME")
    parser.add_argument("--grpc", help="of the same server: HOST:PORT")
    arguments = parser.parse_args()
    if bool(arguments.export) == bool(arguments.url and arguments.grpc):
        parser.error("give --export, or --url and --grpc")
    examples = read_examples(arguments.answers)
    with contextlib.ExitStack() as stack:
        url, target = arguments.url, arguments.grpc
        if arguments.export:
            url, target = stack.enter_context(serving(arguments.export.resolve()))
        channel = stack.enter_context(grpc.insecure_channel(target))
        rest, by_grpc = Rest(url), Grpc(channel, url.rpartition("/")[2])
        invalid = invalid_utf8(examples)
        ways: list[tuple[str, Ask, int, list[tuple[bytes, Example]]]] = [
            ("REST :predict, rows", rest.predict_rows, 1, []),
            ("REST :predict, columns", rest.predict_columns, 32, []),
            ("REST :classify", rest.classify, 32, []),
            ("gRPC Predict", by_grpc.predict, 1, invalid),
            ("gRPC Predict", by_grpc.predict, 32, invalid),
            ("gRPC Classify", by_grpc.classify, 32, invalid),
        ]
        results: list[dict[str, Any]] = []
        for name, ask, batch_size, extra in ways:
            cases = [(example.text.encode(), example) for example in examples] + extra
            result = compare_way(ask, cases, batch_size)
            results.append({"way": name, "batch_size": batch_size} | result)
            print(results[-1], flush=True)
    kept = all(
        not result["labels_different"] and result["largest_difference"] <= TOLERANCE
        for result in results
    )
    print(json.dumps({"kept": kept, "ways": results}))
    return 0 if kept else 1


@contextlib.contextmanager
def serving(export: Path) -> Iterator[tuple[str, str]]:
    """`kbert serve` of an export: the URL of its REST, and its gRPC address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as logs:
        with kbert_server(export, Path(logs) / "log", grpc_port=port) as server:
            server.wait()
            yield server.url, f"127.0.0.1:{port}"


def invalid_utf8(examples: Sequence[Example]) -> list[tuple[bytes, Example]]:
    """The texts that are no UTF-8 whose valid forms are among the examples."""
    by_text = {example.text: example for example in examples}
    return [(raw, by_text[text]) for raw, text in INVALID_UTF8 if text in by_text]


def compare_way(
    ask: Ask, cases: Sequence[tuple[bytes, Example]], batch_size: int
) -> dict[str, Any]:
    """Asks about all texts; how many, how many other labels, how far off at most."""
    different, largest = [], 0.0
    for start in range(0, len(cases), batch_size):
        batch = cases[start : start + batch_size]
        answers = ask([text for text, _ in batch])
        for (text, expected), (label, probabilities) in zip(
            batch, answers, strict=True
        ):
            if label != expected.label:
                different.append(repr(text[:80]))
            for one, other in zip(probabilities, expected.probabilities, strict=True):
                largest = max(largest, abs(one - other))
    return {
        "texts": len(cases),
        "labels_different": different,
        "largest_difference": largest,
    }


if __name__ == "__main__":
    sys.exit(main())
