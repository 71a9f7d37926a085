"""Which precision and which compiler a training uses on this machine, and why."""

from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from kbert.errors import ConfigError
from kbert.training.matmul_rate import matmul_rates

# Of products in half precision; the rest of a step gains little by it.
_LEAST_GAIN = 1.2


@dataclass(frozen=True)
class Choice:
    """Precision and compiler of a training.

    Attributes:
        precision: a Keras dtype policy.
        jit_compile: whether XLA compiles the step.
        reason: why, for people.
    """

    precision: str
    jit_compile: bool
    reason: str

    def __str__(self) -> str:
        xla = "with XLA" if self.jit_compile else "without XLA"
        return f"{self.precision} {xla} ({self.reason})"


def choose(precision: str, jit_compile: str | bool) -> Choice:
    """Resolves `auto` by what was measured to be fast on such a machine.

    A CPU that has bfloat16 instructions may multiply with them twice as fast as in
    float32, or at half the speed: a product in each, timed here, decides. When XLA
    compiles it, a bfloat16 step on a CPU is 1.7 times slower, and a float32 step as
    fast as without. On a GPU XLA pays.

    Raises:
        ConfigError: XLA was asked for and this machine cannot compile with it.
    """
    gpu = _gpu_capability()
    reasons = ["as set"] if precision != "auto" and jit_compile != "auto" else []
    if precision == "auto":
        precision, reason = _auto_precision(gpu)
        reasons.append(reason)
    if jit_compile == "auto":
        jit_compile, reason = _auto_jit_compile(gpu)
        reasons.append(reason)
    elif jit_compile and (problem := _xla_problem()):
        raise ConfigError(
            f"train.jit_compile is true, and XLA cannot compile on this machine: "
            f"{problem}. Set train.jit_compile=false, or mend the CUDA installation "
            "that TensorFlow uses."
        )
    return Choice(precision, bool(jit_compile), "; ".join(reasons))


def _auto_precision(gpu: tuple[int, int] | None) -> tuple[str, str]:
    if gpu is not None:
        name = f"GPU of compute capability {gpu[0]}.{gpu[1]}"
        if gpu >= (8, 0):
            return "mixed_bfloat16", f"{name} has bfloat16"
        if gpu >= (7, 0):
            return "mixed_float16", f"{name} has float16 and no bfloat16"
        return "float32", f"{name} is not faster in half precision"
    if not _cpu_has_bfloat16():
        return "float32", "no bfloat16 instructions are known of this CPU"
    if keras.config.backend() != "tensorflow":
        return "float32", "XLA does not use this CPU's bfloat16 instructions"
    rates = matmul_rates(["bfloat16", "float32"])
    gain = rates["bfloat16"] / rates["float32"]
    reason = f"this CPU multiplies {gain:.1f} times as fast in bfloat16 as in float32"
    return "mixed_bfloat16" if gain >= _LEAST_GAIN else "float32", reason


def _auto_jit_compile(gpu: tuple[int, int] | None) -> tuple[bool, str]:
    if keras.config.backend() == "jax":
        return True, "JAX always compiles"
    if gpu is None:
        return False, "XLA does not pay on a CPU"
    if problem := _xla_problem():
        return False, f"XLA cannot compile here: {problem}"
    return True, "XLA pays on a GPU"


def _gpu_capability() -> tuple[int, int] | None:
    """The compute capability of the first GPU that Keras uses; None without one."""
    if keras.config.backend() == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform != "gpu":
            return None
        major, _, minor = str(device.compute_capability).partition(".")
        return int(major), int(minor or 0)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    details = tf.config.experimental.get_device_details(gpus[0])
    return details.get("compute_capability", (0, 0))


def _cpu_has_bfloat16() -> bool:
    try:
        words = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").split()
    except OSError:  # Not Linux.
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(words))


def _xla_problem() -> str | None:
    """Why XLA cannot compile here, found by one product before any slow work."""
    if keras.config.backend() != "tensorflow":
        return None

    @tf.function(jit_compile=True, autograph=False)
    def product(x: tf.Tensor) -> tf.Tensor:
        return x @ x

    try:
        product(tf.ones((2, 2)))
    except tf.errors.OpError as error:
        return str(error.message.splitlines()[0])
    return None
