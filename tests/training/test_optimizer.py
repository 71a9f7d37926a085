"""AdamW and its schedule against NumPy."""

import json

import keras
import numpy as np
import pytest

from kbert.training.lamb import Lamb
from kbert.training.optimizer import AdamW, WarmupSchedule, choose_learning_rate


def adamw_in_numpy(value, gradients, *, rate, decay, rate_factor=1.0):
    """The update of Loshchilov & Hutter 2019, algorithm 2, with Keras's epsilon."""
    mean = second = np.zeros_like(value)
    for step, gradient in enumerate(gradients, start=1):
        lr = rate * rate_factor
        mean = 0.9 * mean + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        alpha = lr * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        value = value - lr * decay * value - alpha * mean / (np.sqrt(second) + 1e-6)
    return value


def run_keras(name, value, gradients, **arguments):
    variable = keras.Variable(value, name=name)
    rates = {variable.path: arguments.pop("rate_factor", 1.0)}
    optimizer = AdamW(
        learning_rate=arguments.pop("rate"), rates=rates, decay=arguments.pop("decay")
    )
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return np.asarray(variable)


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 3)).astype("float32"), [
        rng.normal(size=(4, 3)).astype("float32") for _ in range(5)
    ]


def test_kernel_is_updated_and_decayed(problem):
    value, gradients = problem
    found = run_keras("kernel", value, gradients, rate=0.01, decay=0.1)
    expected = adamw_in_numpy(value, gradients, rate=0.01, decay=0.1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["bias", "gamma", "beta"])
def test_biases_and_layer_norm_are_not_decayed(problem, name):
    value, gradients = problem
    found = run_keras(name, value, gradients, rate=0.01, decay=0.5)
    expected = adamw_in_numpy(value, gradients, rate=0.01, decay=0.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_variable_has_its_own_rate_for_update_and_decay(problem):
    value, gradients = problem
    found = run_keras(
        "kernel", value, gradients, rate=0.01, decay=0.1, rate_factor=0.25
    )
    expected = adamw_in_numpy(value, gradients, rate=0.01, decay=0.1, rate_factor=0.25)
    np.testing.assert_allclose(found, expected, atol=1e-6)


SCHEDULE = WarmupSchedule(0.1, warmup_steps=2, total_steps=9, shape="cosine")


@pytest.mark.parametrize("rate", [0.25, SCHEDULE], ids=["rate", "schedule"])
@pytest.mark.parametrize("kind", [AdamW, Lamb])
def test_it_comes_back_from_its_config(problem, kind, rate):
    value, gradients = problem
    optimizer = kind(
        rate, decay=0.1, rates={"kernel": 0.5}, epsilon=0.01, global_clipnorm=1.0
    )
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    copies = [
        keras.optimizers.deserialize(config),
        kind.from_config(optimizer.get_config()),
    ]
    results = []
    for one in [optimizer, *copies]:
        assert type(one) is kind
        assert one.get_config() == optimizer.get_config()
        variable = keras.Variable(value, name="kernel")
        for gradient in gradients:
            one.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        results.append(np.asarray(variable))
    np.testing.assert_array_equal(results[1:], [results[0]] * 2)


def rates(shape: str, warmup: int = 4, total: int = 12) -> list[float]:
    schedule = WarmupSchedule(2.0, warmup_steps=warmup, total_steps=total, shape=shape)
    return [float(schedule(step)) for step in range(total + 1)]


def test_warmup_then_linear():
    expected = [0.5, 1, 1.5, 2, 2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0]
    assert rates("linear") == pytest.approx(expected)


def test_warmup_then_cosine():
    falling = [1 + np.cos(np.pi * i / 8) for i in range(9)]
    assert rates("cosine") == pytest.approx([0.5, 1, 1.5, 2, *falling], abs=1e-6)


def test_warmup_then_constant():
    assert rates("constant") == pytest.approx([0.5, 1, 1.5] + [2] * 10)


def test_no_warmup_starts_at_the_peak():
    assert rates("linear", warmup=0, total=4) == pytest.approx([2, 1.5, 1, 0.5, 0])


def test_smaller_encoders_get_larger_rates():
    found = [choose_learning_rate(d, pretrained=True) for d in (1024, 768, 384, 128)]
    assert found == [2e-5, 3e-5, 1e-4, 3e-4]
