"""Runs of `kbert pretrain` and `kbert finetune` for the benchmarks, and their figures.

A run that is there already, made by the same command, is not made again: a benchmark
that was stopped goes on, once a run that was stopped half-way has been deleted.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
KBERT = [sys.executable, "-c", "from kbert_cli.main import main; main()"]
REVIEWS = "tfds:imdb_reviews"
NUM_LABELLED = 2000
MADE_BY = "command.txt"


def kbert(*arguments: str) -> str:
    """Runs a command of kbert's in the root of the repository; returns what it prints.

    Its progress goes to stderr.

    Raises:
        SystemExit: it failed.
    """
    print(f"$ kbert {shlex.join(arguments)}", flush=True)
    start = time.monotonic()
    done = subprocess.run(
        [*KBERT, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"kbert {arguments[0]} ended with {done.returncode}.")
    print(f"  {time.monotonic() - start:,.0f} s", flush=True)
    return done.stdout


def make_run(run: Path, *arguments: str) -> Path:
    """The run of a command of kbert's, made here unless it is there.

    Raises:
        SystemExit: the command failed, or the run is another command's.
    """
    command = shlex.join(arguments)
    made_by = run / MADE_BY
    if made_by.is_file():
        if made_by.read_text("utf-8") != command:
            raise SystemExit(f"{run} was made by another command: delete it.")
        print(f"{run}: is there already", flush=True)
        return run
    kbert(*arguments, "--output", str(run))
    made_by.write_text(command, "utf-8")
    return run


@dataclass(frozen=True)
class FineTuning:
    """How presets are fine-tuned on the first 2,000 labelled reviews and compared.

    Attributes:
        folder: where the runs are.
        data_dir: options that say where the reviews are.
    """

    folder: Path
    data_dir: tuple[str, ...]
    epochs: int
    learning_rates: Sequence[float]
    max_length: int
    batch_size: int
    dropout: float
    seeds: Sequence[int]
    test_reviews: int | None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """As the command line says; see `add_arguments`."""
        return cls(
            arguments.folder.absolute(),
            data_dir_options(arguments),
            arguments.epochs,
            arguments.learning_rates,
            arguments.max_length,
            arguments.batch_size,
            arguments.dropout,
            arguments.seeds,
            arguments.test_reviews,
        )

    def accuracies(self, name: str, preset: Path | str) -> dict[int, float]:
        """Test accuracy by seed, at the rate that is best on the held-out reviews.

        Args:
            name: of the preset, in the names of the runs.
        """
        runs = {
            rate: [self._run(name, preset, rate, seed) for seed in self.seeds]
            for rate in self.learning_rates
        }
        held_out = {
            rate: statistics.mean(map(validation_accuracy, of_rate))
            for rate, of_rate in runs.items()
        }
        best = max(held_out, key=held_out.__getitem__)
        print(f"{name}: accuracy on held-out reviews by learning rate: {held_out}")
        found = {}
        for seed, run in zip(self.seeds, runs[best], strict=True):
            found[seed] = self._test_accuracy(run)
            print(f"{name}, seed {seed}: test accuracy {found[seed]:.4f}", flush=True)
        return found

    def _run(self, name: str, preset: Path | str, rate: float, seed: int) -> Path:
        return make_run(
            self.folder / f"{name}-{rate:g}-{seed}",
            *("finetune", "--preset", str(preset), "--data", REVIEWS, *self.data_dir),
            *("--set", f"data.limit={NUM_LABELLED}", "--epochs", str(self.epochs)),
            *("--learning-rate", f"{rate:g}", "--batch-size", str(self.batch_size)),
            *("--max-length", str(self.max_length), "--seed", str(seed)),
            *("--set", f"model.dropout={self.dropout:g}"),
        )

    def _test_accuracy(self, run: Path) -> float:
        """On reviews of the test split, all unless told otherwise."""
        options = ["--data", REVIEWS, "--split", "test", *self.data_dir, "--json"]
        if self.test_reviews is not None:
            options += ["--set", f"data.limit={self.test_reviews}"]
        return json.loads(kbert("evaluate", str(run), *options))["accuracy"]


def validation_accuracy(run: Path) -> float:
    """On the reviews that were held out of the 2,000."""
    return read_metrics(run)["validation"]["accuracy"]


def read_metrics(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text("utf-8"))


def add_arguments(
    parser: argparse.ArgumentParser, *, max_length: int, learning_rate: float
) -> None:
    """Adds what all scripts that fine-tune take, with the defaults that differ."""
    parser.add_argument("folder", type=Path, help="for the runs")
    parser.add_argument("--data-dir", help="where tensorflow-datasets has the reviews")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        default=[learning_rate],
        help="of several, each side gets the one that suits it",
    )
    parser.add_argument("--max-length", type=int, default=max_length, help="tokens")
    parser.add_argument("--batch-size", type=int, default=32)
    # Not the preset's own, which may have been pretrained without.
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--test-reviews", type=int, help="only the first ones")


def data_dir_options(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Where the reviews are, for any command."""
    if arguments.data_dir is None:
        return ()
    return "--set", f"data.data_dir={Path(arguments.data_dir).absolute()}"


def print_table(accuracies: dict[str, dict[int, float]]) -> dict[str, float]:
    """Prints the test accuracies of each side; returns their means."""
    means = {name: statistics.mean(of.values()) for name, of in accuracies.items()}
    seeds = list(next(iter(accuracies.values())))
    print("\n| | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean |")
    print("|---" * (len(seeds) + 2) + "|")
    for name, of in accuracies.items():
        figures = [f"{accuracy:.4f}" for accuracy in (*of.values(), means[name])]
        print(f"| {name} | {' | '.join(figures)} |")
    print()
    return means
