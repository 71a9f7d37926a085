"""LAMB against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.training.lamb import Lamb
from kbert.training.optimizer import WarmupSchedule


def lamb_in_numpy(value, gradients, rates, *, decay, adapted=True):
    """You et al. 2020, algorithm 2, in float64."""
    value = np.asarray(value, np.float64)
    mean = second = np.zeros_like(value)
    for count, (gradient, rate) in enumerate(
        zip(gradients, rates, strict=True), start=1
    ):
        gradient = np.asarray(gradient, np.float64)
        mean = 0.9 * mean + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = np.sqrt(second / (1 - 0.999**count))
        step = mean / (1 - 0.9**count) / (root + 1e-6) + decay * value
        norms = np.linalg.norm(value), np.linalg.norm(step)
        ratio = norms[0] / norms[1] if adapted and all(norms) else 1.0
        value = value - rate * ratio * step
    return value


def run_keras(values, gradients, learning_rate, *, rates=None, **arguments):
    """The variables of `values` by name after the gradients of all steps."""
    variables = {name: keras.Variable(v, name=name) for name, v in values.items()}
    by_path = {variables[name].path: rate for name, rate in (rates or {}).items()}
    optimizer = Lamb(learning_rate, rates=by_path, **arguments)
    for step in gradients:
        tensors = [keras.ops.convert_to_tensor(step[name]) for name in variables]
        optimizer.apply(tensors, list(variables.values()))
    return {name: np.asarray(variable) for name, variable in variables.items()}


def problem(*names, num_steps=6):
    rng = np.random.default_rng(0)
    shape = (5, 3)
    values = {name: rng.normal(size=shape).astype("float32") for name in names}
    gradients = [
        {name: rng.normal(size=shape).astype("float32") for name in names}
        for _ in range(num_steps)
    ]
    return values, gradients


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_kernel_takes_steps_in_proportion_to_itself(decay):
    values, gradients = problem("kernel")
    found = run_keras(values, gradients, 0.01, decay=decay)["kernel"]
    steps = [step["kernel"] for step in gradients]
    expected = lamb_in_numpy(values["kernel"], steps, [0.01] * 6, decay=decay)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = lamb_in_numpy(
        values["kernel"], steps, [0.01] * 6, decay=decay, adapted=False
    )
    assert np.abs(found - plain).max() > 1e-4, "the ratio has no effect"


@pytest.mark.parametrize("name", ["bias", "gamma", "beta"])
def test_biases_and_layer_norm_have_neither_decay_nor_ratio(name):
    values, gradients = problem(name, "kernel")
    found = run_keras(values, gradients, 0.01, decay=0.5)[name]
    steps = [step[name] for step in gradients]
    expected = lamb_in_numpy(values[name], steps, [0.01] * 6, decay=0.0, adapted=False)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_every_variable_has_its_own_ratio_and_rate():
    values, gradients = problem("query", "value")
    values["value"] *= 100.0
    found = run_keras(values, gradients, 0.01, decay=0.01, rates={"value": 0.25})
    for name, rate in {"query": 0.01, "value": 0.0025}.items():
        steps = [step[name] for step in gradients]
        expected = lamb_in_numpy(values[name], steps, [rate] * 6, decay=0.01)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("zeros", ["weights", "step"])
def test_a_norm_of_zero_makes_the_ratio_one(zeros):
    values, gradients = problem("kernel", num_steps=3)
    if zeros == "weights":
        values["kernel"] = np.zeros_like(values["kernel"])
    else:
        gradients[0]["kernel"] = np.zeros_like(gradients[0]["kernel"])
    found = run_keras(values, gradients, 0.01, decay=0.0)["kernel"]
    steps = [step["kernel"] for step in gradients]
    expected = lamb_in_numpy(values["kernel"], steps, [0.01] * 3, decay=0.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - values["kernel"]).max() > 1e-3


def test_the_schedule_counts_updates_where_gradients_are_accumulated():
    values, gradients = problem("kernel")
    schedule = WarmupSchedule(0.1, warmup_steps=2, total_steps=4, shape="linear")
    found = run_keras(
        values, gradients, schedule, decay=0.1, gradient_accumulation_steps=2
    )["kernel"]
    steps = [step["kernel"] for step in gradients]
    means = [(a + b) / 2 for a, b in zip(steps[::2], steps[1::2], strict=True)]
    expected = lamb_in_numpy(values["kernel"], means, [0.05, 0.1, 0.1], decay=0.1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_compiled_step_is_the_same():
    values, gradients = problem("kernel", num_steps=3)
    variable = keras.Variable(values["kernel"], name="kernel")
    optimizer = Lamb(0.01, decay=0.1)
    optimizer.build([variable])
    apply = tf.function(lambda g: optimizer.apply([g], [variable]), jit_compile=True)
    steps = [step["kernel"] for step in gradients]
    for gradient in steps:
        apply(tf.constant(gradient))
    expected = lamb_in_numpy(values["kernel"], steps, [0.01] * 3, decay=0.1)
    np.testing.assert_allclose(np.asarray(variable), expected, atol=1e-6)
