"""A model at work, timed beside the machine's own limit."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import keras

from kbert.preset_files import Architecture
from kbert.training.precision import Choice
from kbert.workflows.benching.peak import Peak, large_size, product_rate
from kbert.workflows.benching.timing import (
    Clock,
    Timing,
    format_seconds,
    showing,
    time_call,
)
from kbert.workflows.machine import machine, peak_memory, versions

# The first traces; the next ones still make the allocator and caches grow.
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Workload:
    """What is measured.

    Attributes:
        kind: finetune, pretrain or predict.
        model: the preset, or the size of a new model.
        batch_size: rows of a step.
        length: tokens of each row; none is padding.
        choice: in what it computes, and why.
        operations: of the matrix products of a step.
        build_seconds: how long the model took to build and its weights to load.
        step: does it once; returns when it is computed.
    """

    kind: str
    model: str
    architecture: Architecture
    batch_size: int
    length: int
    choice: Choice
    operations: int
    build_seconds: float
    step: Callable[[], object]


@dataclass(frozen=True)
class ModelSpeed:
    """What was measured.

    Attributes:
        memory_bytes: the process's peak, of main memory.
    """

    workload: Workload
    timing: Timing
    peak: Peak
    memory_bytes: int

    @property
    def tokens_per_second(self) -> float:
        """At the median step."""
        return self.workload.batch_size * self.workload.length / self.timing.median

    @property
    def examples_per_second(self) -> float:
        """At the median step."""
        return self.workload.batch_size / self.timing.median

    @property
    def operations_per_second(self) -> float:
        """Of the matrix products, at the median step."""
        return self.workload.operations / self.timing.median

    @property
    def share_of_peak(self) -> float:
        """Of the products' rate in the machine's own; 1 would be all."""
        return self.operations_per_second / self.peak.rate

    def to_dict(self) -> dict[str, Any]:
        """All figures, in seconds, bytes and operations, for JSON."""
        work = self.workload
        return {
            "bench": work.kind,
            "model": work.model,
            "architecture": asdict(work.architecture),
            "batch_size": work.batch_size,
            "length": work.length,
            "precision": work.choice.precision,
            "jit_compile": work.choice.jit_compile,
            "precision_reason": work.choice.reason,
            "build_seconds": work.build_seconds,
            "first_step_seconds": self.timing.first_seconds,
            "warm_up_steps": WARM_UP_STEPS,
            "steps": len(self.timing.seconds),
            "step_seconds": self.timing.to_dict(),
            "examples_per_second": self.examples_per_second,
            "tokens_per_second": self.tokens_per_second,
            "operations_per_step": work.operations,
            "operations_per_second": self.operations_per_second,
            "peak_dtype": self.peak.dtype,
            "peak_size": self.peak.size,
            "peak_before": self.peak.before,
            "peak_after": self.peak.after,
            "peak_operations_per_second": self.peak.rate,
            "share_of_peak": self.share_of_peak,
            "peak_memory_bytes": self.memory_bytes,
            "machine": machine(),
            "versions": versions(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """The figures by name, for people."""
        work, peak = self.workload, self.peak
        a, median = work.architecture, self.timing.median
        size = f"{a.num_layers} layers x {a.hidden_dim}, {a.vocabulary_size:,} tokens"
        first = format_seconds(self.timing.first_seconds)
        return [
            ("model", f"{work.model}, {size}, {a.num_parameters / 1e6:.1f} M weights"),
            ("batch", f"{work.batch_size} x {work.length} tokens, no padding"),
            ("precision", str(work.choice)),
            ("build", format_seconds(work.build_seconds)),
            ("first step", f"{first}, tracing included"),
            ("step", self.timing.summary()),
            ("examples/s", f"{self.examples_per_second:,.1f}"),
            ("tokens/s", f"{self.tokens_per_second:,.0f}"),
            ("products", _products(work.operations, median)),
            ("peak", _describe(peak)),
            ("share of peak", f"{self.share_of_peak:.1%}"),
            ("memory", f"{self.memory_bytes / 1e9:.2f} GB at most, GPUs' not counted"),
        ]


def measure(
    workload: Workload,
    num_steps: int,
    progress: TextIO | None = None,
    *,
    clock: Clock = time.perf_counter,
) -> ModelSpeed:
    """Times the steps of a model once it is warm, between two looks at the machine.

    Args:
        workload: can be done `WARM_UP_STEPS + num_steps` times.
        num_steps: those that count.
        progress: where to show how far it is; None for nowhere.

    Raises:
        TrainingError: the loss is no longer a number.
    """
    dtype = keras.DTypePolicy(workload.choice.precision).compute_dtype
    with showing(WARM_UP_STEPS + num_steps, progress) as on_step:

        def timed(number: int) -> float:
            seconds = time_call(workload.step, clock)
            on_step(number, workload.batch_size, workload.batch_size * workload.length)
            return seconds

        first, *_ = [timed(number) for number in range(1, WARM_UP_STEPS + 1)]
        size = large_size(dtype)
        before = product_rate(dtype, size)
        counted = range(WARM_UP_STEPS + 1, WARM_UP_STEPS + num_steps + 1)
        seconds = tuple(timed(number) for number in counted)
        memory_bytes = peak_memory()  # A large product takes some of its own.
        after = product_rate(dtype, size)
    peak = Peak(dtype, size, before, after)
    return ModelSpeed(workload, Timing(first, seconds), peak, memory_bytes)


def _products(operations: int, seconds: float) -> str:
    return f"{_giga(operations)} GFLOP a step, {_giga(operations / seconds)} GFLOP/s"


def _giga(number: float) -> str:
    value = number / 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _describe(peak: Peak) -> str:
    rates = f"before {_giga(peak.before)}, after {_giga(peak.after)}"
    size = f"{peak.size} x {peak.size}"
    return f"{_giga(peak.rate)} GFLOP/s in {peak.dtype}, {size} ({rates})"
