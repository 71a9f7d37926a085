"""--deterministic reaches the backend, in a process of its own: it holds for all."""

import os
import subprocess
import sys

import pytest

SEES = {
    "tensorflow": (
        "from tensorflow.python.framework import config\n"
        "print(config.is_op_determinism_enabled())"
    ),
    "jax": (
        "import os\n"
        "print('--xla_gpu_deterministic_ops=true' in os.environ['XLA_FLAGS'])"
    ),
}


@pytest.mark.parametrize("backend", SEES)
def test_the_backend_is_told(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax")
    code = (
        "from kbert.training.determinism import make_deterministic\n"
        f"make_deterministic()\n{SEES[backend]}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True"]
