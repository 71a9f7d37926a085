"""Servers as processes: started, watched, ended. Shared by the serving benchmarks."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
# Of this machine; a proxy in the environment is for others.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Server:
    """A server of one model with TensorFlow Serving's REST, in a process of its own.

    Args:
        command: that starts it.
        url: of the model, up to its name.
        log: file that takes what it writes.
    """

    def __init__(self, command: Sequence[str], url: str, log: Path) -> None:
        self.url = url
        self._command = list(command)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Starts the process, without waiting for its model."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def wait(self, timeout: float = 300) -> Self:
        """Waits until a version is available.

        Raises:
            RuntimeError: the process ended, or the time is up; with its last words.
        """
        until = time.monotonic() + timeout
        while "AVAILABLE" not in self.states().values():
            if not self.is_running or time.monotonic() > until:
                last = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{' '.join(self._command)}: not ready\n{last}")
            time.sleep(0.1)
        return self

    def states(self) -> dict[int, str]:
        """Version -> state, as the server says; empty where it does not answer."""
        try:
            with _OPENER.open(self.url, timeout=10) as response:
                versions = json.load(response)["model_version_status"]
        except (OSError, ValueError):
            return {}
        return {int(item["version"]): item["state"] for item in versions}

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Ends the process as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends the process as an operator does; SIGKILL where that does not help."""
        try:
            self._end(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.kill()

    def _end(self, signal_number: int) -> None:
        if self._process is not None:
            self._process.send_signal(signal_number)
            self._process.wait(60)

    @property
    def memory_mb(self) -> float:
        """Resident memory of the process and those it started, in MB."""
        return sum(process.memory_info().rss for process in self._processes()) / 1e6

    @property
    def processor_seconds(self) -> float:
        """Processor time of the process and those it started."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(time.user + time.system for time in times)

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def kbert_server(
    base_path: Path,
    log: Path,
    *,
    options: Sequence[str] = (),
    rest_port: int | None = None,
    grpc_port: int | None = None,
) -> Server:
    """`kbert serve` of a folder with versions, on ports of this machine."""
    port = rest_port or free_port()
    command = [
        str(Path(sys.executable).with_name("kbert")),
        "serve",
        str(base_path),
        f"--rest_api_port={port}",
        f"--port={grpc_port or free_port()}",
        *options,
    ]
    return Server(command, f"http://127.0.0.1:{port}/v1/models/{base_path.name}", log)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def publish(export: Path, base_path: Path, version: int) -> None:
    """Copies an export to `base_path/version` so that no server sees half of it."""
    hidden = base_path / f".copy-{version}"
    shutil.copytree(export, hidden)
    hidden.rename(base_path / str(version))


def wait_for_version(server: Server, version: int, timeout: float = 120) -> None:
    """Waits until a version is the only one that is available.

    Raises:
        RuntimeError: it does not become so in time.
    """
    until = time.monotonic() + timeout
    while True:
        states = server.states()
        alive = {number for number, state in states.items() if state != "END"}
        if alive == {version} and states[version] == "AVAILABLE":
            return
        if time.monotonic() > until or not server.is_running:
            raise RuntimeError(f"version {version} is not the only one: {states}")
        time.sleep(0.1)


@contextlib.contextmanager
def only_cores(count: int) -> Iterator[None]:
    """Keeps this process, and those it starts, on so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
