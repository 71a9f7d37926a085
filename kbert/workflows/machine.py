"""What a run notes of the machine and the software it was made with."""

import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import psutil
import tensorflow as tf

_PACKAGES = ("kbert", "keras", "keras-hub", "tensorflow", "tensorflow-text", "numpy")
_CPU_INFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide a result."""
    return {"python": platform.python_version()} | {
        name: _version(name) for name in _PACKAGES
    }


def machine() -> dict[str, Any]:
    """The platform, the processor, memory in bytes, GPUs and the Keras backend."""
    return {
        "platform": platform.platform(),
        "backend": keras.config.backend(),
        "cpu": _cpu_name(),
        "logical_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpu_names(),
    }


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _version(name: str) -> str:
    """A package's version; that of tensorflow-cpu, where that is what is installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        module = sys.modules.get(name.replace("-", "_"))
        return str(getattr(module, "__version__", "unknown"))


def _cpu_name() -> str:
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _gpu_names() -> list[str]:
    details = map(
        tf.config.experimental.get_device_details,
        tf.config.list_physical_devices("GPU"),
    )
    return [str(detail.get("device_name", "unknown")) for detail in details]
