"""Where the graph of an export is run: never in this process."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from kbert.errors import ExportError
from kbert.exporting import probe
from kbert.exporting.checklist.points import Skipped
from kbert.exporting.fresh import FreshServable, Libraries

# The most seconds that a request may take before the process is ended.
TIMEOUT = 120.0

_NATIVE = Path(__file__).with_name("native.py")


class Servable(Protocol):
    """A loaded SavedModel; see `FreshServable`, of which it is the interface."""

    def load(self, folder: Path) -> None: ...

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]: ...

    def wordpiece(self, model: bytes, words: Sequence[bytes]) -> list[list[int]]: ...

    def logged_errors(self) -> list[str]: ...

    def close(self) -> None: ...


class Backend(Protocol):
    """What loads and runs SavedModels."""

    def open(self, folder: Path, libraries: Libraries) -> Servable:
        """Loads a folder.

        Raises:
            ExportError: it cannot be loaded.
        """

    def load_natively(self, folder: Path) -> None:
        """Loads a folder by TensorFlow's C API.

        Raises:
            ExportError: it cannot be loaded.
            Skipped: this TensorFlow has no such library.
        """


class FreshProcesses:
    """Runs each in a fresh process, without Keras and kbert."""

    def open(self, folder: Path, libraries: Libraries) -> Servable:
        servable = FreshServable(folder, libraries=libraries, timeout=TIMEOUT)
        return servable.__enter__()

    def load_natively(self, folder: Path) -> None:
        tensorflow = _native_library()
        command = [sys.executable, "-P", str(_NATIVE), str(tensorflow), str(folder)]
        try:
            done = subprocess.run(
                [*command, *map(str, probe.op_libraries("portable"))],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
                stdin=subprocess.DEVNULL,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise ExportError(f"it takes over {TIMEOUT:g} s to load") from None
        if done.stdout:
            raise ExportError(done.stdout)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise ExportError(f"the loader ended with {done.returncode}: {last}")


def _native_library() -> Path:
    spec = importlib.util.find_spec("tensorflow")
    for folder in (spec and spec.submodule_search_locations) or ():
        for name in ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib"):
            if (Path(folder) / name).is_file():
                return Path(folder) / name
    raise Skipped("this TensorFlow has no libtensorflow_cc")
