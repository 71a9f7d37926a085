"""Malformed and odd requests, over REST and gRPC, at a running server.

Purpose: whatever a client sends is answered within seconds, and never by 5xx, INTERNAL
or UNKNOWN; and right answers are given before and after. The cases come from
hypothesis, which shrinks one that fails to its smallest form.

    python -m benchmarks.serving.fuzz --cases 10000

Serves the toy classifier of tests/serving/models.py, half of the cases over each
protocol. Takes about 3 minutes. Exits with 1 where a case fails; it is printed.
"""

import argparse
import http.client
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
import hypothesis
import tensorflow as tf
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from benchmarks.serving.fuzz_base import MODEL
from benchmarks.serving.fuzz_grpc import GrpcCase, grpc_cases
from benchmarks.serving.fuzz_rest import RestCase, rest_cases, to_json
from benchmarks.serving.servers import free_port, kbert_server

TIMEOUT = 15.0  # seconds; a longer answer is a hang
_NEVER = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS")

Case = TypeVar("Case")


class Fuzzer:
    """Sends cases to a server and says what is wrong with its answers.

    Attributes:
        answers: how often each status was answered.
        slowest: seconds of the slowest answer.
    """

    def __init__(self, rest_port: int, channel: grpc.Channel) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", rest_port, timeout=TIMEOUT)
        self._channel = channel
        self.answers: Counter[str] = Counter()
        self.slowest = 0.0

    def ask_rest(self, case: RestCase) -> str | None:
        """Sends a request; returns what is wrong with the answer."""
        start = time.monotonic()
        try:
            self._http.request(case.method, case.path, case.body, case.headers)
            response = self._http.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            return f"no answer: {error!r}"
        self._note(f"REST {response.status}", start)
        if response.status >= 500:
            return f"{response.status} {body[:500]!r}"
        if not case.path.startswith("/v1/") or case.method == "OPTIONS":
            return None
        try:
            answer = json.loads(body)
        except ValueError:
            return f"{response.status} without JSON: {body[:500]!r}"
        if response.status >= 400 and not isinstance(answer.get("error"), str):
            return f"{response.status} without an error: {body[:500]!r}"
        return None

    def ask_grpc(self, case: GrpcCase) -> str | None:
        """Calls a method; returns what is wrong with the answer."""
        start = time.monotonic()
        try:
            self._channel.unary_unary(case.method)(case.message, timeout=TIMEOUT)
        except grpc.RpcError as error:
            code = error.code()
            self._note(f"gRPC {code.name}", start)
            if code.name in _NEVER:
                return f"{code.name} {error.details()}"
            return None
        self._note("gRPC OK", start)
        return None

    def ask_rightly(self) -> None:
        """Asks both ways what a model of reviews is asked.

        Raises:
            AssertionError: an answer is not the right one.
        """
        body = to_json({"instances": ["a good film"]})
        self._http.request("POST", f"/v1/models/{MODEL}:predict", body)
        response = self._http.getresponse()
        (prediction,) = json.loads(response.read())["predictions"]
        assert prediction["label"] == "pos", prediction
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        tensor = tf.make_tensor_proto([b"a film"], dtype=tf.string)
        request.inputs["text"].CopyFrom(tensor)
        answer = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )(request.SerializeToString(), timeout=TIMEOUT)
        assert list(answer.outputs["label"].string_val) == [b"neg"], answer

    def run(self, *, cases: int, seed: int) -> None:
        """Sends so many cases, half of them over each protocol.

        Raises:
            AssertionError: what is wrong with an answer.
        """
        self.ask_rightly()
        self._send(rest_cases(), self.ask_rest, cases - cases // 2, seed)
        self._send(grpc_cases(), self.ask_grpc, cases // 2, seed)
        self.ask_rightly()

    def _send(
        self,
        strategy: st.SearchStrategy[Case],
        ask: Callable[[Case], str | None],
        cases: int,
        seed: int,
    ) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=cases,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy)
        def send(case: Case) -> None:
            problem = ask(case)
            assert problem is None, problem

        send()

    def _note(self, answer: str, start: float) -> None:
        self.answers[answer] += 1
        self.slowest = max(self.slowest, time.monotonic() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batching", action="store_true", help="batch across requests")
    arguments = parser.parse_args()
    from tests.serving.models import write_toy_classifier

    with tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder) / MODEL
        write_toy_classifier(base_path, 1)
        rest_port, grpc_port = free_port(), free_port()
        server = kbert_server(
            base_path,
            Path(folder) / "log",
            rest_port=rest_port,
            grpc_port=grpc_port,
            options=["--enable_batching"] if arguments.batching else [],
        )
        with server, grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            server.wait()
            fuzzer = Fuzzer(rest_port, channel)
            before, problem = server.memory_mb, None
            try:
                fuzzer.run(cases=arguments.cases, seed=arguments.seed)
            except AssertionError as error:
                problem = "\n".join([str(error), *getattr(error, "__notes__", [])])
                print(problem, file=sys.stderr)
            figures: dict[str, Any] = {
                "kept": problem is None,
                "cases": sum(fuzzer.answers.values()),
                "answers": dict(sorted(fuzzer.answers.items())),
                "slowest_seconds": round(fuzzer.slowest, 2),
                "memory_mb": [round(before), round(server.memory_mb)],
            }
    for answer, count in figures["answers"].items():
        print(f"{answer}: {count}")
    print(json.dumps(figures))
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main())
