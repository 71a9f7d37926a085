"""Version swaps while a load runs.

Purpose: new versions are copied beside and renamed into a served folder, two exports
with other answers in turn. No request may fail, every answer must be one version's or
the other's, once a version is gone none may be its, and memory must come back.

    python -m benchmarks.serving.swaps \\
        --first saved_models/imdb128/1 answers128.jsonl \\
        --second saved_models/imdb128b/1 answers128b.jsonl

The answers are what `kbert predict` gave for the same texts with each export's run.
The memory is judged from the second swap on. Takes 5 to 15 minutes for 20 swaps. Exits
with 1 where the promise is broken.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.serving.load import Example, compare, read_examples, running_load
from benchmarks.serving.servers import (
    Server,
    kbert_server,
    only_cores,
    publish,
    wait_for_version,
)

# After these swaps each export has been loaded beside the other: what TensorFlow and
# the allocator keep of that moment they have by now, and it must not become more.
BOTH_LOADED = 2
SETTLE_SECONDS = 2.0  # in which what an old version was asked last is answered


class Published(NamedTuple):
    """An export, and what it answers to the texts."""

    export: Path
    examples: Sequence[Example]


class Recognised:
    """A check that an answer is one export's, which counts whose each is."""

    def __init__(self, exports: Sequence[Published], tolerance: float) -> None:
        self._exports = exports
        self._tolerance = tolerance
        self.counts = Counter[int]()

    def __call__(self, number: int, prediction: Any) -> str | None:
        for index, export in enumerate(self._exports):
            if compare(prediction, export.examples[number], self._tolerance) is None:
                self.counts[index] += 1
                return None
        return "an answer of neither version"


def main() -> int:
    arguments = parse_arguments()
    exports = telling_apart(
        [
            Published(Path(folder).resolve(), read_examples(Path(answers)))
            for folder, answers in (arguments.first, arguments.second)
        ],
        arguments.tolerance,
    )
    with only_cores(2), tempfile.TemporaryDirectory() as folder:
        base_path = Path(folder) / "swapped"
        base_path.mkdir()
        publish(exports[0].export, base_path, 1)
        with kbert_server(base_path, Path(folder) / "log") as server:
            server.wait()
            figures = swap_under_load(
                server,
                base_path,
                exports,
                num_swaps=arguments.swaps,
                seconds=arguments.seconds,
                tolerance=arguments.tolerance,
                connections=arguments.connections,
            )
    memory = figures["memory_mb"]
    growth = memory[-1] / memory[min(BOTH_LOADED, len(memory) - 1)] - 1
    kept = (
        figures["load"]["failed"] == 0
        and not figures["stale"]
        and growth <= arguments.max_growth
    )
    print(json.dumps({"kept": kept, "growth": round(growth, 3)} | figures))
    return 0 if kept else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("--first", "--second"):
        parser.add_argument(name, nargs=2, required=True, metavar=("EXPORT", "ANSWERS"))
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5, help="between two swaps")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument(
        "--max-growth", type=float, default=0.1, help="of the memory, as a share"
    )
    return parser.parse_args()


def telling_apart(exports: list[Published], tolerance: float) -> list[Published]:
    """The same exports with the texts by whose answers they can be told apart."""
    first, second = (export.examples for export in exports)
    assert [e.text for e in first] == [e.text for e in second], "the same texts"
    clear = [
        number
        for number, (one, other) in enumerate(zip(first, second, strict=True))
        if max(
            abs(p - q)
            for p, q in zip(one.probabilities, other.probabilities, strict=True)
        )
        > 10 * tolerance
    ]
    print(f"{len(clear)} of {len(first)} texts tell the versions apart")
    return [
        Published(export.export, [export.examples[number] for number in clear])
        for export in exports
    ]


def swap_under_load(
    server: Server,
    base_path: Path,
    exports: Sequence[Published],
    *,
    num_swaps: int,
    seconds: float,
    tolerance: float,
    connections: int = 8,
) -> dict[str, Any]:
    """Swaps versions of a server that serves version 1, the first export.

    Returns:
        The figures: of the load; how many answers were each export's; `stale`, the
        swaps after which an answer was still the old version's; `memory_mb` before
        the first swap and after each; seconds of each swap, copying included.
    """
    recognised = Recognised(exports, tolerance)
    texts = [example.text for example in exports[0].examples]
    memory, swap_seconds, stale = [], [], []
    with running_load(server.url, texts, recognised, connections=connections) as result:
        time.sleep(SETTLE_SECONDS + seconds)
        memory.append(round(server.memory_mb, 1))
        for version in range(2, num_swaps + 2):
            old, new = version % 2, (version - 1) % 2
            start = time.monotonic()
            publish(exports[new].export, base_path, version)
            wait_for_version(server, version)
            swap_seconds.append(round(time.monotonic() - start, 2))
            time.sleep(SETTLE_SECONDS)
            before = recognised.counts[old]
            time.sleep(seconds)
            if recognised.counts[old] > before:
                stale.append(version)
            memory.append(round(server.memory_mb, 1))
            print(
                f"version {version}: swapped in {swap_seconds[-1]} s, memory "
                f"{memory[-1]} MB, answers by export {dict(recognised.counts)}, "
                f"failures {dict(result.failures)}",
                flush=True,
            )
    print(f"load: {result}")
    return {
        "load": result.summary(),
        "answers_by_export": [recognised.counts[0], recognised.counts[1]],
        "stale": stale,
        "memory_mb": memory,
        "swap_seconds": swap_seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
