"""`kbert serve` beside a Hugging Face pipeline behind the same kind of server.

Purpose: requests/s and latencies of both under the same load, by turns in one run, so
that what else the machine is doing hits both alike: IMDB reviews cut at 128 tokens,
8 connections, one text a request, client and server on the same two cores, float32.

    python -m benchmarks.serving.serve_imdb answers.jsonl \\
        --export saved_models/imdb128 --peer-folder /tmp/peer \\
        --peer-python venv-peers/bin/python

The order of things: every answer of both sides is checked against `kbert predict`
first; the peer's settings are tried and the best is taken, kbert has its defaults;
then segments in turn, every answer checked. Takes about 12 minutes with the default of
5 minutes a side. Exits with 1 where a request failed, an answer was wrong, or kbert has
less than 1.5 times the peer's requests/s.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.load import Example, LoadResult, read_examples, run_load
from benchmarks.serving.servers import Server, free_port, kbert_server, only_cores

PROMISED_RATIO = 1.5
KBERT_TOLERANCE, PEER_TOLERANCE = 1e-5, 1e-3
# The pipeline in the settings that a person would try for two cores.
PEER_SETTINGS = {
    "1 thread, torch 2": ("--workers=1", "--torch-threads=2"),
    "2 threads, torch 1": ("--workers=2", "--torch-threads=1"),
    "2 threads, torch 2": ("--workers=2", "--torch-threads=2"),
    "2 processes, torch 1": (
        "--pool=processes",
        "--workers=2",
        "--torch-threads=1",
    ),
    "1 thread, torch 2, batches of up to 8": (
        "--batch-size=8",
        "--batch-wait-ms=2",
    ),
}
# Beside the comparison: not the precision that kbert exports, and other answers.
BFLOAT16 = ("--workers=2", "--torch-threads=1", "--dtype=bfloat16")


@dataclass
class Side:
    """One server in the comparison.

    Attributes:
        tolerance: of its probabilities against `kbert predict`.
        processor_seconds: that the server used in its segments.
        idle_seconds: that it used while the other side was measured.
    """

    name: str
    server: Server
    tolerance: float
    result: LoadResult = field(default_factory=LoadResult)
    processor_seconds: float = 0.0
    idle_seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """The figures, for a JSON line."""
        return self.result.summary() | {
            "server_cores": round(self.processor_seconds / self.result.seconds, 2),
            "server_memory_mb": round(self.server.memory_mb),
            "processor_seconds_while_idle": round(self.idle_seconds, 1),
        }


def main() -> int:
    arguments = parse_arguments()
    examples = read_examples(arguments.answers)
    with only_cores(2), tempfile.TemporaryDirectory() as logs:
        best, tries = choose_peer(arguments, examples, Path(logs))
        kbert = kbert_server(
            arguments.export, Path(logs) / "kbert.log", options=arguments.kbert_option
        )
        peer = peer_server(arguments, PEER_SETTINGS[best], Path(logs))
        with kbert, peer:
            sides = [
                Side("kbert serve", kbert, KBERT_TOLERANCE),
                Side(f"Hugging Face, {best}", peer, PEER_TOLERANCE),
            ]
            for side in sides:
                side.server.wait()
                if not check(side, arguments, examples):
                    return 1
            measure(sides, arguments, examples)
            summaries = {side.name: side.summary() for side in sides}
    ratio = sides[0].result.rate / sides[1].result.rate
    print_table(summaries, ratio)
    failed = sum(sides[0].result.failures.values())
    kept = failed == 0 and ratio >= PROMISED_RATIO
    line = {"kept": kept, "ratio": round(ratio, 3), "peer_tries": tries}
    print(json.dumps(line | {"sides": summaries}))
    return 0 if kept else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("answers", type=Path, help="what kbert predict wrote")
    parser.add_argument("--export", type=Path, required=True, help="saved_models/NAME")
    parser.add_argument("--peer-folder", required=True, help="Hugging Face model")
    parser.add_argument("--peer-python", required=True, help="Python of its packages")
    parser.add_argument("--seconds", type=float, default=300, help="for each side")
    parser.add_argument("--segments", type=int, default=5, help="for each side")
    parser.add_argument("--try-seconds", type=float, default=20, help="a setting")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument(
        "--kbert-option", action="append", default=[], help="for kbert serve"
    )
    arguments = parser.parse_args()
    # The servers have another working folder. A link to Python stays a link: it is
    # how a virtual environment is recognised.
    arguments.export = arguments.export.resolve()
    arguments.peer_folder = str(Path(arguments.peer_folder).resolve())
    arguments.peer_python = str(Path(arguments.peer_python).absolute())
    return arguments


def peer_server(
    arguments: argparse.Namespace, settings: Sequence[str], logs: Path
) -> Server:
    port, name = free_port(), arguments.export.name
    command = [
        arguments.peer_python,
        *("-m", "benchmarks.serving.peer_server", arguments.peer_folder),
        *(f"--name={name}", f"--port={port}", *settings),
    ]
    url = f"http://127.0.0.1:{port}/v1/models/{name}"
    return Server(command, url, logs / "peer.log")


def choose_peer(
    arguments: argparse.Namespace, examples: list[Example], logs: Path
) -> tuple[str, dict[str, float]]:
    """Tries the peer's settings; returns the best one's name and all requests/s."""
    rates = {}
    for name, settings in (PEER_SETTINGS | {"bfloat16": BFLOAT16}).items():
        with peer_server(arguments, settings, logs) as server:
            server.wait()
            result = run_load(
                server.url,
                examples,
                seconds=arguments.try_seconds,
                tolerance=1.0 if name == "bfloat16" else PEER_TOLERANCE,
                connections=arguments.connections,
            )
        rates[name] = round(result.rate, 2)
        print(f"try: Hugging Face, {name}: {result}", flush=True)
    return max(PEER_SETTINGS, key=rates.__getitem__), rates


def check(side: Side, arguments: argparse.Namespace, examples: list[Example]) -> bool:
    """Whether a side answers rightly under load; this warms it up too."""
    result = run_load(
        side.server.url,
        examples,
        seconds=arguments.try_seconds,
        tolerance=side.tolerance,
        connections=arguments.connections,
    )
    print(f"check: {side.name}: {result}", flush=True)
    return bool(result.latencies) and not result.failures


def measure(
    sides: list[Side], arguments: argparse.Namespace, examples: list[Example]
) -> None:
    """Puts the load on the sides in turn."""
    for number in range(arguments.segments):
        # A B, B A, A B: neither always comes first.
        for side in sides if number % 2 == 0 else sides[::-1]:
            before = {s.name: s.server.processor_seconds for s in sides}
            result = run_load(
                side.server.url,
                examples,
                seconds=arguments.seconds / arguments.segments,
                tolerance=side.tolerance,
                connections=arguments.connections,
            )
            side.result += result
            for other in sides:
                used = other.server.processor_seconds - before[other.name]
                if other is side:
                    other.processor_seconds += used
                else:
                    other.idle_seconds += used
            print(f"segment {number + 1}: {side.name}: {result}", flush=True)


def print_table(summaries: dict[str, dict[str, Any]], ratio: float) -> None:
    print("\n| side | requests/s | p50 ms | p95 ms | p99 ms | failed | memory |")
    print("|---|---|---|---|---|---|---|")
    for name, figures in summaries.items():
        latencies = figures["latency_ms"]
        print(
            f"| {name} | {figures['requests_per_second']} | {latencies['p50']} | "
            f"{latencies['p95']} | {latencies['p99']} | {figures['failed']} of "
            f"{figures['requests']} | {figures['server_memory_mb']} MB |"
        )
    print(f"\nratio of requests/s: {ratio:.2f} (promised: {PROMISED_RATIO})\n")


if __name__ == "__main__":
    sys.exit(main())
