"""Training tokens/s of kbert beside Hugging Face's BertForPreTraining.

Purpose: at 128 tokens and 32 rows a whole optimizer step (forward, backward, clipping
at the global norm 1, AdamW) of kbert handles at least 1.8 times the tokens/s of
transformers' on the same CPU, for the mini shape and for 6 layers x 384. Hugging Face
computes the product with the vocabulary for every token, kbert for the 19 masked ones
of a row.

    python -m benchmarks.pretraining.step --peer-python venv-peers/bin/python

Both sides' settings are tried first, and the fastest of each is measured: two
processes, on the same two cores, that train in turn, segment by segment. Takes about 20
minutes for each shape. Prints every trial and segment, a table and a JSON line; exits
with 1 where the ratio is below 1.8, or where a side does not learn: its first loss is
about ln V + ln 2, and its losses fall. It also exits with 1 where other work used more
than a tenth of a core meanwhile: the ratio would flatter kbert.
"""

import argparse
import contextlib
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.pretraining.batches import (
    BATCH_SIZE,
    LENGTH,
    NUM_THREADS,
    SHAPES,
    VOCABULARY_SIZE,
)
from benchmarks.pretraining.worker import Segment
from benchmarks.serving.servers import only_cores
from benchmarks.turns import MAX_OTHERS, Settings, Side, fastest, started, take_turns

PROMISED_RATIO = 1.8
TOKENS = BATCH_SIZE * LENGTH  # a step's; no row has padding
FIRST_LOSS, FIRST_LOSS_TOLERANCE = math.log(VOCABULARY_SIZE) + math.log(2), 0.5
NUM_COMPARED = 8  # losses, at the beginning and at the end: one of each batch
WARM_UP_STEPS = 3
KBERT_SETTINGS: tuple[Settings, ...] = (
    {"precision": "mixed_bfloat16"},
    {"precision": "float32"},
)
# The peer's precisions are tried with and without torch.compile.
PEER_SETTINGS: tuple[Settings, ...] = tuple(
    {**precision, "compiled": compiled, "keeps_memory": True}
    for compiled in (False, True)
    for precision in (
        {"dtype": "float32"},
        {"dtype": "float32", "matmul": "medium"},
        {"dtype": "bfloat16"},
    )
)
# Tried on the best of these, one after the other; what is faster is kept.
PEER_CHANGES: tuple[Settings, ...] = (
    {"attention": "eager"},
    {"adamw": "fused"},
    {"activation": "gelu_pytorch_tanh"},
    {"keeps_memory": False},
)


class TrainingSide(Side):
    """One of the two, in one setting."""

    @property
    def rates(self) -> list[float]:
        """Tokens/s of each segment."""
        return [rate(segment) for segment in self.segments]

    @property
    def learns(self) -> bool:
        """Whether the first loss is as expected and losses fall."""
        count = min(NUM_COMPARED, len(self.losses) // 2)
        first, last = self.losses[:count], self.losses[-count:]
        begins = abs(self.losses[0] - FIRST_LOSS) <= FIRST_LOSS_TOLERANCE
        return begins and statistics.mean(last) < statistics.mean(first)

    def summary(self) -> dict[str, Any]:
        """The figures, for a JSON line."""
        seconds = [second for segment in self.segments for second in segment.seconds]
        return {
            "versions": self.description,
            "settings": dict(self.settings),
            "tokens_per_second": round(statistics.median(self.rates)),
            "tokens_per_second_range": [round(min(self.rates)), round(max(self.rates))],
            "step_seconds": round(statistics.median(seconds), 3),
            "processor_seconds_a_step": round(self.processor_seconds / len(seconds), 3),
            "processor_seconds_while_idle": round(self.idle_seconds, 1),
            "first_loss": round(self.losses[0], 3),
            "last_loss": round(statistics.mean(self.losses[-NUM_COMPARED:]), 3),
            "learns": self.learns,
        }


def main() -> int:
    arguments = parse_arguments()
    results = {}
    with only_cores(NUM_THREADS):
        for shape in arguments.shape or SHAPES:
            print(f"{shape}: {SHAPES[shape]}", flush=True)
            results[shape] = run_shape(shape, arguments)
    print_table(results)
    kept = all(result["kept"] for result in results.values())
    print(json.dumps({"kept": kept, "shapes": results}))
    return 0 if kept else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", required=True, help="Python of its packages")
    parser.add_argument("--shape", action="append", choices=list(SHAPES))
    parser.add_argument("--segments", type=int, default=10, help="for each side")
    parser.add_argument("--steps", type=int, default=20, help="a segment")
    parser.add_argument("--trial-steps", type=int, default=8, help="a setting")
    arguments = parser.parse_args()
    # A link to Python stays a link: it is how a virtual environment is recognised.
    arguments.peer_python = str(Path(arguments.peer_python).absolute())
    return arguments


def run_shape(shape: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Tries both sides' settings, then measures the best of each in turn."""
    with tempfile.TemporaryDirectory() as logs:
        bench = Bench(shape, arguments.peer_python, arguments.trial_steps, Path(logs))
        ours = bench.choose("kbert", KBERT_SETTINGS)
        theirs = bench.choose("peer", PEER_SETTINGS, PEER_CHANGES)
        with contextlib.ExitStack() as stack:
            sides = [
                stack.enter_context(bench.side("kbert", ours)),
                stack.enter_context(bench.side("peer", theirs)),
            ]
            others = take_turns(
                sides,
                num_segments=arguments.segments,
                num_steps=arguments.steps,
                describe=lambda segment: (
                    f"{rate(segment):,.0f} tokens/s, loss {segment.losses[-1]:.3f}"
                ),
            )
    summaries = {side.name: side.summary() for side in sides}
    pairs = [a / b for a, b in zip(sides[0].rates, sides[1].rates, strict=True)]
    ratio = statistics.median(sides[0].rates) / statistics.median(sides[1].rates)
    learn = all(side.learns for side in sides)
    return {
        "kept": ratio >= PROMISED_RATIO and learn and others <= MAX_OTHERS,
        "cores_used_by_others": round(others, 2),
        "ratio": round(ratio, 3),
        "ratio_range": [round(min(pairs), 3), round(max(pairs), 3)],
        "trials": bench.trials,
        "sides": summaries,
    }


class Bench:
    """Starts a side in a setting, and finds a side's fastest.

    Attributes:
        trials: tokens/s by what was tried; None where it does not work.
    """

    def __init__(
        self, shape: str, peer_python: str, trial_steps: int, logs: Path
    ) -> None:
        self.trials: dict[str, float | None] = {}
        self._shape = shape
        self._pythons = {"kbert": sys.executable, "peer": peer_python}
        self._trial_steps = trial_steps
        self._logs = logs

    def side(
        self, name: str, settings: Settings
    ) -> contextlib.AbstractContextManager[TrainingSide]:
        """A side that has been started and warmed up."""
        command = [
            *(self._pythons[name], "-m", f"benchmarks.pretraining.{name}_step"),
            self._shape,
        ]
        return started(
            TrainingSide,
            name,
            command,
            settings,
            self._logs / f"{name}.log",
            warm_up_steps=WARM_UP_STEPS,
        )

    def choose(
        self,
        name: str,
        alternatives: tuple[Settings, ...],
        changes: tuple[Settings, ...] = (),
    ) -> Settings:
        """The fastest settings of a side."""
        return fastest(
            lambda settings: self._try(name, settings), alternatives, changes
        )

    def _try(self, name: str, settings: Settings) -> float:
        """Tokens/s of a side; 0 where it does not work so."""
        label = f"{name} {json.dumps(dict(settings))}"
        try:
            with self.side(name, settings) as side:
                found = rate(side.train(self._trial_steps))
        except RuntimeError as error:
            print(f"trial: {label}: does not work: {error}", flush=True)
            self.trials[label] = None
            return 0.0
        print(f"trial: {label}: {found:,.0f} tokens/s", flush=True)
        self.trials[label] = round(found)
        return found


def rate(segment: Segment) -> float:
    """Tokens/s; of the median step, so that a single pause does not count."""
    return TOKENS / statistics.median(segment.seconds)


def print_table(results: dict[str, dict[str, Any]]) -> None:
    print("\n| shape | side | tokens/s | step s | processor s a step | losses |")
    print("|---|---|---|---|---|---|")
    for shape, result in results.items():
        for name, figures in result["sides"].items():
            print(
                f"| {shape} | {name} {json.dumps(figures['settings'])} | "
                f"{figures['tokens_per_second']:,} | {figures['step_seconds']} | "
                f"{figures['processor_seconds_a_step']} | "
                f"{figures['first_loss']}, {figures['last_loss']} |"
            )
    for shape, result in results.items():
        low, high = result["ratio_range"]
        print(
            f"\n{shape}: {result['ratio']:.2f} times the tokens/s ({low:.2f} to "
            f"{high:.2f} by pairs of segments; promised: {PROMISED_RATIO})"
        )
        others = result["cores_used_by_others"]
        if others > MAX_OTHERS:
            print(f"Others used {others} cores meanwhile: this is no measurement.")
    print()


if __name__ == "__main__":
    sys.exit(main())
