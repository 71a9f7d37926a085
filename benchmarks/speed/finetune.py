"""Fine-tuning as a user does it: kbert beside Hugging Face's Trainer and keras-hub.

Purpose: from the same preset, the first 2,000 training reviews of IMDB cut at 512
tokens, one epoch of batches of 16, and 500 test reviews evaluated: as a whole process
(start-up, reading, tokenizing, training, evaluation and saving included) `kbert
finetune` takes at most 1 / 1.8 of the time of Hugging Face's Trainer at its best, and
1 / 6 of the tutorials' recipe (float32, all padded to 512), at a comparable accuracy.

    python -m benchmarks.speed.finetune --peer-python venv-peers/bin/python \\
        --data-dir $DATA --preset $PRESET

The Trainer's settings are tried first, on few reviews, and the best one in bfloat16 and
in float32 are measured, in turn with kbert; the recipe and keras-hub, which are slow,
once. `--best-only` leaves out the Trainer's precision that the trials found slower, and
`--tutorial-reviews` lets the recipe train on fewer, and scales what its training takes.
Takes about 90 minutes. Prints a table and a JSON line; exits with 1 where a
promise is broken.
"""

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

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
from benchmarks.speed.reviews import BATCH_SIZE, LEARNING_RATE, MAX_LENGTH, SEED
from benchmarks.turns import KEEPS_MEMORY, Settings, fastest

KBERT, KERAS_HUB, TUTORIAL = "kbert finetune", "keras-hub fit", "tutorials' recipe"
HF_BFLOAT16, HF_FLOAT32 = "Trainer bfloat16", "Trainer float32"
PROMISED_RATIO, PROMISED_TUTORIAL_RATIO = 1.8, 6.0
# Seeds differ by as much.
ACCURACY_TOLERANCE = 0.04
PRECISIONS = {HF_BFLOAT16: True, HF_FLOAT32: False}
# Its order by length, the best of a whole epoch, shows too little in a trial.
PEER_CHANGES: tuple[Settings, ...] = ({"keeps_memory": True},)


class Result(NamedTuple):
    """A side's whole process, and what it says of itself."""

    measured: Measured
    seconds: float  # scaled where less was trained
    training: float
    accuracy: float


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--reviews", type=int, default=2_000, help="to train on")
    parser.add_argument("--test-reviews", type=int, default=500)
    parser.add_argument("--tutorial-reviews", type=int, help="default: --reviews")
    parser.add_argument("--trial-reviews", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--best-only", action="store_true", help="of the Trainer")
    arguments = parse(parser)
    if arguments.quick:
        arguments.reviews, arguments.test_reviews, arguments.rounds = 48, 16, 1
        arguments.trial_reviews = arguments.tutorial_reviews = 16
    arguments.tutorial_reviews = arguments.tutorial_reviews or arguments.reviews
    with only_cores(NUM_CORES):
        bench = Bench(arguments)
        chosen = {name: bench.choose(name) for name in PRECISIONS}
        if arguments.best_only:
            best = max(chosen, key=bench.trial_rates.__getitem__)
            chosen = {best: chosen[best]}
        results: dict[str, list[Result]] = {}
        for number in range(arguments.rounds):
            names = [KBERT, *chosen]
            # A B C, C B A; the slow ones once.
            order = names[::-1] if number % 2 else [*names, KERAS_HUB, TUTORIAL]
            for name in order:
                result = bench.run(name, chosen.get(name, {}))
                results.setdefault(name, []).append(result)
    return judge(results, chosen, bench.trial_rates, arguments)


class Bench:
    """Runs the sides' processes."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._folder: Path = arguments.folder
        self._materials = Materials.of(arguments)
        self._model = self._materials.hugging_face_preset()
        self._output = self._folder / "finetuned"
        # The best of a precision, in trainings a second.
        self.trial_rates: dict[str, float] = {}
        self._test = self._materials.reviews("test", arguments.test_reviews)

    def choose(self, name: str) -> Settings:
        """The Trainer's fastest settings of a precision, training alone."""

        def measure(settings: Settings) -> float:
            result = self._run_peer(settings, self._arguments.trial_reviews)
            print(f"trial: {name} {dict(settings)}: {describe(result)}", flush=True)
            rate = 1 / result.training
            self.trial_rates[name] = max(rate, self.trial_rates.get(name, 0.0))
            return rate

        changes = () if self._arguments.quick else PEER_CHANGES
        return fastest(measure, [{"bf16": PRECISIONS[name]}], changes)

    def run(self, name: str, settings: Settings) -> Result:
        """One process of a side, from nothing to a saved model."""
        reviews = self._arguments.reviews
        if name == KBERT:
            result = self._run_kbert()
        elif name == KERAS_HUB:
            result = self._run_keras_hub()
        elif name == TUTORIAL:
            settings = {"padding": "max_length", "sampling": "random"}
            count = self._arguments.tutorial_reviews
            result = self._run_peer(settings, count)
            more = (reviews / count - 1) * result.training
            result = result._replace(seconds=result.seconds + more)
        else:
            result = self._run_peer(settings, reviews)
        print(f"{name}: {describe(result)}", flush=True)
        return result

    def _run_kbert(self) -> Result:
        train = self._materials.reviews("train", self._arguments.reviews)
        command = ["finetune", "--preset", self._arguments.preset]
        command += ["--data", str(train), "--set", f"data.validation={self._test}"]
        command += ["--epochs", "1", "--batch-size", str(BATCH_SIZE)]
        command += ["--max-length", str(MAX_LENGTH), "--seed", str(SEED)]
        command += ["--learning-rate", str(LEARNING_RATE)]
        command += ["--output", str(self._output)]
        measured = self._measure(kbert_command(*command))
        info = json.loads((self._output / "kbert.json").read_text())
        metrics = json.loads((self._output / "metrics.json").read_text())
        return Result(
            measured,
            measured.seconds,
            info["seconds"]["training"],
            metrics["validation"]["accuracy"],
        )

    def _run_keras_hub(self) -> Result:
        train = self._materials.reviews("train", self._arguments.reviews)
        command = [sys.executable, "-m", "benchmarks.speed.keras_hub_finetune"]
        command += [self._arguments.preset, str(train), str(self._test)]
        settings = json.dumps({"precision": "float32"})
        return self._result(self._measure([*command, str(self._output), settings]))

    def _run_peer(self, settings: Settings, count: int) -> Result:
        train = self._materials.reviews("train", count)
        command = [self._arguments.peer_python, "-m", "benchmarks.speed.peer_finetune"]
        command += [str(self._model), str(train), str(self._test), str(self._output)]
        options = {key: settings[key] for key in settings if key != "keeps_memory"}
        environment = KEEPS_MEMORY if settings.get("keeps_memory") else {}
        command.append(json.dumps(options))
        return self._result(self._measure(command, environment))

    def _measure(
        self, command: list[str], environment: dict[str, str] | None = None
    ) -> Measured:
        shutil.rmtree(self._output, ignore_errors=True)
        return run_process(command, self._folder / "finetune.log", environment)

    def _result(self, measured: Measured) -> Result:
        answer: dict[str, Any] = measured.answer
        return Result(
            measured, measured.seconds, answer["training"], answer["accuracy"]
        )


def describe(result: Result) -> str:
    """A process, for people."""
    return (
        f"{result.measured.seconds:.1f} s, of it {result.training:.1f} s training, "
        f"accuracy {result.accuracy:.4f}, peak {result.measured.peak_mb:,.0f} MB"
    )


def judge(
    results: dict[str, list[Result]],
    chosen: dict[str, Settings],
    trial_rates: dict[str, float],
    arguments: argparse.Namespace,
) -> int:
    """Prints what came out; returns the exit code."""
    seconds = {
        name: statistics.median(result.seconds for result in found)
        for name, found in results.items()
    }
    ratios = {name: seconds[name] / seconds[KBERT] for name in seconds}
    scaled = arguments.tutorial_reviews < arguments.reviews
    print("\n| side | s | x kbert's | training s | accuracy | peak MB |")
    print("|---|---|---|---|---|---|")
    for name, found in results.items():
        last = found[-1]
        note = ""
        if scaled and name == TUTORIAL:
            note = (
                f" (scaled from {arguments.tutorial_reviews} reviews, which its "
                "accuracy and its training are of)"
            )
        print(
            f"| {name}{note} | {seconds[name]:.1f} | {ratios[name]:.2f} | "
            f"{last.training:.1f} | {last.accuracy:.4f} | "
            f"{last.measured.peak_mb:,.0f} |"
        )
    best = min(chosen, key=seconds.__getitem__)
    behind = results[best][-1].accuracy - results[KBERT][-1].accuracy
    others = [result.measured.others for found in results.values() for result in found]
    promises = [
        Promise(f"x {best}, Hugging Face's best", ratios[best], PROMISED_RATIO),
        Promise(f"x {TUTORIAL}", ratios[TUTORIAL], PROMISED_TUTORIAL_RATIO),
        Promise(
            "points of accuracy behind Hugging Face's best",
            behind,
            ACCURACY_TOLERANCE,
            at_least=False,
        ),
        undisturbed(statistics.median(others)),
    ]
    figures = {
        "reviews": arguments.reviews,
        "tutorial_reviews": arguments.tutorial_reviews,
        "best_only": arguments.best_only,
        "trial_seconds": {n: round(1 / r, 1) for n, r in trial_rates.items()},
        "settings": {name: dict(settings) for name, settings in chosen.items()},
        "seconds": {n: [round(r.seconds, 1) for r in f] for n, f in results.items()},
        "training": {n: [round(r.training, 1) for r in f] for n, f in results.items()},
        "accuracy": {n: [r.accuracy for r in f] for n, f in results.items()},
        "peak_mb": {n: round(f[-1].measured.peak_mb) for n, f in results.items()},
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }
    return conclude("finetune", promises, figures)


if __name__ == "__main__":
    sys.exit(main())
