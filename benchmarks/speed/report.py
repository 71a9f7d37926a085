"""What the parts of the suite share: options, promises, processes that are timed."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.serving.servers import ROOT
from benchmarks.turns import MAX_OTHERS, busy_seconds

NUM_CORES = 2  # all that a side may use


@dataclass(frozen=True)
class Promise:
    """A figure, and what it has to be.

    Attributes:
        at_least: whether the limit is the smallest or the largest figure allowed.
    """

    what: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def kept(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        mark = "kept" if self.kept else "BROKEN"
        return f"| {self.what} | {self.value:.4g} | {sign} {self.limit:g} | {mark} |"


PROMISES_HEAD = "| promise | measured | promised | |\n|---|---|---|---|"


def undisturbed(others: float) -> Promise:
    """That others left the cores alone: else torch is slowed more than kbert."""
    return Promise("cores used by others", others, MAX_OTHERS, at_least=False)


def conclude(part: str, promises: Sequence[Promise], figures: Mapping[str, Any]) -> int:
    """Prints the promises and, as the last line, all in JSON; gives the exit code."""
    kept = all(promise.kept for promise in promises)
    print(f"\n{PROMISES_HEAD}")
    for promise in promises:
        print(promise)
    result = {
        "part": part,
        "kept": kept,
        "promises": [asdict(promise) for promise in promises],
        "figures": figures,
    }
    print(f"\n{json.dumps(result)}", flush=True)
    return 0 if kept else 1


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every part has."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--peer-python", required=True, help="Python of its packages")
    parser.add_argument("--data-dir", required=True, help="of tensorflow-datasets")
    parser.add_argument("--preset", required=True, help="a folder of keras-hub's")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/speed"),
        help="where texts and models are kept for the next time",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes: shows that all works, the figures mean nothing",
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, with paths that hold from any folder."""
    arguments = parser.parse_args()
    # A link to Python stays a link: it is how a virtual environment is recognised.
    arguments.peer_python = str(Path(arguments.peer_python).absolute())
    for name in ("data_dir", "preset"):
        setattr(arguments, name, str(Path(getattr(arguments, name)).absolute()))
    folder = arguments.folder.absolute()
    # What was made of tiny sizes must not be taken for the other.
    arguments.folder = folder / "quick" if arguments.quick else folder
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return arguments


class Measured(NamedTuple):
    """A process that has ended well.

    Attributes:
        seconds: from its start to its end.
        peak_mb: its largest resident size, in MB.
        others: cores that others used meanwhile.
        stdout: what it printed.
    """

    seconds: float
    peak_mb: float
    others: float
    stdout: str

    @property
    def answer(self) -> Any:
        """The last line of what it printed, which is JSON."""
        return json.loads(self.stdout.strip().rpartition("\n")[2])


def run_process(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Measured:
    """Runs a process to its end.

    Args:
        log: file that takes what it writes to stderr.
        environment: variables beside those of this process.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    busy, start = busy_seconds(), time.perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            list(command),
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdout is not None
        stdout = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)}: {process.returncode}\n{last}")
    others = (busy_seconds() - busy - usage.ru_utime - usage.ru_stime) / seconds
    return Measured(seconds, usage.ru_maxrss * 1024 / 1e6, others, stdout)


def kbert_command(*words: str) -> list[str]:
    """A call of kbert's command line, of the environment of this process."""
    return [str(Path(sys.executable).with_name("kbert")), *words]
