import re

import pytest
from prometheus_client import parser

from kbert.serving.metrics import Metrics
from kbert.serving.status import Code

# The text format: https://prometheus.io/docs/instrumenting/exposition_formats/
LINE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    r'\{(?P<labels>(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\} '
    r"(?P<value>[0-9.e+]+)"
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
TYPE = re.compile(r"# TYPE (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*) (counter|histogram)")


def parse(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels; fails on a line that is none."""
    samples = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("#"):
            assert TYPE.fullmatch(line), line
            continue
        match = LINE.fullmatch(line)
        assert match, line
        key = (match["name"], tuple(LABEL.findall(match["labels"])))
        assert key not in samples
        samples[key] = float(match["value"])
    return samples


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    samples = parse(metrics.exposition())
    return samples[f":tensorflow:serving:{name}", tuple(labels.items())]


def test_requests_are_counted_by_model_and_status():
    metrics = Metrics()
    for code in (Code.OK, Code.OK, Code.NOT_FOUND):
        metrics.observe("m", "predict", "REST", code, 0.001)
    assert sample(metrics, "request_count", model_name="m", status="OK") == 2
    assert sample(metrics, "request_count", model_name="m", status="NOT_FOUND") == 1


def test_names_are_those_of_tensorflow_serving():
    metrics = Metrics()
    metrics.observe("m", "Predict", "GRPC", Code.OK, 1)
    metrics.observe_runtime("m", "Predict", 1)
    metrics.observe_examples("m", 3)
    types = re.findall(r"# TYPE (\S+) (\S+)", metrics.exposition())
    prefix = ":tensorflow:serving:"
    assert dict(types) == {
        f"{prefix}request_count": "counter",
        f"{prefix}request_latency": "histogram",
        f"{prefix}runtime_latency": "histogram",
        f"{prefix}request_example_counts": "histogram",
        f"{prefix}request_example_count_total": "counter",
    }


def test_latency_is_in_microseconds_and_only_of_what_went_well():
    metrics = Metrics()
    labels = {"model_name": "m", "API": "predict", "entrypoint": "REST"}
    metrics.observe("m", "predict", "REST", Code.OK, 0.000_020)
    metrics.observe("m", "predict", "REST", Code.OK, 1.0)
    metrics.observe("m", "predict", "REST", Code.INTERNAL, 5.0)
    assert sample(metrics, "request_latency_sum", **labels) == 1_000_020
    assert sample(metrics, "request_latency_count", **labels) == 2
    assert sample(metrics, "request_latency_bucket", **labels, le="18") == 0
    assert sample(metrics, "request_latency_bucket", **labels, le="32.4") == 1
    assert sample(metrics, "request_latency_bucket", **labels, le="+Inf") == 2


def test_buckets_grow_by_1_8_from_10_and_never_shrink_in_count():
    metrics = Metrics()
    for seconds in (0, 1e-5, 0.003, 0.7, 100, 1e9):
        metrics.observe_runtime("m", "Predict", seconds)
    buckets = [
        (dict(labels)["le"], value)
        for (name, labels), value in parse(metrics.exposition()).items()
        if name.endswith("runtime_latency_bucket")
    ]
    limits, counts = zip(*buckets, strict=True)
    assert len(limits) == 33 + 1
    assert [float(limit) for limit in limits[:-1]] == pytest.approx(
        [10 * 1.8**power for power in range(33)], rel=1e-5
    )
    assert list(counts) == sorted(counts)
    assert counts[0] == 2
    assert counts[-1] == 6


def test_example_counts():
    metrics = Metrics()
    metrics.observe_examples("m", 3)
    metrics.observe_examples("m", 1)
    assert sample(metrics, "request_example_count_total", model="m") == 4
    assert sample(metrics, "request_example_counts_bucket", model="m", le="1") == 1
    assert sample(metrics, "request_example_counts_bucket", model="m", le="4") == 2


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "ü", "", "{},=", "\udcff"])
def test_label_values_are_escaped(name: str):
    metrics = Metrics()
    metrics.observe(name, "predict", "REST", Code.OK, 1)
    ((_, labels), _) = next(
        item for item in parse(metrics.exposition()).items() if "count" in item[0][0]
    )
    unescaped = re.sub(
        r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), dict(labels)["model_name"]
    )
    assert unescaped == name.encode("utf-8", "replace").decode()


def test_made_up_names_do_not_fill_the_memory():
    metrics = Metrics()
    for number in range(5000):
        metrics.observe(f"scan-{number}", "predict", "REST", Code.NOT_FOUND, 0)
    assert len(parse(metrics.exposition())) == 257
    others = {"model_name": "_other", "status": "NOT_FOUND"}
    assert sample(metrics, "request_count", **others) == 5000 - 256


def test_nothing_counted_is_an_empty_page():
    assert Metrics().exposition() == "\n"


def test_prometheus_client_reads_the_page():
    metrics = Metrics()
    metrics.observe('a"b\\c', "predict", "REST", Code.OK, 0.5)
    families = list(parser.text_string_to_metric_families(metrics.exposition()))
    assert {family.name for family in families} == {
        ":tensorflow:serving:request_count",
        ":tensorflow:serving:request_latency",
    }
