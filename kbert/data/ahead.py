"""Work done by threads ahead of the one who needs it, in order and bounded."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_threads: int,
    num_ahead: int,
) -> Generator[Result]:
    """Yields `function` of each item, in the order of the items.

    One thread takes the items, `num_threads` others call the function, on at most
    `num_ahead` items that are not asked for yet. Closing the generator waits for the
    calls under way, no more. What the items or the function raise is raised where its
    result would be.
    """
    source = iter(items)
    reader = ThreadPoolExecutor(1, "kbert-read")
    pool = ThreadPoolExecutor(num_threads, "kbert-ahead")

    def take() -> Future[Result] | None:
        for item in source:
            return pool.submit(function, item)
        return None

    try:
        waiting = deque(reader.submit(take) for _ in range(num_ahead))
        while (future := waiting.popleft().result()) is not None:
            result = future.result()
            waiting.append(reader.submit(take))
            del future  # it holds the result, which the consumer may be done with
            yield result
            del result
    finally:
        # The reader first: it submits to the pool.
        reader.shutdown(cancel_futures=True)
        pool.shutdown(cancel_futures=True)
