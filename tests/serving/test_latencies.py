"""Percentiles of request times."""

import math

import numpy as np
import pytest

from kbert.serving.latencies import Latencies


def test_percentiles_are_those_of_numpy():
    seconds = np.random.default_rng(0).gamma(2.0, 0.01, 1000)
    latencies = Latencies()
    for second in seconds:
        latencies.add(5.0, 5.0 + second)
    for percent, value in (
        (50, latencies.p50),
        (95, latencies.p95),
        (99, latencies.p99),
        (0, latencies.percentile(0)),
        (100, latencies.percentile(100)),
    ):
        assert value == pytest.approx(np.percentile(seconds, percent), rel=1e-9)
    assert latencies.count == 1000
    assert latencies.requests_per_second == pytest.approx(1000 / seconds.max())


def test_one_and_none():
    latencies = Latencies()
    assert latencies.summary() == "no requests"
    assert math.isnan(latencies.p50)
    assert math.isnan(latencies.requests_per_second)
    latencies.add(1.0, 1.25)
    assert latencies.p99 == 0.25
    assert latencies.summary() == (
        "1 request, 4.0 requests/s, p50 250.0 ms, p95 250.0 ms, p99 250.0 ms"
    )


def test_memory_is_bounded_and_the_count_is_not():
    latencies = Latencies()
    for number in range(100_500):
        latencies.add(number, number + (1.0 if number < 500 else 0.5))
    assert latencies.count == 100_500
    assert latencies.percentile(100) == 0.5
