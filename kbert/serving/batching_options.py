"""How requests are put together in batches: TensorFlow Serving's BatchingParameters.

Its defaults, where a parameter is absent (session_bundle_config.proto): batches of up
to 1000 rows, no waiting, a thread a core, 10 batches waiting in a queue.
"""

import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kbert.errors import ConfigError

_LEAST = {
    "max_batch_size": 1,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 1,
    "num_batch_threads": 1,
    "max_execution_batch_size": 1,
}


def _num_cores() -> int:
    # The cores that this process may use, which in a container are fewer.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class BatchingOptions:
    """BatchingParameters, checked and with their defaults.

    Attributes:
        max_batch_size: the largest number of rows of a request.
        timeout_seconds: how long a batch waits for more rows; 0 to run at once.
        max_enqueued_batches: how many batches may wait for a thread, a queue.
        num_threads: how many batches run at once.
        thread_name: what the threads are called.
        allowed_batch_sizes: increasing; a batch is filled up to the next of them.
            Empty for any size.
        splits_requests: whether a request may run in several batches, to fill them up.
        max_execution_batch_size: the largest number of rows of a batch, where requests
            are split; None for `max_batch_size`.
    """

    max_batch_size: int = 1000
    timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    num_threads: int = field(default_factory=_num_cores)
    thread_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    splits_requests: bool = False
    max_execution_batch_size: int | None = None

    @property
    def largest_batch(self) -> int:
        """The largest number of rows of a batch."""
        return self.max_execution_batch_size or self.max_batch_size


def read_batching_options(parameters: Any) -> BatchingOptions:
    """The options of a `kbert.protos.BatchingParameters` message.

    Raises:
        ConfigError: a parameter is out of range, contradicts another, or asks for
            padding.
    """
    if parameters.pad_variable_length_inputs:
        raise ConfigError(
            "pad_variable_length_inputs pads each request with its own first value, "
            "which for token ids is [CLS], and so changes answers. Set it to false; "
            "an export of kbert pads in the graph."
        )
    given = {
        name: getattr(parameters, name).value
        for name, least in _LEAST.items()
        if _has_at_least(parameters, name, least)
    }
    largest = given.get("max_batch_size", BatchingOptions.max_batch_size)
    executed = given.get("max_execution_batch_size")
    splits = parameters.enable_large_batch_splitting.value
    if executed is not None and not splits:
        raise ConfigError(
            "max_execution_batch_size needs enable_large_batch_splitting."
        )
    if executed is not None and executed > largest:
        raise ConfigError(
            "max_execution_batch_size must be at most max_batch_size. Received: "
            f"{executed} and {largest}."
        )
    sizes = tuple(parameters.allowed_batch_sizes)
    _check_allowed_sizes(sizes, executed or largest, splits)
    micros = given.get("batch_timeout_micros", 0)
    options = BatchingOptions()
    return BatchingOptions(
        max_batch_size=largest,
        timeout_seconds=micros / 1e6,
        max_enqueued_batches=given.get(
            "max_enqueued_batches", options.max_enqueued_batches
        ),
        num_threads=given.get("num_batch_threads", options.num_threads),
        thread_name=parameters.thread_pool_name.value or options.thread_name,
        allowed_batch_sizes=sizes,
        splits_requests=splits,
        max_execution_batch_size=executed,
    )


def _has_at_least(parameters: Any, name: str, least: int) -> bool:
    """Whether a parameter is given; raises ConfigError where it is too small."""
    if not parameters.HasField(name):
        return False
    value = getattr(parameters, name).value
    if value < least:
        raise ConfigError(f"{name} must be at least {least}. Received: {value}.")
    return True


def _check_allowed_sizes(sizes: tuple[int, ...], largest: int, splits: bool) -> None:
    if not sizes:
        return
    if sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
        raise ConfigError(
            "allowed_batch_sizes must be positive and increase. Received: "
            f"{list(sizes)}."
        )
    if sizes[-1] != largest:
        bound = "max_execution_batch_size" if splits else "max_batch_size"
        raise ConfigError(
            f"allowed_batch_sizes must end with {bound}, which is {largest}. "
            f"Received: {list(sizes)}."
        )
