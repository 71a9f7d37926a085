"""What serving must show, in seconds; benchmarks/serving has the long forms."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from benchmarks.serving import crash, fuzz, swaps
from benchmarks.serving.load import Example, LoadResult, compare
from benchmarks.serving.servers import Server, free_port, kbert_server
from tests.serving.models import LABELS, toy_probabilities, write_toy_classifier

TEXTS = [
    f"a {word} film {'!' * number}" for number in range(8) for word in ("good", "")
]
TOLERANCE = 1e-5


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not is_so() and time.monotonic() < until:
        time.sleep(0.02)


def toy_examples(*, flip: bool = False) -> list[Example]:
    values = [toy_probabilities(text.encode(), flip=flip) for text in TEXTS]
    return [
        Example(text, LABELS[pair.index(max(pair))], pair)
        for text, pair in zip(TEXTS, values, strict=True)
    ]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[swaps.Published]:
    """Two versions with opposite answers."""
    folder = tmp_path_factory.mktemp("exports")
    return [
        swaps.Published(
            write_toy_classifier(folder, version, flip=flip), toy_examples(flip=flip)
        )
        for version, flip in ((1, False), (2, True))
    ]


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / fuzz.MODEL
    write_toy_classifier(folder, 1)
    return folder


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    """Of REST and gRPC; a server that is started again has them again."""
    return free_port(), free_port()


@pytest.fixture(scope="module")
def server(
    base_path: Path, ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """`kbert serve` of the toy classifier; every test leaves it with its answers."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with kbert_server(base_path, log, rest_port=ports[0], grpc_port=ports[1]) as server:
        yield server.wait()


def test_odd_requests_are_answered_and_never_by_a_server_error(
    server: Server, ports: tuple[int, int]
):
    with grpc.insecure_channel(f"127.0.0.1:{ports[1]}") as channel:
        fuzzer = fuzz.Fuzzer(ports[0], channel)
        fuzzer.run(cases=200, seed=0)
    assert sum(fuzzer.answers.values()) >= 200
    assert {"REST 200", "REST 400", "gRPC OK", "gRPC INVALID_ARGUMENT"} <= set(
        fuzzer.answers
    )


def test_swaps_under_load_fail_no_request_and_mix_no_versions(
    server: Server, base_path: Path, exports: list[swaps.Published]
):
    figures = swaps.swap_under_load(
        server, base_path, exports, num_swaps=2, seconds=0.5, tolerance=TOLERANCE
    )
    assert figures["load"]["failures"] == {}
    assert min(figures["answers_by_export"]) > 0
    assert figures["stale"] == []


def test_callers_do_not_notice_a_kill_and_a_restart(server: Server):
    with crash.calling(server.url, toy_examples(), tolerance=TOLERANCE) as calls:
        # A client that never reached its server takes it for a wrong address.
        wait_until(lambda: calls.answered >= 8)
        crash.kill_and_restart(server)
        before = calls.answered
        wait_until(lambda: calls.answered >= before + 100 or calls.errors)
    assert dict(calls.errors) == {}
    assert calls.answered >= before + 100


def test_wrong_answers_are_seen():
    expected = Example("a good film", "pos", (0.2, 0.8))
    right = {"label": "pos", "score": 0.8, "probabilities": [0.2, 0.8]}
    assert compare(right, expected, TOLERANCE) is None
    for wrong, reason in (
        (right | {"label": "neg"}, "wrong label"),
        (right | {"probabilities": [0.3, 0.7]}, "differ by more than 1e-05"),
        (right | {"probabilities": [0.2, float("nan")]}, "differ by more"),
        (right | {"probabilities": [0.2]}, "wrong shape"),
        ([0.2, 0.8], "wrong shape"),
    ):
        assert reason in str(compare(wrong, expected, TOLERANCE))


def test_percentiles_are_latencies_that_were_measured():
    result = LoadResult([number / 1000 for number in range(100, 0, -1)], seconds=2.0)
    assert [result.percentile(p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert (result + result).rate == 50.0
