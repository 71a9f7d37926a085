"""The rate of products: that it is one of products, whatever it is here."""

from types import SimpleNamespace

import pytest

from kbert.training import matmul_rate
from kbert.training.matmul_rate import matmul_rates


def test_operations_over_the_median_of_seconds(monkeypatch):
    # Each product takes 1 s but for one that is disturbed, and the first.
    clock = iter([0, 100, 200, 201, 300, 350, 400, 401])
    monkeypatch.setattr(
        matmul_rate, "time", SimpleNamespace(perf_counter=lambda: next(clock))
    )
    assert matmul_rates(["float32"], size=8, rounds=3) == {"float32": 2 * 8**3}


def test_every_dtype_is_multiplied_as_such(monkeypatch):
    seen = []

    def record(x, y):
        seen.append(x.dtype.name)
        return x @ y

    monkeypatch.setattr(matmul_rate.ops, "matmul", record)
    rates = matmul_rates(["bfloat16", "float32"], size=64, rounds=1)
    assert seen == ["bfloat16", "float32"]  # traced once each
    assert rates["bfloat16"] > 0 < rates["float32"]


def test_a_dtype_that_is_none():
    with pytest.raises(ValueError, match="float17"):
        matmul_rates(["float17"], size=8)
