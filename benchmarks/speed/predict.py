"""Predicting a file of texts: `kbert predict` beside a Hugging Face pipeline.

Purpose: 5,000 test reviews of IMDB cut at 256 tokens, the same fine-tuned weights:
kbert answers 1.8 times as many texts a second as the pipeline at its best, start-up not
counted, with the same labels. Whole processes are timed, in turn; what one of a single
review takes is the start-up.

    python -m benchmarks.speed.predict --peer-python venv-peers/bin/python \\
        --data-dir $DATA --preset $PRESET

The pipeline's settings (batch size, texts sorted by length or not, precision, a C
library that keeps freed memory) are tried first, on few reviews. Takes about 40
minutes. Prints a table and a JSON line; exits with 1 where a promise is broken.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.serving.servers import only_cores
from benchmarks.speed.materials import Materials
from benchmarks.speed.report import (
    NUM_CORES,
    Measured,
    Promise,
    conclude,
    kbert_command,
    make_parser,
    parse,
    run_process,
    undisturbed,
)
from benchmarks.turns import KEEPS_MEMORY, Settings, fastest

PROMISED_RATIO = 1.8
# Rounding may turn the label of a text whose classes are as good as equally likely.
CLEAR = {"float32": 1e-3, "bfloat16": 5e-2}
KBERT = {"kbert float32": "float32", "kbert bfloat16": "mixed_bfloat16"}
PEERS = {"pipeline float32": "float32", "pipeline bfloat16": "bfloat16"}
BATCH_SIZES = (8, 16, 32)


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--reviews", type=int, default=5_000)
    parser.add_argument("--trial-reviews", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parse(parser)
    if arguments.quick:
        arguments.reviews, arguments.trial_reviews, arguments.rounds = 40, 8, 1
    with only_cores(NUM_CORES):
        bench = Bench(arguments)
        chosen = {name: bench.choose(name) for name in PEERS}
        startups = {
            name: bench.run(name, chosen.get(name, {}), 1) for name in (*KBERT, *PEERS)
        }
        results: dict[str, list[Measured]] = {}
        for number in range(arguments.rounds):
            names = [*KBERT, *PEERS]
            for name in names[::-1] if number % 2 else names:
                measured = bench.run(name, chosen.get(name, {}), arguments.reviews)
                results.setdefault(name, []).append(measured)
    answers = {name: read_answers(bench.output(name)) for name in results}
    return judge(results, startups, answers, chosen, arguments.reviews)


class Bench:
    """Runs the sides' processes."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._folder: Path = arguments.folder
        self._materials = Materials.of(arguments)
        self._run = self._materials.run()
        self._model = self._materials.hugging_face_run()

    def choose(self, name: str) -> Settings:
        """The pipeline's fastest settings of a precision, its calls alone."""

        def measure(settings: Settings) -> float:
            measured = self.run(name, settings, self._arguments.trial_reviews)
            seconds = measured.answer["seconds"]
            print(f"trial: {name} {dict(settings)}: {seconds:.1f} s", flush=True)
            return 1 / seconds

        tried = [
            {"dtype": PEERS[name], "batch_size": batch_size, "is_sorted": is_sorted}
            for is_sorted in (True, False)
            for batch_size in BATCH_SIZES
        ]
        if self._arguments.quick:
            tried = tried[-1:]
        return fastest(measure, tried, [{"keeps_memory": True}])

    def run(self, name: str, settings: Settings, count: int) -> Measured:
        """A process that answers so many reviews."""
        texts, output = self._materials.reviews("test", count), self.output(name)
        output.unlink(missing_ok=True)
        log = self._folder / "predict.log"
        if name in KBERT:
            words = ["predict", str(self._run), "--input", str(texts)]
            words += ["--output", str(output), "--precision", KBERT[name]]
            measured = run_process(kbert_command(*words), log)
        else:
            python = self._arguments.peer_python
            command = [python, "-m", "benchmarks.speed.peer_predict", str(self._model)]
            options = {key: settings[key] for key in settings if key != "keeps_memory"}
            command += [str(texts), str(output), json.dumps(options)]
            environment = KEEPS_MEMORY if settings.get("keeps_memory") else {}
            measured = run_process(command, log, environment)
        print(f"{name}: {count} reviews: {measured.seconds:.1f} s", flush=True)
        return measured

    def output(self, name: str) -> Path:
        """Where a side's latest answers are."""
        return self._folder / f"answers_{name.replace(' ', '_')}.jsonl"


def read_answers(path: Path) -> list[dict[str, Any]]:
    """The answers of a file, with the probabilities by label."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def num_different(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], clear: float
) -> int:
    """How many labels differ, of texts whose classes are clearly apart."""
    count = 0
    for one, other in zip(ours, theirs, strict=True):
        second, first = sorted(one["probabilities"].values())[-2:]
        count += first - second > clear and one["label"] != other["label"]
    return count


def judge(
    results: dict[str, list[Measured]],
    startups: dict[str, Measured],
    answers: dict[str, list[dict[str, Any]]],
    chosen: dict[str, Settings],
    num_reviews: int,
) -> int:
    """Prints what came out; returns the exit code."""
    seconds = {
        name: statistics.median(measured.seconds for measured in found)
        for name, found in results.items()
    }
    rates = {
        name: (num_reviews - 1) / (seconds[name] - startups[name].seconds)
        for name in results
    }
    exact = answers["kbert float32"]
    different = {
        name: num_different(exact, found, CLEAR[name.split()[-1]])
        for name, found in answers.items()
    }
    print("\n| side | s | start-up s | texts/s without it | peak MB | other labels |")
    print("|---|---|---|---|---|---|")
    for name, found in results.items():
        print(
            f"| {name} {dict(chosen.get(name, {}))} | {seconds[name]:.1f} | "
            f"{startups[name].seconds:.1f} | {rates[name]:.1f} | "
            f"{found[-1].peak_mb:,.0f} | {different[name]} |"
        )
    ours, theirs = (max(group, key=rates.__getitem__) for group in (KBERT, PEERS))
    ratio = rates[ours] / rates[theirs]
    exact_ratio = rates["kbert float32"] / rates["pipeline float32"]
    others = [measured.others for found in results.values() for measured in found]
    promises = [
        Promise(f"texts/s: {ours} x {theirs}", ratio, PROMISED_RATIO),
        Promise("whole: x the best pipeline's", seconds[theirs] / seconds[ours], 1.0),
        Promise("labels that differ", sum(different.values()), 0, at_least=False),
        undisturbed(statistics.median(others)),
    ]
    print(f"\nin float32 on both sides: {exact_ratio:.2f} times the texts/s")
    figures = {
        "reviews": num_reviews,
        "settings": {name: dict(settings) for name, settings in chosen.items()},
        "seconds": {n: [round(m.seconds, 1) for m in f] for n, f in results.items()},
        "startup": {name: round(m.seconds, 1) for name, m in startups.items()},
        "texts_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "float32_ratio": round(exact_ratio, 3),
        "peak_mb": {name: round(f[-1].peak_mb) for name, f in results.items()},
        "labels_that_differ": different,
    }
    return conclude("predict", promises, figures)


if __name__ == "__main__":
    sys.exit(main())
