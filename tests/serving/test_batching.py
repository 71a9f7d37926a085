"""Batches across requests, over a model that is a few lines of NumPy."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from kbert.errors import ConfigError
from kbert.protos import BatchingParameters, parse_text
from kbert.serving.batching import Batcher
from kbert.serving.batching_options import BatchingOptions, read_batching_options
from kbert.serving.status import Code, StatusError

PATIENCE = 30.0


class Doubler:
    """A model that doubles; it notes each run, and can be held up.

    Attributes:
        runs: signature and inputs of each run.
        begun: has a token for each run that has begun.
        may_go: runs wait for it.
        seconds: what each run was given.
    """

    def __init__(self) -> None:
        self.runs: list[tuple[str, dict[str, np.ndarray]]] = []
        self.seconds: list[float | None] = []
        self.begun = threading.Semaphore(0)
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> dict[str, np.ndarray]:
        self.runs.append((signature_name, dict(inputs)))
        self.seconds.append(timeout)
        self.begun.release()
        assert self.may_go.wait(PATIENCE)
        x = inputs["x"]
        if x.dtype != object and (x < 0).any():
            raise StatusError(Code.INVALID_ARGUMENT, "negative")
        if signature_name == "broken":
            raise StatusError(Code.INTERNAL, "broken")
        if signature_name == "scalar":
            return {name: np.float32(0).reshape(()) for name in outputs}
        if signature_name == "constant":
            return {name: np.zeros(3) for name in outputs}
        return {name: x * 2 if name == "y" else x for name in outputs}

    def sizes(self) -> list[int]:
        return [len(inputs["x"]) for _, inputs in self.runs]


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def make(doubler: Doubler) -> Iterator[Callable[..., Batcher]]:
    batchers = []

    def make(**options) -> Batcher:
        batchers.append(Batcher(doubler, BatchingOptions(**options)))
        return batchers[-1]

    yield make
    doubler.may_go.set()
    for batcher in batchers:
        batcher.close()


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def ask(batcher: Batcher, x: np.ndarray, signature="double", timeout=PATIENCE):
    return batcher.run(signature, {"x": x}, ["y"], timeout)["y"]


class Callers(ThreadPoolExecutor):
    """Requests that wait for their answers, each in a thread."""

    def ask(self, batcher: Batcher, x: np.ndarray, *rest) -> Future:
        return self.submit(ask, batcher, x, *rest)


@pytest.fixture
def callers(doubler: Doubler) -> Iterator[Callers]:
    with Callers(40) as pool:
        yield pool
        doubler.may_go.set()


def hold_up(batcher: Batcher, doubler: Doubler, callers: Callers) -> Future:
    """Occupies the one thread of a batcher until `may_go`."""
    doubler.may_go.clear()
    held = callers.ask(batcher, floats(1000))
    assert doubler.begun.acquire(timeout=PATIENCE)
    return held


def wait_for_rows(batcher: Batcher, rows: int) -> None:
    """Until so many rows wait in the queues."""
    queues = batcher._queues
    with batcher._changed:
        while sum(b.rows for q in queues._queues.values() for b in q) != rows:
            batcher._changed.wait(0.001)


def test_one_request_runs_at_once(make, doubler):
    found = make().run("double", {"x": floats(1, 2)}, ["y", "x"], None)
    np.testing.assert_array_equal(found["y"], floats(2, 4))
    np.testing.assert_array_equal(found["x"], floats(1, 2))
    assert doubler.seconds == [None]


def test_requests_that_wait_share_a_batch_and_get_their_own_rows(
    make, doubler, callers
):
    batcher = make(num_threads=1)
    held = hold_up(batcher, doubler, callers)
    answers = [callers.ask(batcher, floats(*range(n))) for n in (1, 2, 3)]
    wait_for_rows(batcher, 6)
    doubler.may_go.set()
    assert held.result() == [2000]
    for n, answer in zip((1, 2, 3), answers, strict=True):
        np.testing.assert_array_equal(answer.result(), 2 * np.arange(n))
    assert doubler.sizes() == [1, 6]


def test_a_batch_waits_for_more_rows_until_it_is_full(make, doubler, callers):
    batcher = make(num_threads=2, max_batch_size=3, timeout_seconds=PATIENCE * 10)
    answers = [callers.ask(batcher, floats(n)) for n in range(3)]
    assert [answer.result(PATIENCE).tolist() for answer in answers] == [[0], [2], [4]]
    assert doubler.sizes() == [3]


def test_a_batch_waits_no_longer_than_it_is_told(make, doubler):
    batcher = make(num_threads=2, timeout_seconds=0.01)
    assert ask(batcher, floats(3)) == [6]


def test_16_threads_get_their_own_rows(make, doubler, callers):
    batcher = make(num_threads=3, max_batch_size=7, max_enqueued_batches=1000)

    def ask_many(number: int) -> None:
        random = np.random.default_rng(number)
        for _ in range(50):
            x = random.random(random.integers(1, 8)).astype(np.float32)
            np.testing.assert_array_equal(ask(batcher, x), 2 * x)

    for done in [callers.submit(ask_many, number) for number in range(16)]:
        done.result()
    assert max(doubler.sizes()) <= 7
    assert sum(doubler.sizes()) > len(doubler.sizes()), "no request shared a batch"


@pytest.mark.parametrize(
    "other",
    [
        lambda: ("double", {"x": np.array([1.0])}, ["y"]),
        lambda: ("double", {"x": np.zeros((1, 2), np.float32)}, ["y"]),
        lambda: ("other", {"x": floats(1)}, ["y"]),
        lambda: ("double", {"x": floats(1)}, ["y", "x"]),
    ],
    ids=["type", "inner shape", "signature", "outputs"],
)
def test_what_differs_never_shares_a_batch(make, doubler, callers, other):
    batcher = make(num_threads=1)
    hold_up(batcher, doubler, callers)
    answer = callers.ask(batcher, floats(5))
    different = callers.submit(batcher.run, *other(), PATIENCE)
    wait_for_rows(batcher, 2)
    doubler.may_go.set()
    assert answer.result() == [10]
    assert len(different.result()["y"]) == 1
    assert doubler.sizes() == [1, 1, 1]


def test_a_batch_is_filled_up_with_the_last_tasks_first_row(make, doubler, callers):
    batcher = make(num_threads=1, max_batch_size=8, allowed_batch_sizes=(2, 8))
    held = hold_up(batcher, doubler, callers)
    first = callers.ask(batcher, floats(1, 2))
    wait_for_rows(batcher, 2)
    second = callers.ask(batcher, floats(3, 4, 5))
    wait_for_rows(batcher, 5)
    doubler.may_go.set()
    held.result()
    np.testing.assert_array_equal(first.result(), floats(2, 4))
    np.testing.assert_array_equal(second.result(), floats(6, 8, 10))
    (_, _), (_, inputs) = doubler.runs
    np.testing.assert_array_equal(inputs["x"], floats(1, 2, 3, 4, 5, 3, 3, 3))
    assert doubler.sizes() == [2, 8]


def test_a_large_request_is_split_and_fills_batches_up(make, doubler, callers):
    batcher = make(
        num_threads=1,
        max_batch_size=20,
        max_execution_batch_size=4,
        splits_requests=True,
    )
    held = hold_up(batcher, doubler, callers)
    small = callers.ask(batcher, floats(1))
    wait_for_rows(batcher, 1)
    large = callers.ask(batcher, np.arange(9, dtype=np.float32))
    wait_for_rows(batcher, 10)
    doubler.may_go.set()
    held.result()
    assert small.result() == [2]
    np.testing.assert_array_equal(large.result(), 2 * np.arange(9))
    assert doubler.sizes() == [1, 4, 4, 2]


def test_a_request_larger_than_a_batch_is_refused(make, doubler):
    with pytest.raises(StatusError, match="Task size 5 is larger than maximum input"):
        ask(make(max_batch_size=4), floats(*range(5)))
    assert doubler.runs == []


def test_a_full_queue_refuses_and_others_do_not(make, doubler, callers):
    batcher = make(num_threads=1, max_batch_size=2, max_enqueued_batches=2)
    held = hold_up(batcher, doubler, callers)
    waiting = [callers.ask(batcher, floats(n, n)) for n in range(2)]
    wait_for_rows(batcher, 4)
    with pytest.raises(StatusError, match="queue to which this task was") as caught:
        ask(batcher, floats(9))
    assert caught.value.code is Code.UNAVAILABLE
    other = callers.ask(batcher, floats(7), "other")
    wait_for_rows(batcher, 5)
    doubler.may_go.set()
    held.result()
    assert other.result() == [14]
    assert [answer.result().tolist() for answer in waiting] == [[0, 0], [2, 2]]


def test_a_split_request_that_does_not_fit_leaves_nothing_behind(
    make, doubler, callers
):
    batcher = make(
        num_threads=1,
        max_batch_size=100,
        max_execution_batch_size=2,
        splits_requests=True,
        max_enqueued_batches=3,
    )
    hold_up(batcher, doubler, callers)
    with pytest.raises(StatusError, match="is full"):
        ask(batcher, np.zeros(7, np.float32))
    wait_for_rows(batcher, 0)


def test_a_late_request_is_given_up_and_not_run(make, doubler, callers):
    batcher = make(num_threads=1)
    held = hold_up(batcher, doubler, callers)
    with pytest.raises(StatusError, match="timeout exceeded") as caught:
        ask(batcher, floats(5), timeout=0.02)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    punctual = callers.ask(batcher, floats(6))
    wait_for_rows(batcher, 2)
    doubler.may_go.set()
    assert held.result() == [2000]
    assert punctual.result() == [12]
    assert doubler.sizes() == [1, 1]


def test_a_batch_runs_as_long_as_its_most_patient_request(make, doubler, callers):
    batcher = make(num_threads=1)
    hold_up(batcher, doubler, callers)
    answers = [callers.ask(batcher, floats(1), "double", t) for t in (500, 1000)]
    wait_for_rows(batcher, 2)
    doubler.may_go.set()
    assert [answer.result() for answer in answers] == [[2], [2]]
    assert 500 < doubler.seconds[1] <= 1000


def test_one_requests_mistake_is_not_its_neighbours(make, doubler, callers):
    batcher = make(num_threads=1)
    hold_up(batcher, doubler, callers)
    good, bad = callers.ask(batcher, floats(1)), callers.ask(batcher, floats(-1))
    wait_for_rows(batcher, 2)
    doubler.may_go.set()
    assert good.result() == [2]
    with pytest.raises(StatusError, match="negative"):
        bad.result()


def test_an_error_reaches_all_of_a_batch(make, doubler, callers):
    batcher = make(num_threads=1)
    hold_up(batcher, doubler, callers)
    answers = [callers.ask(batcher, floats(1), "broken") for _ in range(2)]
    wait_for_rows(batcher, 2)
    doubler.may_go.set()
    errors = [answer.exception() for answer in answers]
    assert [str(error) for error in errors] == ["INTERNAL: broken"] * 2
    assert errors[0] is not errors[1]
    assert doubler.sizes() == [1, 2]


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("scalar", "Batched output tensor has 0 dimensions"),
        ("constant", "0th dimension does not equal the sum"),
    ],
)
def test_outputs_that_are_no_rows_are_refused(make, signature: str, message: str):
    with pytest.raises(StatusError, match=message) as caught:
        ask(make(), floats(1), signature)
    assert caught.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.float32(1).reshape(())}, "must have at least one dimension"),
        ({"x": floats(1), "z": floats(1, 2)}, "must have equal 0th-dimension size"),
    ],
)
def test_inputs_that_are_no_rows_are_refused(make, inputs: dict, message: str):
    with pytest.raises(StatusError, match=message) as caught:
        make().run("double", inputs, ["y"], None)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_no_rows_are_answered_with_no_rows(make):
    batcher = make(max_batch_size=4, allowed_batch_sizes=(2, 4))
    assert ask(batcher, floats()).tolist() == []


def test_rows_of_strings_keep_their_bytes(make, doubler, callers):
    batcher = make(num_threads=1)
    hold_up(batcher, doubler, callers)
    texts = [b"a\0", b"", b"\xff" * 50]
    answers = [callers.ask(batcher, np.array([text], object)) for text in texts]
    wait_for_rows(batcher, 3)
    doubler.may_go.set()
    assert [answer.result().tolist() for answer in answers] == [[t * 2] for t in texts]
    assert doubler.sizes() == [1, 3]


def test_closing_answers_what_waits_and_takes_no_more(doubler, callers):
    batcher = Batcher(
        doubler, BatchingOptions(num_threads=1, timeout_seconds=PATIENCE * 10)
    )
    answer = callers.ask(batcher, floats(4))
    wait_for_rows(batcher, 1)
    batcher.close()
    assert answer.result() == [8]
    with pytest.raises(StatusError, match="closed") as caught:
        ask(batcher, floats(1))
    assert caught.value.code is Code.UNAVAILABLE
    assert not [t for t in threading.enumerate() if t.name.startswith("batch_threads")]


def test_a_defect_fails_its_requests_and_not_the_service(
    monkeypatch: pytest.MonkeyPatch,
):
    told = threading.Semaphore(0)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: told.release())

    def run(signature_name, inputs, outputs, timeout):
        if signature_name == "defect":
            raise ZeroDivisionError("a defect")
        return {"y": inputs["x"]}

    batcher = Batcher(run, BatchingOptions(num_threads=1))
    for _ in range(3):
        with pytest.raises(StatusError, match="a defect") as caught:
            ask(batcher, floats(1), "defect")
        assert caught.value.code is Code.INTERNAL
        assert told.acquire(timeout=PATIENCE), "the defect was hidden"
        assert ask(batcher, floats(2)) == [2]
    batcher.close()


# The parameters.


def options(text: str) -> BatchingOptions:
    return read_batching_options(parse_text(text, BatchingParameters, "test"))


def test_absent_parameters_have_tensorflow_servings_defaults():
    found = options("")
    assert found == BatchingOptions(
        max_batch_size=1000,
        timeout_seconds=0.0,
        max_enqueued_batches=10,
        num_threads=found.num_threads,
        allowed_batch_sizes=(),
        splits_requests=False,
        max_execution_batch_size=None,
    )
    assert found.num_threads >= 1


def test_parameters_are_read():
    found = options(
        "max_batch_size { value: 64 } batch_timeout_micros { value: 1500 } "
        "max_enqueued_batches { value: 7 } num_batch_threads { value: 3 } "
        'thread_pool_name { value: "mine" } allowed_batch_sizes: [8, 16] '
        "enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 16 }"
    )
    assert found == BatchingOptions(
        max_batch_size=64,
        timeout_seconds=0.0015,
        max_enqueued_batches=7,
        num_threads=3,
        thread_name="mine",
        allowed_batch_sizes=(8, 16),
        splits_requests=True,
        max_execution_batch_size=16,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1"),
        ("batch_timeout_micros { value: -1 }", "must be at least 0. Received: -1"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be at least 1"),
        ("max_enqueued_batches { value: 0 }", "max_enqueued_batches must be at"),
        ("allowed_batch_sizes: [4, 4]", "must be positive and increase"),
        ("allowed_batch_sizes: [0, 1000]", "must be positive and increase"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]",
            "must end with max_batch_size, which is 8",
        ),
        ("pad_variable_length_inputs: true", "Set it to false"),
        ("max_execution_batch_size { value: 4 }", "enable_large_batch_splitting"),
        (
            "max_batch_size { value: 8 } max_execution_batch_size { value: 9 } "
            "enable_large_batch_splitting { value: true }",
            "at most max_batch_size",
        ),
    ],
)
def test_wrong_parameters_are_told(text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        options(text)
