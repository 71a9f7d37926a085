"""Which precision and compiler a machine gets, for machines of several kinds."""

import pytest
import tensorflow as tf

from kbert.errors import ConfigError
from kbert.training import precision
from kbert.training.precision import choose


@pytest.fixture
def machine(monkeypatch):
    """Pretends to be a machine: its GPU, its CPU, and whether XLA works."""

    def pretend(*, gpu=None, bfloat16=None, xla_problem=None):
        rates = {"float32": 4e11, "bfloat16": 4e11 * (bfloat16 or 0)}
        monkeypatch.setattr(precision, "_gpu_capability", lambda: gpu)
        monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: bool(bfloat16))
        monkeypatch.setattr(precision, "matmul_rates", lambda dtypes: rates)
        monkeypatch.setattr(precision, "_xla_problem", lambda: xla_problem)

    return pretend


@pytest.mark.parametrize(
    ("kind", "expected", "reason"),
    [
        ({"bfloat16": 1.9}, ("mixed_bfloat16", False), "1.9 times as fast in bf"),
        ({"bfloat16": 0.5}, ("float32", False), "0.5 times as fast in bfloat16"),
        ({}, ("float32", False), "no bfloat16 instructions"),
        ({"gpu": (9, 0)}, ("mixed_bfloat16", True), "XLA pays on a GPU"),
        ({"gpu": (7, 5)}, ("mixed_float16", True), "no bfloat16"),
        ({"gpu": (6, 1)}, ("float32", True), "not faster"),
        (
            {"gpu": (8, 0), "xla_problem": "libdevice not found"},
            ("mixed_bfloat16", False),
            "XLA cannot compile here: libdevice not found",
        ),
    ],
)
def test_auto(machine, kind, expected, reason):
    machine(**kind)
    choice = choose("auto", "auto")
    assert (choice.precision, choice.jit_compile) == expected
    assert reason in str(choice)


def test_what_is_set_is_taken(machine):
    machine(bfloat16=1.9)
    choice = choose("float32", True)
    assert (choice.precision, choice.jit_compile) == ("float32", True)
    assert str(choice) == "float32 with XLA (as set)"


def test_xla_that_was_asked_for_and_does_not_work_is_an_error(machine):
    machine(xla_problem="libdevice not found")
    with pytest.raises(ConfigError, match=r"libdevice not found.*jit_compile=false"):
        choose("float32", True)


def test_xla_is_really_tried(monkeypatch):
    assert precision._xla_problem() is None

    def fail(*arguments, **named):
        raise tf.errors.NotFoundError(None, None, "no compiler\nand more")

    monkeypatch.setattr(precision.tf, "ones", fail)
    assert precision._xla_problem() == "no compiler"
