"""What the callers of a server notice of its mishaps.

Purpose: threads ask through `kbert.serving.Client` all the time, each answer compared
with the one expected, while

- the server is killed with SIGKILL and started again, several times;
- a new version is copied onto a disk that gets full half-way, first beside, then
  carelessly in place, and what came of it is removed again;
- the folder of the version that is served is deleted;
- the next version is published as it should be.

No caller may see an error; a kill costs them time only. Run as root on Linux the
models lie on a small disk in memory (mount -t tmpfs); elsewhere the full disk is
skipped, and said to be.

    python -m benchmarks.serving.crash saved_models/imdb128/1 answers.jsonl

Takes about 3 minutes. Prints a line a mishap and a JSON line; exits with 1 where the
promise is broken.
"""

import argparse
import contextlib
import errno
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.serving.load import Example, compare, read_examples
from benchmarks.serving.servers import (
    Server,
    free_port,
    kbert_server,
    only_cores,
    publish,
    wait_for_version,
)
from kbert.errors import ServingError
from kbert.serving import Client

POLLS_SECONDS = 5.0  # in which a server looks at its folder several times
# A whole version fits, two do not.
DISK_SHARE = 1.5


@dataclass
class Calls:
    """What the callers have seen so far."""

    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds, of one call
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: float, error: str | None) -> None:
        """Counts a call."""
        with self.lock:
            self.answered += error is None
            if error is not None:
                self.errors[error] += 1
            self.slowest = max(self.slowest, seconds)

    def __str__(self) -> str:
        return (
            f"{self.answered} calls answered so far, the slowest in "
            f"{self.slowest:.1f} s, errors {dict(self.errors)}"
        )


@contextlib.contextmanager
def calling(
    url: str,
    examples: Sequence[Example],
    *,
    num_threads: int = 8,
    timeout: float = 120.0,
    tolerance: float = 1e-5,
) -> Iterator[Calls]:
    """Keeps threads asking through one client, each with one call out at a time."""
    calls, stopping = Calls(), threading.Event()

    def keep_calling(client: Client, start: int) -> None:
        number = start
        while not stopping.is_set():
            example = examples[number % len(examples)]
            number += num_threads
            began = time.monotonic()
            try:
                (answer,) = client.predict([example.text])
            except ServingError as error:
                calls.add(time.monotonic() - began, str(error))
                continue
            probabilities = list(answer["probabilities"].values())
            wrong = compare(
                answer | {"probabilities": probabilities}, example, tolerance
            )
            calls.add(time.monotonic() - began, wrong)

    with Client(url, timeout=timeout, connections=num_threads) as client:
        threads = [
            threading.Thread(target=keep_calling, args=(client, start), daemon=True)
            for start in range(num_threads)
        ]
        for thread in threads:
            thread.start()
        try:
            yield calls
        finally:
            stopping.set()
            for thread in threads:
                thread.join(timeout)


@contextlib.contextmanager
def folder_on_small_disk(num_bytes: int) -> Iterator[tuple[Path, bool]]:
    """A folder, and whether it is on a disk of that size."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["-t", "tmpfs", "-o", f"size={num_bytes}"]
        try:
            done = subprocess.run(
                ["mount", *options, "tmpfs", folder], capture_output=True, check=False
            )
            is_small = done.returncode == 0
        except FileNotFoundError:
            is_small = False
        try:
            yield Path(folder), is_small
        finally:
            if is_small:
                subprocess.run(["umount", "--lazy", folder], check=True)


def kill_and_restart(server: Server) -> None:
    """Ends the server as a crash does, and starts it again."""
    server.kill()
    server.start().wait()


def fill_disk(server: Server, export: Path, base_path: Path) -> None:
    """Copies a second version until the disk is full: beside, then in place."""
    for name in (".copy-2", "2"):
        try:
            shutil.copytree(export, base_path / name)
        except (shutil.Error, OSError) as error:
            if os_error_of(error) != errno.ENOSPC:
                raise
        else:
            raise RuntimeError("a second version was not to fit on the disk")
        stay_available(server, 1)
        shutil.rmtree(base_path / name)
    stay_available(server, 1)


def stay_available(server: Server, version: int) -> None:
    """Lets the server look at its folder several times.

    Raises:
        RuntimeError: it no longer serves the version then.
    """
    time.sleep(POLLS_SECONDS)
    states = server.states()
    if states.get(version) != "AVAILABLE":
        raise RuntimeError(f"version {version} is no longer served: {states}")


def os_error_of(error: OSError) -> int | None:
    """The number of an error of the disk, also within those that copytree collects."""
    if isinstance(error, shutil.Error):
        full = f"[Errno {errno.ENOSPC}]"
        return errno.ENOSPC if any(full in str(e) for e in error.args[0]) else None
    return error.errno


def delete_version(server: Server, base_path: Path, version: int) -> None:
    """Removes the folder of the version that is served."""
    shutil.rmtree(base_path / str(version))
    stay_available(server, version)


def publish_next(server: Server, export: Path, base_path: Path) -> None:
    """Publishes version 2 as it should be."""
    publish(export, base_path, 2)
    wait_for_version(server, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("export", type=Path, help="saved_models/NAME/1")
    parser.add_argument("answers", type=Path, help="what kbert predict wrote")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="around a mishap")
    arguments = parser.parse_args()
    export, examples = arguments.export.resolve(), read_examples(arguments.answers)
    size = sum(file.stat().st_size for file in export.rglob("*"))
    with (
        only_cores(2),
        tempfile.TemporaryDirectory() as logs,
        folder_on_small_disk(int(size * DISK_SHARE)) as (folder, is_small),
    ):
        base_path = folder / "crashed"
        base_path.mkdir()
        publish(export, base_path, 1)
        # The same port after each restart.
        server = kbert_server(base_path, Path(logs) / "log", rest_port=free_port())
        restart = ("killed and restarted", partial(kill_and_restart, server))
        mishaps = [
            *[restart] * arguments.kills,
            ("disk full", partial(fill_disk, server, export, base_path)),
            ("version folder deleted", partial(delete_version, server, base_path, 1)),
            (
                "next version published",
                partial(publish_next, server, export, base_path),
            ),
        ]
        if not is_small:
            mishaps = [mishap for mishap in mishaps if mishap[0] != "disk full"]
            print("disk full: skipped, since no small disk can be mounted here")
        with server:
            server.wait()
            with calling(server.url, examples, num_threads=arguments.threads) as calls:
                for name, happen in mishaps:
                    time.sleep(arguments.seconds)
                    happen()
                    time.sleep(arguments.seconds)
                    print(f"{name}: {calls}", flush=True)
    kept = not calls.errors and calls.answered > 0
    figures = {
        "kept": kept,
        "answered": calls.answered,
        "errors": dict(calls.errors),
        "slowest_seconds": round(calls.slowest, 1),
        "mishaps": [name for name, _ in mishaps],
    }
    print(json.dumps(figures))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
