"""kbert's server with one export, in a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from kbert.errors import ServingError
from kbert.serving.client import Client
from kbert.serving.ports import join_address

_HOST = "127.0.0.1"
# What `kbert serve FOLDER --port 0` does; arguments: folder, port, name.
_SERVE = """
import sys
from pathlib import Path
from kbert.errors import UserError
from kbert.serving.options import ServerOptions
from kbert.serving.prepared import prepare
from kbert.serving.server import serve
folder, port, name = sys.argv[1:]
options = ServerOptions(model_name=name, model_base_path=Path(folder), port=0,
                        rest_api_port=int(port), file_system_poll_wait_seconds=0,
                        max_num_load_retries=0)
try:
    serve(prepare(options))
except UserError as error:
    sys.exit(str(error))
"""
_START_SECONDS = 300.0
_END_SECONDS = 30.0
_PAUSE_SECONDS = 0.1


class ServedExport:
    """A server on a free port of this machine; a context manager.

    Args:
        folder: holds versions of a model; the newest is served, as it is now.

    Attributes:
        url: of the model, for a client.

    Raises:
        ServingError: on entering: it ended, or did not answer within five minutes.
    """

    def __init__(self, folder: Path) -> None:
        port = _free_port()
        self.url = f"http://{join_address(_HOST, port)}/v1/models/{folder.name}"
        self._arguments = (str(folder), str(port), folder.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def memory_bytes(self) -> int:
        """What is resident in the server at the moment."""
        assert self._process is not None, "entered"
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVE, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
            )
            self._wait_until_it_answers(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        # Its port opens when the model is loaded.
        end = time.monotonic() + _START_SECONDS
        with Client(self.url, retries=None) as client:
            while True:
                if process.poll() is not None:
                    raise ServingError(f"The server ended: {self._last_words()}")
                with contextlib.suppress(ServingError):
                    client.status()
                    return
                if time.monotonic() > end:
                    raise ServingError(
                        f"The server did not answer within {_START_SECONDS:.0f} s: "
                        f"{self._last_words()}"
                    )
                time.sleep(_PAUSE_SECONDS)

    def _last_words(self) -> str:
        assert self._log is not None, "there is a process"
        self._log.seek(0)
        # What TensorFlow wrote stands before the reason.
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
