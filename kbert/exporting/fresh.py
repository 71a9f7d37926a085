"""An export in a fresh process that has TensorFlow and nothing of kbert or Keras.

What answers here answers in TensorFlow Serving: the same loader, the same ops, no
Python object of the one who wrote the export.
"""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from kbert.errors import ExportError
from kbert.exporting import probe
from kbert.exporting.safety import check_export

Libraries = Literal["portable", "all"]

# TensorFlow's log lines of severity ERROR and FATAL, in both of its formats.
_ERROR_LINE = re.compile(r"(?:\d{4}-\d\d-\d\d [\d:.]+: [EF]|[EF]\d{4}) .*?\] (.+)")
_FATAL_LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:.]+: F|F\d{4} ")


class FreshServable:
    """A SavedModel, loaded by TensorFlow 1's loader with the tag `serve`.

    A context manager; the process ends with it. One that crashed or was stopped is
    started again by the next request.

    Args:
        folder: the folder with `saved_model.pb`.
        libraries: which of tensorflow-text's op libraries the process has: `portable`
            (fast WordPiece, regex split, normalize) or `all`.
        timeout: the most seconds for a request; a process that takes longer is ended.

    Attributes:
        timeout: as given.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        libraries: Libraries = "portable",
        timeout: float = 600.0,
    ) -> None:
        self._folder = Path(os.path.abspath(folder))
        self._libraries = libraries
        self.timeout = timeout
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Raises ExportError: it cannot be loaded."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            # Closes the pipes, even where an answer is still in them.
            with contextlib.suppress(OSError):
                self._process.communicate()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Loads another folder in place of the present one, in the same process.

        Raises:
            ExportError: it cannot be loaded.
        """
        self._folder = Path(os.path.abspath(folder))
        if self._process is None:
            self._start()
        else:
            check_export(self._folder, root=self._folder.parent)
            self._request({"load": str(self._folder)})

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: its name.
            inputs: an array for each input; texts as bytes in arrays of objects.

        Returns:
            An array for each output, texts likewise.

        Raises:
            ExportError: the request fails; the message is TensorFlow's.
        """
        tensors = {name: _encode(array) for name, array in inputs.items()}
        answer = self._request({"signature": signature, "inputs": tensors})
        return {name: _decode(text) for name, text in answer["outputs"].items()}

    def wordpiece(self, model: bytes, words: Sequence[bytes]) -> list[list[int]]:
        """The ids that a FastWordpieceTokenizer's model gives to each word.

        Raises:
            ExportError: it is no such model.
        """
        answer = self._request(
            {
                "wordpiece": _encode(np.frombuffer(model, np.uint8)),
                "words": _encode(np.array(words, object)),
            }
        )
        return answer["ids"]

    def logged_errors(self) -> list[str]:
        """What TensorFlow has logged as errors since it was ready to load."""
        text = self._read_log().rpartition(f"{probe.MARK}\n")[2]
        matches = map(_ERROR_LINE.match, text.splitlines())
        return [match[1] for match in matches if match]

    def _start(self) -> None:
        check_export(self._folder, root=self._folder.parent)
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            # -P: the folder of the script, with other modules, is not searched.
            [sys.executable, "-P", probe.__file__, self._libraries],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            env={
                **os.environ,
                "CUDA_VISIBLE_DEVICES": "-1",
                "TF_CPP_MIN_LOG_LEVEL": "1",
            },
        )
        self._request({"load": str(self._folder)})

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None and process.stdin and process.stdout
        with _ended_after(process, self.timeout) as is_late:
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line.endswith("\n"):
            raise self._death(process, is_late.is_set())
        answer = json.loads(line)
        if "error" in answer:
            raise ExportError(answer["error"])
        return answer

    def _death(self, process: subprocess.Popen[str], is_late: bool) -> ExportError:
        code = process.wait()
        lines = self._read_log().strip().splitlines()
        self.close()
        if is_late:
            return ExportError(f"there is no answer after {self.timeout:g} s")
        if code >= 0:
            return ExportError(f"the process ended with {code}: {_last(lines)}")
        fatal = [line for line in lines if _FATAL_LINE.match(line)]
        said = f": {fatal[-1]}" if fatal else ""
        name = signal.Signals(-code).name
        return ExportError(f"the process was ended by {name}{said}")

    def _read_log(self) -> str:
        if self._log is None:
            return ""
        # pread: the process writes at the same file's offset.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode("utf-8", "replace")


@contextlib.contextmanager
def _ended_after(
    process: subprocess.Popen[str], seconds: float
) -> Iterator[threading.Event]:
    """Ends the process after a time; the event says whether it did."""
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()


def _last(lines: list[str]) -> str:
    return lines[-1] if lines else "it said nothing"


def _encode(array: np.ndarray) -> str:
    proto = tf.make_tensor_proto(array)
    return base64.b64encode(proto.SerializeToString()).decode()


def _decode(text: str) -> np.ndarray:
    return tf.make_ndarray(tensor_pb2.TensorProto.FromString(base64.b64decode(text)))
