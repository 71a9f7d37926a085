"""A long training takes no more memory at its end than near its beginning.

Purpose: 20,000 steps of a tiny model, with 100 evaluations and as many checkpoints, and
at the end no more than 3 % above the memory of step 2,000.

    python -m benchmarks.resume.memory

The embedded sample, batches of 8 texts of 16 tokens. Takes about 5 minutes. Prints a
table and a JSON line; exits with 1 where the promise is broken.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.speed.report import Promise, conclude, kbert_command
from kbert.runs import RunFolder

_POLL_SECONDS = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--eval-steps", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kbert-memory.") as folder:
        run = Path(folder, "run")
        sizes = measure(run, arguments.steps, arguments.eval_steps)
    early = min(sizes, key=lambda step: abs(step - arguments.steps // 10))
    late = max(sizes)
    print("| step | resident MB |\n|---|---|")
    for step in [*sorted(sizes)[:: max(1, len(sizes) // 10)], late]:
        print(f"| {step:,} | {sizes[step] / 1e6:,.1f} |")
    growth = sizes[late] / sizes[early] - 1
    promise = Promise(
        f"growth from step {early:,} to {late:,}", growth, 0.03, at_least=False
    )
    return conclude("memory", [promise], {str(s): sizes[s] for s in sorted(sizes)})


def measure(run: Path, steps: int, eval_steps: int) -> dict[int, int]:
    """The resident size in bytes at each evaluation, by its step."""
    settings = {
        "train.max_steps": steps,
        "train.eval_steps": eval_steps,
        "train.epochs": steps,
    }
    command = kbert_command("finetune", "--output", str(run), "--max-length", "16")
    command += ["--batch-size", "8"]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    sizes: dict[int, int] = {}
    history = RunFolder(run).history_file
    with psutil.Popen(command) as process:
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            if not history.exists():
                continue
            lines = history.read_text("utf-8").splitlines()
            if not lines:
                continue
            step = json.loads(lines[-1])["step"]
            if step not in sizes:
                sizes[step] = process.memory_info().rss
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
