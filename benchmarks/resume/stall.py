"""What writing checkpoints takes of a training's time.

Purpose: at the default interval, less than 2 %: the time in which a checkpoint is
written, and whatever the steps after it are slower than others.

    python -m benchmarks.resume.stall --data-dir $DATA --preset $PRESET

A fine-tuning on real IMDB, 32 x 128 tokens, with a checkpoint every 12th step. Takes
about 6 minutes. Prints a table and a JSON line; exits with 1 where the promise is
broken.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kbert
from benchmarks.speed.report import Promise, conclude
from kbert.runs import RunFolder
from kbert.settings import SharedTrainSettings
from kbert.training.checkpoints import list_checkpoints
from kbert.training.loop import Progress, Step
from kbert.workflows.checkpointing import Checkpointer
from kbert.workflows.reporting import RunListener

_EVERY = 12  # steps between two checkpoints
_WARM_UP = 5  # steps, of which the first are traced


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", required=True, help="of tensorflow-datasets")
    parser.add_argument("--preset", required=True, help="a folder of keras-hub's")
    parser.add_argument("--checkpoints", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kbert-stall.") as folder, timed() as times:
        run = train(Path(folder, "run"), arguments)
        num_bytes = size_of(list_checkpoints(RunFolder(run.path).checkpoints_folder)[0])
    steps = durations(times)
    after = {step for written in times.writing for step in (written + 1, written + 2)}
    usual = [s for step, s in steps.items() if step > _WARM_UP and step not in after]
    slowed = [s for step, s in steps.items() if step in after]
    writing = statistics.median(times.writing.values())
    step = statistics.median(usual)
    # Two steps follow each checkpoint, while the system still writes to the disk.
    cost = writing + 2 * (statistics.median(slowed) - step)
    minutes = SharedTrainSettings.model_fields["checkpoint_minutes"].default
    print("| figure | value |\n|---|---|")
    print(f"| checkpoint | {num_bytes / 1e6:,.0f} MB |")
    print(f"| written in (median of {len(times.writing)}) | {writing:.2f} s |")
    print(f"| longest | {max(times.writing.values()):.2f} s |")
    print(f"| step (median of {len(usual)}) | {step:.3f} s |")
    print(f"| one of the two after it | {statistics.median(slowed):.3f} s |")
    share = cost / (minutes * 60)
    promise = Promise(f"share at every {minutes} minutes", share, 0.02, at_least=False)
    figures = {"bytes": num_bytes, "writing": times.writing, "steps": steps}
    return conclude("stall", [promise], figures)


class Times:
    """What was measured.

    Attributes:
        steps: when each step had ended, by its number.
        writing: the seconds that the checkpoint of a step took, by its number.
    """

    def __init__(self) -> None:
        self.steps: dict[int, float] = {}
        self.writing: dict[int, float] = {}


@contextmanager
def timed() -> Iterator[Times]:
    """Watches a training of this process."""
    times = Times()
    on_step, keep = RunListener.on_step, Checkpointer.keep

    def note_step(self: RunListener, step: Step) -> None:
        on_step(self, step)
        times.steps[step.number] = time.perf_counter()

    def note_writing(self: Checkpointer, progress: Progress) -> None:
        began = time.perf_counter()
        keep(self, progress)
        if progress.evaluated_step != progress.step:
            times.writing[progress.step] = time.perf_counter() - began

    RunListener.on_step, Checkpointer.keep = note_step, note_writing
    try:
        yield times
    finally:
        RunListener.on_step, Checkpointer.keep = on_step, keep


def train(run: Path, arguments: argparse.Namespace) -> kbert.Run:
    """The training that is watched; the evaluation is at its end."""
    steps = _EVERY * (arguments.checkpoints + 1)
    return kbert.finetune(
        arguments.preset,
        "tfds:imdb_reviews",
        output=run,
        max_length=128,
        batch_size=32,
        precision="float32",
        settings={
            "data.data_dir": arguments.data_dir,
            "data.limit": 2 * 32 * steps,
            "data.validation_share": 0.01,
            "train.max_steps": steps,
            "train.checkpoint_steps": _EVERY,
        },
    )


def durations(times: Times) -> dict[int, float]:
    """How long each step took, by its number; the writing before it is left out."""
    ends = times.steps
    return {
        step: ends[step] - ends[step - 1] - times.writing.get(step - 1, 0.0)
        for step in sorted(ends)
        if step - 1 in ends
    }


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    sys.exit(main())
