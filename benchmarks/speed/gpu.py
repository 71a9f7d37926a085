"""BERT base on a GPU: kbert on JAX beside PyTorch, at 512 tokens in bfloat16.

Purpose: sequences/s of training (forward, backward, clipping, AdamW) and of prediction,
kbert with fused attention and XLA, Hugging Face's classifier with sdpa's flash
attention and torch.compile, on the same GPU by turns; and the share of 989 TFLOP/s,
what an H100 or H200 multiplies at most in bfloat16, that each makes use of.

    python -m benchmarks.speed.gpu

Both in the environment that runs this, or kbert in `--kbert-python`'s and the peer in
`--peer-python`'s; TensorFlow is not needed. Without dropout: kbert has fused attention
only so. Takes about 5 minutes. Prints a table and a JSON line. Exits with 2 where there
is no GPU, and with 1 where kbert is slower.
"""

import argparse
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.classifiers import CPU_CASE, GPU_CASE
from benchmarks.speed.report import Promise, conclude
from benchmarks.turns import Side, started, take_turns

PEAK = 989e12  # FLOP/s, dense, as the maker's data sheet says
KBERT, PEER = "kbert", "PyTorch"
WARM_UP_STEPS = 5  # compiled in the first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kbert-python", default=sys.executable)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--segments", type=int, default=5, help="for each side")
    parser.add_argument("--steps", type=int, default=GPU_CASE.steps, help="a segment")
    parser.add_argument(
        "--without-gpu",
        action="store_true",
        help="a tiny batch on the CPU: shows that all works, the figures mean nothing",
    )
    arguments = parser.parse_args()
    name = gpu_name()
    if name is None and not arguments.without_gpu:
        print("There is no NVIDIA GPU here; this needs one.", file=sys.stderr)
        return 2
    print(f"GPU: {name}", flush=True)
    figures = {work: measure(work, arguments) for work in ("training", "prediction")}
    return judge({"gpu": name, **figures})


def gpu_name() -> str | None:
    """The first GPU's; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if not done.returncode and done.stdout else None


def measure(work: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Lets both sides train, or predict, in turn."""
    pythons = {KBERT: arguments.kbert_python, PEER: arguments.peer_python}
    modules = {KBERT: "gpu_kbert", PEER: "gpu_peer"}
    settings = {"device": "cpu"} if arguments.without_gpu else {}
    with tempfile.TemporaryDirectory() as logs, contextlib.ExitStack() as stack:
        sides = []
        for name, python in pythons.items():
            module = f"benchmarks.speed.{modules[name]}"
            side = started(
                Side,
                name,
                [python, "-m", module, work],
                settings,
                Path(logs, f"{name}.log"),
                warm_up_steps=WARM_UP_STEPS,
            )
            sides.append(stack.enter_context(side))
        take_turns(
            sides,
            num_segments=arguments.segments,
            num_steps=arguments.steps,
            describe=lambda segment: f"{statistics.median(segment.seconds):.4f} s",
        )
    case = CPU_CASE if arguments.without_gpu else GPU_CASE
    found = {}
    for side in sides:
        seconds = statistics.median(side.seconds)
        flops = case.kbert_flops if side.name == KBERT else case.flops
        if work != "training":
            flops /= 3  # The forward pass's are a third of a step's.
        found[side.name] = {
            "versions": side.description,
            "step_seconds": seconds,
            "sequences_per_second": case.batch_size / seconds,
            "share_of_peak": flops / seconds / PEAK,
            "losses": [side.losses[0], side.losses[-1]],
        }
    return found


def judge(figures: dict[str, Any]) -> int:
    """Prints what came out; returns the exit code."""
    print("\n| work | side | sequences/s | share of 989 TFLOP/s | first, last loss |")
    print("|---|---|---|---|---|")
    promises = []
    for work in ("training", "prediction"):
        for name, side in figures[work].items():
            first, last = side["losses"]
            print(
                f"| {work} | {name} | {side['sequences_per_second']:,.1f} | "
                f"{side['share_of_peak']:.1%} | {first:.3f}, {last:.3f} |"
            )
        ours, theirs = (
            figures[work][name]["sequences_per_second"] for name in (KBERT, PEER)
        )
        promises.append(Promise(f"{work}: x PyTorch", ours / theirs, 1.0))
    return conclude("gpu", promises, figures)


if __name__ == "__main__":
    sys.exit(main())
