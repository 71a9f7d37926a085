"""kbert's MultiHeadAttention beside keras.layers.MultiHeadAttention, a training step.

Purpose: forward and backward of both on the same input with padding, with gradients of
the input and of every weight, in a tf.function, taken by turns in one process, so that
what else the machine is doing hits both alike. Equal outputs are a condition, checked
first. On a shared machine the processor time, of all threads, is the steadier figure.
The promise, at 32 x 128 x 384: kbert's is not slower.

    python benchmarks/pretraining/attention.py

Takes one to two minutes; expect ratios of 0.7 to 0.85 on two cores. Exits with 1 where
the outputs differ, or where the ratio of the medians of wall time is above 1.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from kbert.layers import MultiHeadAttention

Step = Callable[[], list[tf.Tensor]]


def main() -> int:
    arguments = parse_arguments()
    kept = True
    shape = (arguments.batch_size, arguments.length, arguments.hidden_dim)
    print(f"{' x '.join(map(str, shape))}, {arguments.num_heads} heads")
    for precision in arguments.precisions:
        for dropout in arguments.dropouts:
            ours, theirs = build_layers(shape, arguments.num_heads, precision, dropout)
            x, mask = make_batch(shape, ours.compute_dtype)
            call_theirs = keras_call(theirs)
            if not have_equal_outputs(ours(x, mask), call_theirs(x, mask)):
                print(f"{precision}: the outputs differ")
                return 1
            steps = {
                "kbert": make_step(ours, ours.trainable_weights, x, mask),
                "keras": make_step(call_theirs, theirs.trainable_weights, x, mask),
            }
            wall, cpu = measure(steps, arguments.rounds)
            is_slower = wall["kbert"] > wall["keras"]
            kept &= not is_slower
            print(
                f"{precision}, dropout {dropout:g}: "
                f"kbert {wall['kbert']:.1f} ms, keras {wall['keras']:.1f} ms, "
                f"ratio {wall['kbert'] / wall['keras']:.2f}; processor time "
                f"{cpu['kbert']:.1f} and {cpu['keras']:.1f} ms, "
                f"ratio {cpu['kbert'] / cpu['keras']:.2f}"
                f"{': SLOWER' if is_slower else ''}",
                flush=True,
            )
    return 0 if kept else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--length", type=int, default=128, help="tokens a row")
    parser.add_argument("--hidden-dim", type=int, default=384)
    parser.add_argument("--num-heads", type=int, default=12)
    parser.add_argument(
        "--precisions", nargs="+", default=["float32", "mixed_bfloat16"]
    )
    parser.add_argument("--dropouts", nargs="+", type=float, default=[0.0, 0.1])
    parser.add_argument("--rounds", type=int, default=40, help="steps of each")
    return parser.parse_args()


def build_layers(
    shape: tuple[int, int, int], num_heads: int, precision: str, dropout: float
) -> tuple[MultiHeadAttention, keras.layers.MultiHeadAttention]:
    """Both layers, with the same weights."""
    head_dim = shape[2] // num_heads
    ours = MultiHeadAttention(num_heads, dropout=dropout, dtype=precision)
    theirs = keras.layers.MultiHeadAttention(
        num_heads, head_dim, dropout=dropout, dtype=precision
    )
    ours.build(shape)
    theirs.build(shape, shape)
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.05, weight.shape) for weight in ours.trainable_weights]
    for weight, value in zip(ours.trainable_weights, weights, strict=True):
        weight.assign(value)
    kernel, bias, *output = weights
    parts = zip(np.split(kernel, 3, axis=-1), np.split(bias, 3), strict=True)
    values = [value for part in parts for value in part] + output
    for weight, value in zip(theirs.trainable_weights, values, strict=True):
        weight.assign(value.reshape(weight.shape))
    return ours, theirs


def make_batch(shape: tuple[int, int, int], dtype: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Random tokens, and a mask of rows between a third full and full."""
    rng = np.random.default_rng(1)
    batch, length, _ = shape
    lengths = rng.integers(length // 3, length + 1, (batch, 1))
    mask = tf.constant(np.arange(length) < lengths)
    return tf.cast(rng.normal(size=shape), dtype), mask


def keras_call(layer: keras.layers.MultiHeadAttention) -> Callable[..., tf.Tensor]:
    def call(x: tf.Tensor, mask: tf.Tensor, training: bool = False) -> tf.Tensor:
        return layer(x, x, attention_mask=mask[:, None, :], training=training)

    return call


def have_equal_outputs(ours: tf.Tensor, theirs: tf.Tensor) -> bool:
    tolerance = 1e-5 if ours.dtype == tf.float32 else 0.02
    ours, theirs = tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32)
    return float(tf.reduce_max(tf.abs(ours - theirs))) < tolerance


def make_step(
    layer: Callable[..., tf.Tensor],
    weights: list[keras.Variable],
    x: tf.Tensor,
    mask: tf.Tensor,
) -> Step:
    """Forward and backward, as one graph."""

    @tf.function(autograph=False)
    def step(x: tf.Tensor, mask: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.cast(layer(x, mask, training=True), tf.float32))
        return tape.gradient(loss, [x, *(weight.value for weight in weights)])

    return lambda: step(x, mask)


def measure(
    steps: dict[str, Step], rounds: int, warm_up: int = 3
) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of wall and of processor time, in milliseconds, by name."""
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warm_up + rounds):
        # A B, B A, A B: neither always comes first.
        for name, step in list(steps.items())[:: 1 if number % 2 == 0 else -1]:
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            step()[0].numpy()
            if number >= warm_up:
                wall[name].append(1e3 * (time.perf_counter() - wall_start))
                cpu[name].append(1e3 * (time.process_time() - cpu_start))
    return (
        {name: statistics.median(times) for name, times in wall.items()},
        {name: statistics.median(times) for name, times in cpu.items()},
    )


if __name__ == "__main__":
    sys.exit(main())
