"""A server under load: one text a request, from the client that kbert has.

Nothing here imports TensorFlow: the server is another process.
"""

import itertools
import random
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from kbert.bounded import read_json
from kbert.errors import ConfigError, ServingError
from kbert.exporting.versions import versions_in
from kbert.serving.answers import Text
from kbert.serving.client import Client
from kbert.serving.latencies import Latencies
from kbert.serving.model_folder import check_model_folder
from kbert.workflows.benching.served import ServedExport
from kbert.workflows.benching.timing import format_seconds, showing, time_call

DEFAULT_LENGTH = 128
_CARD = Path("assets.extra", "kbert.json")
# Requests of each connection before those that count.
_WARM_UP_REQUESTS = 3
_NUM_TEXTS = 64
# [CLS] and [SEP], and of a pair the second [SEP].
_FRAME, _PAIR_FRAME = 2, 3


@dataclass(frozen=True)
class ServeSpeed:
    """What was measured.

    Attributes:
        url: of the model.
        length: tokens a request.
        connections: requests at the same time.
        latencies: of the requests that count, at the client.
        first_request_seconds: of the very first one.
        start_seconds: how long the server took to start and load; None for one that
            runs already.
        server_memory_bytes: resident in the server at the end; None likewise.
    """

    url: str
    length: int
    connections: int
    latencies: Latencies
    first_request_seconds: float
    start_seconds: float | None = None
    server_memory_bytes: int | None = None

    @property
    def tokens_per_second(self) -> float:
        """Of all requests."""
        return self.latencies.requests_per_second * self.length

    def to_dict(self) -> dict[str, Any]:
        """All figures, in seconds and bytes, for JSON."""
        found = self.latencies
        return {
            "bench": "serve",
            "url": self.url,
            "length": self.length,
            "connections": self.connections,
            "start_seconds": self.start_seconds,
            "first_request_seconds": self.first_request_seconds,
            "requests": found.count,
            "requests_per_second": found.requests_per_second,
            "tokens_per_second": self.tokens_per_second,
            "latency_seconds": {"p50": found.p50, "p95": found.p95, "p99": found.p99},
            "server_memory_bytes": self.server_memory_bytes,
        }

    def rows(self) -> list[tuple[str, str]]:
        """The figures by name, for people."""
        found, memory = self.latencies, self.server_memory_bytes
        rows = [
            ("server", self.url),
            ("request", f"one text of {self.length} tokens"),
            ("connections", f"{self.connections}, each with one request out"),
        ]
        if self.start_seconds is not None:
            rows.append(
                ("start", f"{format_seconds(self.start_seconds)}, model loaded")
            )
        rows += [
            ("first request", format_seconds(self.first_request_seconds)),
            ("requests", f"{found.count:,}"),
            ("requests/s", f"{found.requests_per_second:,.1f}"),
            ("tokens/s", f"{self.tokens_per_second:,.0f}"),
        ]
        for percent in (50, 95, 99):
            rows.append((f"p{percent}", format_seconds(found.percentile(percent))))
        if memory is not None:
            rows.append(("memory", f"{memory / 1e9:.2f} GB in the server at the end"))
        return rows


def measure_export(
    folder: Path,
    *,
    length: int | None = None,
    connections: int,
    seconds: float,
    progress: TextIO | None = None,
) -> ServeSpeed:
    """Serves an export as `kbert serve` does, in a process of its own, and asks it.

    Args:
        folder: the export, with its versions.
        length: tokens a request; None for 128, or what the export cuts at if less.
        connections, seconds, progress: see `measure_url`.

    Raises:
        ServingError: it is no export, or cannot be loaded.
        ConfigError: the export would cut texts of this length.
    """
    folder = check_model_folder(folder)
    length = _length_for(folder, length)
    start = time.perf_counter()
    with ServedExport(folder) as served:
        start_seconds = time.perf_counter() - start
        speed = measure_url(
            served.url,
            length=length,
            connections=connections,
            seconds=seconds,
            progress=progress,
        )
        return replace(
            speed,
            start_seconds=start_seconds,
            server_memory_bytes=served.memory_bytes(),
        )


def measure_url(
    url: str,
    *,
    length: int = DEFAULT_LENGTH,
    connections: int,
    seconds: float,
    progress: TextIO | None = None,
) -> ServeSpeed:
    """Asks a server about random texts, each connection as soon as it has its answer.

    Args:
        url: of the model, as `Client` takes it.
        length: tokens a text; a server that cuts at fewer computes fewer.
        connections: requests at the same time.
        seconds: for how long.
        progress: where to show how far it is; None for nowhere.

    Raises:
        ServingError: the server cannot be reached, or refuses.
        ConfigError: the length leaves no room for text.
    """
    _check_length(length)
    with Client(url, batch_size=1, connections=connections) as client:
        texts = random_texts(length, is_paired=client.is_paired)
        first = time_call(lambda: client.predict(texts[:1]))
        warm_up = itertools.islice(
            itertools.cycle(texts), _WARM_UP_REQUESTS * connections
        )
        client.predict(warm_up)
        client.latencies = Latencies()  # Those so far do not count.
        _ask(client, texts, seconds, progress)
    return ServeSpeed(client.url, length, connections, client.latencies, first)


def random_texts(length: int, *, is_paired: bool) -> list[Text]:
    """Texts that every WordPiece tokenizer makes `length` tokens of.

    A word of one letter is one token: the letter, or [UNK] where a vocabulary lacks it.

    Args:
        length: [CLS] and every [SEP] included.
        is_paired: whether they are pairs; the first then has the odd letter.
    """
    chooser = random.Random(0)

    def words(count: int) -> str:
        return " ".join(chooser.choices(string.ascii_lowercase, k=count))

    if not is_paired:
        return [words(length - _FRAME) for _ in range(_NUM_TEXTS)]
    room = length - _PAIR_FRAME
    return [(words(room - room // 2), words(room // 2)) for _ in range(_NUM_TEXTS)]


def _ask(
    client: Client, texts: list[Text], seconds: float, progress: TextIO | None
) -> None:
    end = time.monotonic() + seconds

    def until_the_end() -> Iterator[Text]:
        for text in itertools.cycle(texts):
            if time.monotonic() >= end:
                return
            yield text

    with showing(None, progress, unit="requests") as on_request:
        for number, _ in enumerate(client.answers(until_the_end()), start=1):
            on_request(number, 0, 0)


def _length_for(folder: Path, length: int | None) -> int:
    """The tokens of a request to an export, checked against what it says of itself."""
    versions = versions_in(folder)
    limit = _max_length(versions[max(versions)])
    if length is None:
        return min(DEFAULT_LENGTH, limit or DEFAULT_LENGTH)
    if limit is not None and length > limit:
        raise ConfigError(
            f"--length must be at most {limit}, at which {folder} cuts its texts. "
            f"Received: {length}."
        )
    return _check_length(length)


def _check_length(length: int) -> int:
    if length <= _PAIR_FRAME:
        raise ConfigError(
            "--length counts [CLS] and [SEP] too, and must be at least "
            f"{_PAIR_FRAME + 1}. Received: {length}."
        )
    return length


def _max_length(version: Path) -> int | None:
    """The tokens that an export cuts at; None where it does not say."""
    try:
        card = read_json(version / _CARD, ServingError)
        limit = card["limits"]["max_length"]
    except (ServingError, KeyError, TypeError):
        return None
    return limit if type(limit) is int else None
