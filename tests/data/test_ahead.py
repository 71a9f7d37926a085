"""Work ahead: in order, bounded, and over when it is closed."""

import threading
import time
from itertools import count

import pytest

from kbert.data.ahead import map_ahead
from kbert.errors import DataError


def threads_of_ahead() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("kbert-")]


def test_results_come_in_the_order_of_the_items():
    def slow_at_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * number

    results = map_ahead(slow_at_first, range(20), num_threads=4, num_ahead=6)
    assert list(results) == [number * number for number in range(20)]
    assert threads_of_ahead() == []


def test_no_item_gives_no_result():
    assert list(map_ahead(str, [], num_threads=2, num_ahead=3)) == []


def test_takes_no_more_items_than_asked_for():
    taken = []

    def items():
        for number in count():
            taken.append(number)
            yield number

    source = items()
    results = map_ahead(str, source, num_threads=2, num_ahead=3)
    assert [next(results) for _ in range(5)] == ["0", "1", "2", "3", "4"]
    # Five are handed out, and of the last one the place is taken already.
    assert max(taken) <= 5 + 3
    results.close()
    assert threads_of_ahead() == []
    num_taken = len(taken)
    time.sleep(0.02)
    assert len(taken) == num_taken


def test_error_of_an_item_comes_in_its_place():
    def items():
        yield 1
        raise DataError("a.txt, line 2: broken")

    results = map_ahead(str, items(), num_threads=2, num_ahead=4)
    assert next(results) == "1"
    with pytest.raises(DataError, match="line 2: broken"):
        next(results)
    assert threads_of_ahead() == []


def test_error_of_the_function_comes_in_its_place():
    def divide(number: int) -> float:
        return 6 / number

    results = map_ahead(divide, [2, 3, 0, 1], num_threads=3, num_ahead=4)
    assert [next(results), next(results)] == [3, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threads_of_ahead() == []
