"""What the server counts, in Prometheus text under TensorFlow Serving's names.

A monitoring set-up made for one works with the other: the metric
`/tensorflow/serving/request_count` reads `:tensorflow:serving:request_count`, times
are microseconds, buckets grow by 1.8 from 10 (prometheus_exporter.cc, util.cc of
TensorFlow Serving).
"""

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from kbert.serving.status import Code

DEFAULT_PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_BOUNDS = tuple(10 * 1.8**power for power in range(33))
_EXAMPLE_BOUNDS = tuple(float(2**power) for power in range(15))
# A name in a request's path is a stranger's choice. Past this many, they share one
# label, so that a scan of made-up names cannot fill the memory.
_MAX_MODELS = 256
_OTHER_MODELS = "_other"

_Labels = tuple[str, ...]


class Metrics:
    """Counters and histograms by model; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: set[str] = set()
        self._requests = _Counter("request_count", ("model_name", "status"))
        self._latency = _Histogram(
            "request_latency", ("model_name", "API", "entrypoint"), _LATENCY_BOUNDS
        )
        self._runtime = _Histogram(
            "runtime_latency", ("model_name", "API", "runtime"), _LATENCY_BOUNDS
        )
        self._examples = _Counter("request_example_count_total", ("model",))
        self._examples_a_request = _Histogram(
            "request_example_counts", ("model",), _EXAMPLE_BOUNDS
        )

    def observe(
        self, model: str, api: str, entrypoint: str, status: Code, seconds: float
    ) -> None:
        """Count a request that was answered; its time counts where it went well.

        Args:
            api: "Predict", "Classify" and so on in gRPC, in small letters in REST.
            entrypoint: "GRPC" or "REST".
        """
        with self._lock:
            model = self._label(model)
            self._requests.add((model, status.name), 1)
            if status is Code.OK:
                self._latency.add((model, api, entrypoint), seconds * 1e6)

    def observe_runtime(self, model: str, api: str, seconds: float) -> None:
        """Count the time a request spent in the session, waiting in a batch included.

        Args:
            api: "Predict", "Classify" or "Regress".
        """
        with self._lock:
            self._runtime.add((self._label(model), api, "TF1"), seconds * 1e6)

    def observe_examples(self, model: str, count: int) -> None:
        """Count the tf.train.Examples of a classification or regression."""
        with self._lock:
            label = (self._label(model),)
            self._examples.add(label, count)
            self._examples_a_request.add(label, count)

    def exposition(self) -> str:
        """Return the page that Prometheus reads."""
        kinds = (
            self._examples_a_request,
            self._examples,
            self._requests,
            self._latency,
            self._runtime,
        )
        with self._lock:
            lines = [line for kind in kinds for line in kind.lines()]
        return "\n".join(lines) + "\n"

    def _label(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= _MAX_MODELS:
                return _OTHER_MODELS
            self._models.add(model)
        return model


class _Counter:
    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self._name = f":tensorflow:serving:{name}"
        self._labels = labels
        self._values: dict[_Labels, int] = {}

    def add(self, labels: _Labels, count: int) -> None:
        self._values[labels] = self._values.get(labels, 0) + count

    def lines(self) -> list[str]:
        if not self._values:
            return []
        return [
            f"# TYPE {self._name} counter",
            *(
                f"{self._name}{_braces(dict(zip(self._labels, cell, strict=True)))} {n}"
                for cell, n in sorted(self._values.items())
            ),
        ]


class _Histogram:
    def __init__(
        self, name: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name = f":tensorflow:serving:{name}"
        self._labels = labels
        self._bounds = bounds
        self._counts: dict[_Labels, list[int]] = {}
        self._sums: dict[_Labels, float] = {}

    def add(self, labels: _Labels, value: float) -> None:
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> list[str]:
        if not self._counts:
            return []
        lines = [f"# TYPE {self._name} histogram"]
        limits = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        for cell, counts in sorted(self._counts.items()):
            labels = dict(zip(self._labels, cell, strict=True))
            total = 0
            for limit, count in zip(limits, counts, strict=True):
                total += count
                braces = _braces({**labels, "le": limit})
                lines.append(f"{self._name}_bucket{braces} {total}")
            lines.append(f"{self._name}_sum{_braces(labels)} {self._sums[cell]:.0f}")
            lines.append(f"{self._name}_count{_braces(labels)} {total}")
        return lines


def _braces(labels: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value.encode("utf-8", "replace").decode("utf-8")
