"""How long kbert lets its user wait, beside Hugging Face's packages.

Purpose: `kbert --help` is there in 0.3 s, and a fine-tuning has made its first step
20 s after its process began: importing, reading and tokenizing 2,000 reviews of IMDB
(cut at 512 tokens), loading the preset and tracing included. For the record: the first
answer of `kbert predict RUN TEXT`, and the same of Hugging Face's Trainer and pipeline.

    python -m benchmarks.speed.startup --peer-python venv-peers/bin/python \\
        --data-dir $DATA --preset $PRESET

Each is a whole process, by turns. Takes about 5 minutes. Prints a table and a JSON
line; exits with 1 where a promise is broken.
"""

import argparse
import json
import os
import pty
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.serving.servers import ROOT, only_cores
from benchmarks.speed.materials import Materials
from benchmarks.speed.report import (
    NUM_CORES,
    Promise,
    conclude,
    kbert_command,
    make_parser,
    parse,
    run_process,
    undisturbed,
)
from benchmarks.speed.reviews import BATCH_SIZE, MAX_LENGTH
from benchmarks.turns import busy_seconds

HELP, STEP, ANSWER = "kbert --help", "kbert finetune", "kbert predict"
PEER_STEP, PEER_ANSWER = "Trainer", "pipeline"
PROMISED_SECONDS = {HELP: 0.3, STEP: 20.0}
TEXT = "A wonderful film."
_FIRST_STEP = re.compile(rb"(?<![\d,])1/[\d,]+ steps")


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--reviews", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parse(parser)
    if arguments.quick:
        arguments.reviews, arguments.rounds = 48, 1
    materials = Materials.of(arguments)
    waits = make_waits(materials, arguments)
    seconds: dict[str, list[float]] = {}
    with only_cores(NUM_CORES):
        # Once before, so that files are in memory for all alike.
        for name, wait in waits.items():
            print(f"{name}: {wait():.2f} s, not counted", flush=True)
        for _ in range(arguments.rounds):
            for name, wait in waits.items():
                seconds.setdefault(name, []).append(wait())
                print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)
        others = idle_cores()
    return judge(seconds, others)


def make_waits(
    materials: Materials, arguments: argparse.Namespace
) -> dict[str, Callable[[], float]]:
    """What is waited for, by name: each gives the seconds that it took."""
    log, output = (materials.folder / name for name in ("startup.log", "first_step"))
    train = materials.reviews("train", arguments.reviews)
    test = materials.reviews("test", 16)
    run, model = str(materials.run()), str(materials.hugging_face_run())
    finetune = ["finetune", "--preset", arguments.preset, "--data", str(train)]
    finetune += ["--set", f"data.validation={test}", "--batch-size", str(BATCH_SIZE)]
    finetune += ["--max-length", str(MAX_LENGTH), "--output", str(output)]
    trainer = [arguments.peer_python, "-m", "benchmarks.speed.peer_finetune"]
    trainer += [str(materials.hugging_face_preset()), str(train), str(test)]
    trainer += [str(output), json.dumps({"announces": True})]
    pipeline = [
        arguments.peer_python,
        "-m",
        "benchmarks.speed.peer_answer",
        model,
        TEXT,
    ]

    def whole(command: Sequence[str]) -> Callable[[], float]:
        return lambda: run_process(command, log).seconds

    return {
        HELP: whole(kbert_command("--help")),
        STEP: lambda: until_first_step(kbert_command(*finetune), output),
        PEER_STEP: lambda: until_first_step(trainer, output),
        ANSWER: whole(kbert_command("predict", run, TEXT)),
        PEER_ANSWER: whole(pipeline),
    }


def until_first_step(command: Sequence[str], output: Path) -> float:
    """Seconds until a training says on its terminal that a step is done; ends it then.

    Raises:
        RuntimeError: it ended before; with its last words.
    """
    shutil.rmtree(output, ignore_errors=True)
    ours, theirs = pty.openpty()
    start = time.perf_counter()
    with subprocess.Popen(
        list(command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        try:
            while not _FIRST_STEP.search(said):
                said += os.read(ours, 1 << 16)
        except OSError:  # On Linux a terminal whose other end is closed.
            last = said[-2000:].decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)}: ended\n{last}") from None
        finally:
            process.kill()
            os.close(ours)
        return time.perf_counter() - start


def idle_cores(seconds: float = 5.0) -> float:
    """Cores in use while nothing of ours runs."""
    before = busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - before) / seconds


def judge(seconds: dict[str, list[float]], others: float) -> int:
    """Prints what came out; returns the exit code."""
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    print("\n| what | s, median | range |")
    print("|---|---|---|")
    for name, found in seconds.items():
        print(f"| {name} | {medians[name]:.2f} | {min(found):.2f}-{max(found):.2f} |")
    print(
        f"\nfirst step: {medians[PEER_STEP] / medians[STEP]:.2f} times as soon as the "
        f"Trainer's; first answer: {medians[PEER_ANSWER] / medians[ANSWER]:.2f} times "
        "as soon as the pipeline's"
    )
    promises = [
        Promise(f"{name}: seconds", medians[name], limit, at_least=False)
        for name, limit in PROMISED_SECONDS.items()
    ]
    figures = {name: [round(s, 3) for s in found] for name, found in seconds.items()}
    return conclude("startup", [*promises, undisturbed(others)], figures)


if __name__ == "__main__":
    sys.exit(main())
