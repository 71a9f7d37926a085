"""Runs that are killed at any moment, and go on as if nothing had happened.

Purpose: a fine-tuning on real IMDB with the 6-layer preset, one that stops early, and
a pretraining with masking are killed with kill -9, again and again, and resumed until
they are done. Each ends with weights, optimizer, history and metrics that are bit for
bit those of the run that nobody killed.

    python -m benchmarks.resume.crash --data-dir $DATA --preset $PRESET

A kill comes at a random moment of the training, of the start-up, or while a checkpoint
is being written. Two runs at a time; takes about an hour. Prints a table and a JSON
line; exits with 1 where a run differs.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.resume.same_run import differences
from benchmarks.speed.report import kbert_command
from kbert.runs import RunFolder
from kbert.training.checkpoints import STATE, list_checkpoints

_POLL_SECONDS = 0.002
_MOST_STARTS = 12
_TOO_LONG = 900.0  # seconds, of one process


@dataclass(frozen=True)
class Case:
    """A training, and how often it is done.

    Attributes:
        command: without the output.
        num_runs: killed ones.
        eval_steps: updates between evaluations.
    """

    command: Sequence[str]
    num_runs: int
    eval_steps: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", required=True, help="of tensorflow-datasets")
    parser.add_argument("--preset", required=True, help="a folder of keras-hub's")
    parser.add_argument("--case", action="append", help="only this one (repeatable)")
    parser.add_argument("--runs", type=int, help="of each case, in place of its own")
    parser.add_argument("--at-once", type=int, default=2, help="runs at a time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cases = all_cases(arguments.data_dir, arguments.preset)
    names = arguments.case or list(cases)
    results = {}
    with tempfile.TemporaryDirectory(prefix="kbert-crash.") as folder:
        for name in names:
            runs = arguments.runs or cases[name].num_runs
            case = Case(cases[name].command, runs, cases[name].eval_steps)
            results[name] = crash(
                case, Path(folder, name), arguments.seed, arguments.at_once
            )
    return judge(results)


def all_cases(data_dir: str, preset: str) -> dict[str, Case]:
    """The trainings of 200 steps."""
    data = ["--set", f"data.data_dir={data_dir}", "--preset", preset]
    data += ["--max-length", "32", "--batch-size", "8", "--precision", "float32"]
    steps = ["--set", "train.checkpoint_steps=25"]
    finetune = ["finetune", "--data", "tfds:imdb_reviews", *data, *steps]
    finetune += ["--set", "data.limit=800", "--set", "train.max_steps=200"]
    pretrain = ["pretrain", "tfds:imdb_reviews", *data, *steps]
    pretrain += ["--set", "data.limit=2000", "--max-steps", "200"]
    early = ["--set", "train.patience=4", "--learning-rate", "1e-6"]
    return {
        "finetune": Case([*finetune, "--set", "train.eval_steps=50"], 30, 50),
        "patience": Case([*finetune, *early, "--set", "train.eval_steps=25"], 5, 25),
        "pretrain": Case([*pretrain, "--set", "train.eval_steps=50"], 10, 50),
    }


def crash(case: Case, folder: Path, seed: int, at_once: int) -> list["Outcome"]:
    """The run that nobody kills, and all others compared with it."""
    folder.mkdir()
    began = time.monotonic()
    reference = folder / "reference"
    run_to_the_end(case, reference)
    seconds = RunFolder(reference).read_info()["seconds"]
    print(
        f"{folder.name}: undisturbed in {time.monotonic() - began:.0f} s, "
        f"{seconds['training']:.1f} s of training",
        flush=True,
    )
    kill = partial(killed_run, case, folder, reference, seconds)
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(kill, [seed * 1000 + i for i in range(case.num_runs)]))


@dataclass
class Outcome:
    """What came of a run that was killed.

    Attributes:
        kills: how often, by what was going on.
        differing: what is not as in the run that nobody killed.
    """

    kills: Counter[str]
    differing: list[str]


def killed_run(
    case: Case, folder: Path, reference: Path, seconds: dict[str, float], seed: int
) -> Outcome:
    """Trains in a folder of its own, killed one to three times."""
    rng = random.Random(seed)
    run = folder / f"run{seed}"
    kills: Counter[str] = Counter()
    for _ in range(rng.randint(1, 3)):
        moment = rng.choices(["training", "checkpoint", "start"], [4, 2, 1])[0]
        process = start(case, run)
        if moment == "start":
            time.sleep(rng.uniform(0, seconds["until_training"]))
        else:
            wait_for_training(process, run)
        if moment == "training":
            time.sleep(rng.uniform(0, seconds["training"]))
        elif moment == "checkpoint":
            wait_for_checkpoint(process, run, rng.randint(1, 6))
        if process.poll() is not None:
            break  # it was done before
        process.kill()
        process.wait()
        kills[what_went_on(case, run)] += 1
    run_to_the_end(case, run)
    outcome = Outcome(kills, differences(reference, run))
    print(f"{run.name}: {dict(kills)}, differs in {outcome.differing}", flush=True)
    return outcome


def start(case: Case, run: Path) -> subprocess.Popen[bytes]:
    """Begins the training, or goes on with it: it is the same command."""
    command = kbert_command(*case.command, "--output", str(run), "--resume")
    with open(run.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def run_to_the_end(case: Case, run: Path) -> None:
    """Raises RuntimeError where the command fails."""
    if code := start(case, run).wait(_TOO_LONG):
        log = run.with_suffix(".log").read_text("utf-8", "replace")
        raise RuntimeError(f"{run}: exit code {code}\n{log[-3000:]}")


def wait_for_training(process: subprocess.Popen[bytes], run: Path) -> None:
    """Until the process has said in `kbert.json` that it trains."""
    began = time.time()
    info = RunFolder(run).info_file
    while process.poll() is None:
        if info.exists() and info.stat().st_mtime >= began:
            return
        time.sleep(_POLL_SECONDS)


def wait_for_checkpoint(
    process: subprocess.Popen[bytes], run: Path, number: int
) -> None:
    """Until the process is writing its checkpoint of this number."""
    folder = RunFolder(run).checkpoints_folder
    seen: set[str] = set()
    while process.poll() is None and len(seen) < number:
        seen |= {path.name for path in folder.glob(".step-*")}
        time.sleep(_POLL_SECONDS)


def what_went_on(case: Case, run: Path) -> str:
    """What the kill has cut short, as far as the folder tells."""
    folder = RunFolder(run).checkpoints_folder
    if any(folder.glob(".step-*")):
        return "checkpoint half written"
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return "before the first checkpoint"
    state = json.loads((checkpoints[-1] / STATE).read_text("utf-8"))
    progress = state["progress"]
    is_due = progress["step"] % case.eval_steps == 0
    if is_due and progress["evaluated_step"] != progress["step"]:
        return "evaluation"
    return "training"


def judge(results: dict[str, list[Outcome]]) -> int:
    """Prints what came out; returns the exit code."""
    kinds = sorted({k for found in results.values() for o in found for k in o.kills})
    print(f"\n| case | runs | kills | {' | '.join(kinds)} | identical |")
    print("|---" * (len(kinds) + 4) + "|")
    figures = {}
    for name, found in results.items():
        kills = sum((outcome.kills for outcome in found), Counter())
        same = sum(not outcome.differing for outcome in found)
        counts = " | ".join(str(kills[kind]) for kind in kinds)
        print(f"| {name} | {len(found)} | {kills.total()} | {counts} | {same} |")
        figures[name] = {"runs": len(found), "kills": kills, "identical": same}
    kept = all(f["identical"] == f["runs"] for f in figures.values())
    print(f"\n{json.dumps({'part': 'crash', 'kept': kept, 'figures': figures})}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
