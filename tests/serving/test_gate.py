import threading

import pytest

from kbert.serving.gate import Gate
from kbert.serving.status import Code, StatusError
from tests.serving.fake_models import wait_until


def refused(gate: Gate) -> StatusError:
    with pytest.raises(StatusError) as caught:
        gate.acquire()
    return caught.value


def is_closed(gate: Gate) -> bool:
    try:
        gate.acquire()
    except StatusError as error:
        return error.code is Code.UNAVAILABLE
    gate.release()
    return False


def test_lets_in_up_to_its_limit_and_again_after_one_has_left():
    gate = Gate(2)
    gate.acquire()
    with gate.enter():
        assert gate.in_flight == 2
        error = refused(gate)
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "limit of 2 requests" in error.message
    gate.acquire()
    assert gate.in_flight == 2


def test_a_request_that_fails_gives_its_place_back():
    gate = Gate(1)
    with pytest.raises(KeyError), gate.enter():
        raise KeyError
    assert gate.in_flight == 0


def test_drain_refuses_new_requests_and_waits_for_the_accepted():
    gate = Gate(2)
    gate.acquire()
    ended: list[bool] = []
    draining = threading.Thread(target=lambda: ended.append(gate.drain(None)))
    draining.start()
    wait_until(lambda: is_closed(gate))
    assert ended == []
    gate.release()
    draining.join(20)
    assert ended == [True]


def test_drain_gives_up_in_the_end():
    gate = Gate(1)
    gate.acquire()
    assert gate.drain(0.01) is False
    gate.release()
    assert gate.drain(0) is True


def test_counts_right_from_many_threads():
    gate, counted = Gate(8), []

    def work() -> None:
        for _ in range(300):
            try:
                with gate.enter():
                    counted.append(gate.in_flight)
            except StatusError:
                counted.append(0)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 16 * 300
    assert max(counted) <= 8
    assert gate.in_flight == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(limit: int):
    with pytest.raises(ValueError, match=f"limit={limit}"):
        Gate(limit)
