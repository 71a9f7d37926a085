"""What a run notes of the machine and the software it was made with."""

import platform
import resource
import sys
from importlib import metadata

import keras

_PACKAGES = ("kbert", "keras", "keras-hub", "tensorflow", "tensorflow-text", "numpy")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide a result."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in _PACKAGES
    }


def machine() -> dict[str, str]:
    """The platform and the Keras backend."""
    return {"platform": platform.platform(), "backend": keras.config.backend()}


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
