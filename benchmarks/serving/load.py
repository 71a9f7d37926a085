"""A closed-loop load generator over HTTP/1.1: N connections, each with one request out.

Purpose: the same load on any server that answers TensorFlow Serving's REST :predict.
Standard library only and one thread, so that it takes little of the cores that it
shares with the server; its own processor time is reported. Connections are kept
alive. Every answer is compared with the one expected.

    python -m benchmarks.serving.load answers.jsonl \\
        --url http://127.0.0.1:8501/v1/models/imdb128 --seconds 300

`answers.jsonl` is what `kbert predict` wrote. Prints a line for people and a JSON line;
exits with 1 where a request failed or was answered otherwise.
"""

import argparse
import asyncio
import itertools
import json
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

REQUEST_TIMEOUT = 60.0  # seconds; a hang is a failure

# Number of the text, its prediction -> what is wrong with it, or None.
Check = Callable[[int, Any], str | None]


class Example(NamedTuple):
    """A text and its expected answer."""

    text: str
    label: str
    probabilities: tuple[float, ...]  # in the order of the task's labels


def read_examples(path: Path) -> list[Example]:
    """Reads the answers that `kbert predict` wrote."""
    with path.open(encoding="utf-8") as lines:
        answers = [json.loads(line) for line in lines]
    return [
        Example(
            answer["text"], answer["label"], tuple(answer["probabilities"].values())
        )
        for answer in answers
    ]


def compare(prediction: Any, expected: Example, tolerance: float) -> str | None:
    """Says how a prediction differs from the expected answer; None where it does not.

    Of two labels within the tolerance of each other, either is right.
    """
    try:
        label, probabilities = prediction["label"], prediction["probabilities"]
        pairs = zip(probabilities, expected.probabilities, strict=True)
        is_near = all(abs(one - other) <= tolerance for one, other in pairs)
    except (TypeError, KeyError, ValueError):
        return "wrong shape"
    if not is_near:
        return f"probabilities differ by more than {tolerance:g}"
    tied = sorted(expected.probabilities)[-2] >= max(expected.probabilities) - tolerance
    return None if label == expected.label or tied else "wrong label"


def compare_all(examples: Sequence[Example], tolerance: float) -> Check:
    """A check that each text gets its expected answer."""
    return lambda number, prediction: compare(prediction, examples[number], tolerance)


@dataclass
class LoadResult:
    """What a load was answered.

    Attributes:
        latencies: seconds of each answered request, right or wrong.
        failures: how often each thing went wrong.
        seconds: how long the load lasted.
        client_seconds: processor time of this process meanwhile.
    """

    latencies: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    client_seconds: float = 0.0

    def __add__(self, other: "LoadResult") -> "LoadResult":
        return LoadResult(
            self.latencies + other.latencies,
            self.failures + other.failures,
            self.seconds + other.seconds,
            self.client_seconds + other.client_seconds,
        )

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, percent: float) -> float:
        """The latency in milliseconds that so many percent do not exceed."""
        if not self.latencies:
            return math.nan
        rank = math.ceil(len(self.latencies) * percent / 100)
        return sorted(self.latencies)[max(rank, 1) - 1] * 1000

    def summary(self) -> dict[str, Any]:
        """The figures, for a JSON line."""
        latencies = {
            name: round(self.percentile(percent), 2) if self.latencies else None
            for name, percent in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100))
        }
        return {
            "requests": len(self.latencies),
            "requests_per_second": round(self.rate, 2),
            "latency_ms": latencies,
            "failed": sum(self.failures.values()),
            "failures": dict(self.failures),
            "seconds": round(self.seconds, 1),
            "client_cores": round(self.client_seconds / max(self.seconds, 1e-9), 3),
        }

    def __str__(self) -> str:
        p50, p95, p99 = (self.percentile(percent) for percent in (50, 95, 99))
        failed = f"{sum(self.failures.values())} failed"
        if self.failures:
            failed += f" ({dict(self.failures)})"
        return (
            f"{len(self.latencies)} requests, {self.rate:.1f}/s, p50 {p50:.1f} ms, "
            f"p95 {p95:.1f} ms, p99 {p99:.1f} ms, {failed}"
        )


class Load:
    """A load; its methods run in the thread of an event loop.

    Args:
        url: of the model, up to its name.
        texts: what is asked, in turn and from the start again.
        check: says what is wrong with a prediction.
        connections: how many requests are out at any time.
    """

    def __init__(
        self, url: str, texts: Sequence[str], check: Check, *, connections: int
    ) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._host, self._port = address.hostname, address.port or 80
        self._requests = [
            _request(f"{address.path}:predict", address.netloc, text) for text in texts
        ]
        self._numbers = itertools.cycle(range(len(texts)))
        self._check = check
        self._connections = connections
        self._stopping = False
        self.result = LoadResult()

    def stop(self) -> None:
        """Lets each connection end with the request that it has out."""
        self._stopping = True

    async def run(self) -> None:
        """Asks until `stop` is called from another thread."""
        start, processor_start = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._keep_asking())
        self.result.seconds = time.perf_counter() - start
        self.result.client_seconds = time.process_time() - processor_start

    async def _keep_asking(self) -> None:
        connection = None
        while not self._stopping:
            number = next(self._numbers)
            start = time.perf_counter()
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    if connection is None:
                        connection = await asyncio.open_connection(
                            self._host, self._port
                        )
                    status, body = await _ask(*connection, self._requests[number])
            except (OSError, EOFError, ValueError) as error:
                self.result.failures[type(error).__name__] += 1
                if connection is not None:
                    connection[1].close()
                connection = None
                await asyncio.sleep(0.1)  # no storm on a server that is down
                continue
            self.result.latencies.append(time.perf_counter() - start)
            wrong = self._judge(number, status, body)
            if wrong is not None:
                self.result.failures[wrong] += 1
        if connection is not None:
            connection[1].close()

    def _judge(self, number: int, status: int, body: bytes) -> str | None:
        if status != 200:
            return f"{status} {body[:200].decode(errors='replace')}"
        try:
            (prediction,) = json.loads(body)["predictions"]
        except (ValueError, KeyError, TypeError):
            return "wrong shape"
        return self._check(number, prediction)


def _request(path: str, host: str, text: str) -> bytes:
    body = json.dumps({"instances": [text]}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes]:
    """Returns the status and the body of the response.

    Raises:
        ValueError: the response is no HTTP with a length.
    """
    writer.write(request)
    status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    fields = dict(line.lower().split(b":", 1) for line in lines if line)
    if b"content-length" not in fields:
        raise ValueError("a response without a Content-Length")
    body = await reader.readexactly(int(fields[b"content-length"]))
    return int(status_line.split()[1]), body


@contextmanager
def running_load(
    url: str, texts: Sequence[str], check: Check, *, connections: int = 8
) -> Iterator[LoadResult]:
    """Keeps a load on a server; the result is complete when the block has ended."""
    load = Load(url, texts, check, connections=connections)
    thread = threading.Thread(target=lambda: asyncio.run(load.run()), daemon=True)
    thread.start()
    try:
        yield load.result
    finally:
        load.stop()
        thread.join(REQUEST_TIMEOUT * 2)


def run_load(
    url: str,
    examples: Sequence[Example],
    *,
    seconds: float,
    tolerance: float,
    connections: int = 8,
) -> LoadResult:
    """Puts a load on a server for some seconds."""
    texts = [example.text for example in examples]
    check = compare_all(examples, tolerance)
    with running_load(url, texts, check, connections=connections) as result:
        time.sleep(seconds)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("answers", type=Path, help="what kbert predict wrote")
    parser.add_argument("--url", required=True, help="http://HOST:PORT/v1/models/NAME")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    arguments = parser.parse_args()
    result = run_load(
        arguments.url,
        read_examples(arguments.answers),
        seconds=arguments.seconds,
        tolerance=arguments.tolerance,
        connections=arguments.connections,
    )
    print(result)
    print(json.dumps(result.summary()))
    return 1 if result.failures or not result.latencies else 0


if __name__ == "__main__":
    sys.exit(main())
