"""A training step of a text classifier: kbert beside Hugging Face and keras-hub.

Purpose: at fixed shapes a whole optimizer step (forward, backward, clipping at the
global norm 1, AdamW) of kbert is 1.8 times as fast as transformers' in bfloat16 for 6
layers x 384, and 1.7 times for BERT base; its products reach 55 % (32 x 128 tokens) and
65 % (base) of what this machine multiplies, and it needs no more memory. From the same
weights all sides give the same logits and loss, to 1e-4, which is checked first.

    python -m benchmarks.speed.step --peer-python venv-peers/bin/python \\
        --data-dir $DATA --preset $PRESET

Every side's settings are tried first, and the fastest are measured: processes on the
same two cores that train in turn, segment by segment. Takes about 20 minutes for each
shape (`--case` takes one). Prints every trial and segment, tables and a JSON line;
exits with 1 where a promise is broken.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pretraining.worker import Segment
from benchmarks.serving.servers import only_cores
from benchmarks.speed.classifiers import CASES, QUICK, Case
from benchmarks.speed.report import (
    NUM_CORES,
    Promise,
    conclude,
    make_parser,
    parse,
    run_process,
    undisturbed,
)
from benchmarks.turns import Settings, Side, fastest, peak_memory, started, take_turns

KBERT, KERAS_HUB, MATMUL = "kbert", "keras-hub", "matmul"
HF_BFLOAT16, HF_FLOAT32 = "Hugging Face bfloat16", "Hugging Face float32"
PEERS = (HF_BFLOAT16, HF_FLOAT32)
TOLERANCE = 1e-4  # of logits and losses, of the same weights in float32
WARM_UP_STEPS = 2

SETTINGS: dict[str, tuple[Settings, ...]] = {
    KBERT: (
        {"side": "kbert", "precision": "mixed_bfloat16"},
        {"side": "kbert", "precision": "float32"},
    ),
    KERAS_HUB: tuple(
        {"side": "keras-hub", "precision": precision, "jit_compile": jit_compile}
        for precision in ("mixed_bfloat16", "float32")
        for jit_compile in ("auto", False)
    ),
    HF_BFLOAT16: (
        {"dtype": "bfloat16", "keeps_memory": True},
        {"dtype": "float32", "matmul": "medium", "keeps_memory": True},
    ),
    HF_FLOAT32: ({"dtype": "float32", "keeps_memory": True},),
}
# Tried on the peer's best, one after the other; what is faster is kept.
PEER_CHANGES: tuple[Settings, ...] = (
    {"attention": "eager"},
    {"adamw": "foreach"},
    {"activation": "gelu"},
    {"compiled": True},
    {"keeps_memory": False},
)


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--segments", type=int, default=6, help="for each side")
    parser.add_argument("--trial-steps", type=int, default=3, help="a setting")
    arguments = parse(parser)
    if arguments.quick:
        arguments.segments, arguments.trial_steps = 1, 1
    promises: list[Promise] = []
    figures = {}
    with only_cores(NUM_CORES), tempfile.TemporaryDirectory() as logs:
        for name in arguments.case or CASES:
            bench = Bench(name, arguments, Path(logs))
            print(f"{name}: {bench.case}", flush=True)
            promises.append(bench.check())
            figures[name] = bench.run()
            promises += bench.judge(figures[name])
    print_tables(figures)
    return conclude("step", promises, figures)


class Bench:
    """Compares the sides in one case.

    Attributes:
        trials: steps/s by what was tried; None where it does not work.
    """

    def __init__(self, name: str, arguments: argparse.Namespace, logs: Path) -> None:
        self.case: Case = (QUICK if arguments.quick else CASES)[name]
        self.trials: dict[str, float | None] = {}
        self._name = name
        self._arguments = arguments
        self._logs = logs

    def check(self) -> Promise:
        """That all sides compute the same from the same weights."""
        with tempfile.TemporaryDirectory() as folder:
            results: dict[str, dict[str, Any]] = {}
            for module in ("keras_check", "peer_check"):
                command = [*self._command(module), folder]
                results |= run_process(command, self._logs / module).answer
        ours = results.pop(KBERT)
        largest = 0.0
        for side, theirs in results.items():
            differences = {
                key: float(np.max(np.abs(np.subtract(ours[key], theirs[key]))))
                for key in ("logits", "loss")
            }
            print(f"same weights: kbert and {side} differ by {differences}", flush=True)
            largest = max(largest, *differences.values())
        return Promise(
            f"{self._name}: difference of logits and loss", largest, TOLERANCE, False
        )

    def run(self) -> dict[str, Any]:
        """Tries the settings, then measures the best of each side in turn."""
        chosen = {side: self._choose(side) for side in SETTINGS}
        chosen[MATMUL] = {**chosen[KBERT], "side": "matmul"}
        with contextlib.ExitStack() as stack:
            sides = [
                stack.enter_context(self._side(name, settings))
                for name, settings in chosen.items()
            ]
            others = take_turns(
                sides,
                num_segments=self._arguments.segments,
                num_steps=self.case.steps,
                describe=describe,
            )
            memory = {s.name: peak_memory(s.worker.process_id) for s in sides}
        results = {side.name: self._summary(side, memory[side.name]) for side in sides}
        del results[MATMUL]
        (matmul,) = (side for side in sides if side.name == MATMUL)
        rates = [rate for segment in matmul.segments for rate in segment.losses]
        return {
            "sides": results,
            "matmul_flops_per_second": statistics.median(rates),
            "cores_used_by_others": round(others, 2),
            "trials": self.trials,
        }

    def judge(self, figures: dict[str, Any]) -> list[Promise]:
        """What is promised of the case, and how it came out; adds to the figures."""
        sides = figures["sides"]
        seconds = {name: side["step_seconds"] for name, side in sides.items()}
        best = min(PEERS, key=seconds.__getitem__)
        share = sides[KBERT]["flops_per_second"] / figures["matmul_flops_per_second"]
        figures["ratios"] = {
            name: round(seconds[name] / seconds[KBERT], 3)
            for name in seconds
            if name != KBERT
        }
        figures["best_of_hugging_face"] = best
        figures["share_of_matmul"] = round(share, 3)
        ratios, case = figures["ratios"], self.case
        promises = [
            Promise(f"{self._name}: x {HF_BFLOAT16}", ratios[HF_BFLOAT16], case.ratio),
            Promise(f"{self._name}: x Hugging Face's best", ratios[best], 1.0),
            Promise(
                f"{self._name}: memory / Hugging Face's",
                sides[KBERT]["peak_mb"] / sides[best]["peak_mb"],
                1.0,
                False,
            ),
            undisturbed(figures["cores_used_by_others"]),
        ]
        if case.share is not None:
            what = f"{self._name}: share of the rate of products"
            promises.append(Promise(what, share, case.share))
        return promises

    def _choose(self, name: str) -> Settings:
        settings = SETTINGS[name]
        changes = PEER_CHANGES if name in PEERS else ()
        if self._arguments.quick:
            settings, changes = settings[-1:], changes[-1:]
        return fastest(lambda tried: self._try(name, tried), settings, changes)

    def _try(self, name: str, settings: Settings) -> float:
        """Steps/s of a side; 0 where it does not work so."""
        label = f"{name} {dict(settings)}"
        try:
            with self._side(name, settings) as side:
                segment = side.train(self._arguments.trial_steps)
        except RuntimeError as error:
            print(f"trial: {label}: does not work: {error}", flush=True)
            self.trials[label] = None
            return 0.0
        print(f"trial: {label}: {describe(segment)}", flush=True)
        found = 1 / statistics.median(segment.seconds)
        self.trials[label] = round(found, 4)
        return found

    def _side(
        self, name: str, settings: Settings
    ) -> contextlib.AbstractContextManager[Side]:
        module = "peer_step" if name in PEERS else "keras_step"
        return started(
            Side,
            name,
            self._command(module),
            settings,
            self._logs / f"{name}.log",
            warm_up_steps=WARM_UP_STEPS,
        )

    def _command(self, module: str) -> list[str]:
        is_peer = module.startswith("peer")
        python = self._arguments.peer_python if is_peer else sys.executable
        size = "quick" if self._arguments.quick else "full"
        return [python, "-m", f"benchmarks.speed.{module}", self._name, size]

    def _summary(self, side: Side, memory: int) -> dict[str, Any]:
        seconds = statistics.median(side.seconds)
        flops = self.case.kbert_flops if side.name == KBERT else self.case.flops
        return {
            "versions": side.description,
            "settings": dict(side.settings),
            "step_seconds": round(seconds, 4),
            "step_seconds_range": [
                round(statistics.median(segment.seconds), 4)
                for segment in sorted(side.segments, key=segment_seconds)
            ][:: max(1, len(side.segments) - 1)],
            "processor_seconds_a_step": round(
                side.processor_seconds / len(side.seconds), 3
            ),
            "processor_seconds_while_idle": round(side.idle_seconds, 1),
            "flops_per_second": flops / seconds,
            "peak_mb": round(memory / 1e6),
        }


def segment_seconds(segment: Segment) -> float:
    """The median step's."""
    return statistics.median(segment.seconds)


def describe(segment: Segment) -> str:
    """A segment, for people."""
    last = segment.losses[-1]
    return f"{segment_seconds(segment):.3f} s a step, the last gave {last:.4g}"


def print_tables(figures: dict[str, Any]) -> None:
    for name, found in figures.items():
        peak = found["matmul_flops_per_second"]
        print(f"\n{name}; products alone: {peak / 1e9:,.0f} GFLOP/s\n")
        print("| side | step s | x kbert's | GFLOP/s | share | peak MB | settings |")
        print("|---|---|---|---|---|---|---|")
        for side, values in found["sides"].items():
            rate = values["flops_per_second"]
            print(
                f"| {side} | {values['step_seconds']:.3f} | "
                f"{found['ratios'].get(side, 1.0):.2f} | {rate / 1e9:,.0f} | "
                f"{rate / peak:.0%} | {values['peak_mb']:,} | {values['settings']} |"
            )


if __name__ == "__main__":
    sys.exit(main())
