"""What one side of prepare.py tells of its preparation."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass
class Outcome:
    """One preparation.

    Attributes:
        seconds: of the clock, without importing TensorFlow.
        processor_seconds: of all cores together, in the same time.
        num_examples: that were written.
        mean_length: tokens of an example, padding left out.
        random_next_share: of the examples, those whose second segment is from another
            document.
    """

    seconds: float
    processor_seconds: float
    num_examples: int
    mean_length: float
    random_next_share: float

    def describe(self, megabytes: float) -> str:
        """For people, in a line."""
        return (
            f"{megabytes / self.seconds:.3f} MB/s, {self.num_examples} examples of "
            f"{self.mean_length:.1f} tokens, {self.random_next_share:.1%} random next"
        )


def measure(
    prepare: Callable[[], None], examples: Callable[[], tuple[int, int, int]]
) -> None:
    """Runs a preparation and prints its outcome as JSON.

    Args:
        prepare: what is measured.
        examples: counts what it wrote: examples, tokens, random next sentences.
    """
    start, processor_start = time.perf_counter(), time.process_time()
    prepare()
    seconds = time.perf_counter() - start
    processor_seconds = time.process_time() - processor_start
    num_examples, num_tokens, num_random = examples()
    outcome = Outcome(
        seconds,
        processor_seconds,
        num_examples,
        num_tokens / num_examples,
        num_random / num_examples,
    )
    print(json.dumps(asdict(outcome)))
