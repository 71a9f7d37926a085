"""Faults injected below Python: what a training and its run make of them.

Purpose: whatever becomes of the disk, a checkpoint or a model, there is a message that
names it, an exit code, and never a traceback alone, nor a wrong model that is used.

    python -m benchmarks.resume.faults

- Of a checkpoint, each file is cut at every 4 KiB boundary, and has a byte flipped in
  each of its parts: the one before it is used.
- Of the model, likewise: `kbert predict` refuses it.
- The disk gets full (a small file system in memory; as root on Linux) after the first
  checkpoint, and after later ones: the training stops, its run goes on once there is
  room, and ends as the one that nothing happened to.

Takes about 10 minutes. Prints a table and a JSON line; exits with 1 where the promise
is broken.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.resume.same_run import differences
from benchmarks.speed.report import kbert_command
from kbert.checksums import SUMS
from kbert.errors import PresetError, RunError
from kbert.presets import resolve_preset
from kbert.runs import RunFolder
from kbert.training.checkpoints import (
    STATE,
    VARIABLES,
    list_checkpoints,
    read_latest,
)

_STEPS = 60
_BLOCK = 4096
_ROOM = 300_000_000  # bytes
_FLIPS = 200  # of each file, evenly over it


def main() -> int:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    outcomes: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="kbert-faults.") as name:
        folder = Path(name)
        whole = folder / "whole"
        code, log = train(whole)
        if code:
            raise RuntimeError(log)
        outcomes |= damaged_checkpoints(whole, folder / "checkpoints")
        outcomes |= damaged_models(whole, folder / "model")
        outcomes |= full_disks(whole, folder)
    print("\n| fault | cases | outcome |\n|---|---|---|")
    for fault, found in outcomes.items():
        counts = ", ".join(f"{what}: {count}" for what, count in found.items())
        print(f"| {fault} | {found.total()} | {counts} |")
    bad = sum(
        found[what] for found in outcomes.values() for what in found if what[0] == "!"
    )
    print(f"\n{json.dumps({'part': 'faults', 'kept': not bad, 'figures': outcomes})}")
    return 1 if bad else 0


def train(run: Path) -> tuple[int, str]:
    """`kbert finetune` on the sample, begun or gone on with."""
    done = subprocess.run(command_for(run), capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def command_for(run: Path) -> list[str]:
    """Begins the training, or goes on with it."""
    command = kbert_command("finetune", "--output", str(run), "--resume")
    for setting in (
        f"train.max_steps={_STEPS}",
        "train.eval_steps=20",
        "train.checkpoint_steps=10",
    ):
        command += ["--set", setting]
    return command


def damaged_checkpoints(whole: Path, folder: Path) -> dict[str, Counter[str]]:
    """Two checkpoints, of which the later one is damaged in every way."""
    (last,) = list_checkpoints(RunFolder(whole).checkpoints_folder)
    step = int(last.name.partition("-")[2])
    for number in (step - 10, step):
        shutil.copytree(last, folder / f"step-{number:08}")
    outcomes: dict[str, Counter[str]] = {}
    for name in (STATE, VARIABLES, SUMS):
        file = folder / last.name / name
        for kind, changed in changes(file):
            found = outcomes.setdefault(f"checkpoint: {name} {kind}", Counter())
            with replaced(file, changed):
                found[what_is_used(folder, step - 10)] += 1
    if what_is_used(folder, step) != "the one before is used":
        raise RuntimeError("the whole checkpoint is not used")
    return outcomes


def what_is_used(folder: Path, expected: int) -> str:
    """Whether the checkpoint of this step is the one to go on from."""
    try:
        found = read_latest(folder)
    except RunError:
        return "! refused"
    if found is None:
        return "! none is found"
    is_right = found[0].name == f"step-{expected:08}"
    return "the one before is used" if is_right else "! the damaged one is used"


def damaged_models(whole: Path, folder: Path) -> dict[str, Counter[str]]:
    """A finished run whose model is damaged."""
    shutil.copytree(whole, folder)
    outcomes: dict[str, Counter[str]] = {}
    model = folder / "model"
    files = sorted(p for p in model.rglob("*") if p.is_file() and p.name != SUMS)
    for file in files:
        for kind, changed in changes(file):
            found = outcomes.setdefault(f"model: {kind}", Counter())
            with replaced(file, changed):
                try:
                    resolve_preset(str(folder))
                except PresetError as error:
                    names = file.name in str(error)
                    found["refused" if names else "! refused, unnamed"] += 1
                else:
                    found["! loaded"] += 1
    resolve_preset(str(folder))
    return outcomes


def changes(file: Path) -> Iterator[tuple[str, bytes]]:
    """The file cut at every block, and with a flipped byte in each part."""
    content = file.read_bytes()
    for size in range(0, len(content), _BLOCK):
        yield "cut at 4 KiB boundaries", content[:size]
    for place in range(0, len(content), max(1, len(content) // _FLIPS)):
        flipped = bytearray(content)
        flipped[place] ^= 0x01
        yield "a bit flipped", bytes(flipped)


@contextlib.contextmanager
def replaced(file: Path, content: bytes) -> Iterator[None]:
    """Another content for a while."""
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def full_disks(whole: Path, folder: Path) -> dict[str, Counter[str]]:
    """Trains on a disk that gets full at some point, and again with room."""
    found: Counter[str] = Counter()
    for step in (10, 30, 50):
        where = folder / f"disk{step}"
        where.mkdir()
        try:
            mount(where, _ROOM)
        except (OSError, subprocess.CalledProcessError) as error:
            return {"a full disk": Counter({f"skipped: {error}": 1})}
        try:
            found[on_a_full_disk(whole, where, step)] += 1
        finally:
            subprocess.run(["umount", str(where)], check=False)
    return {"a disk that gets full in the training": found}


def mount(where: Path, num_bytes: int, *, again: bool = False) -> None:
    """A file system in memory of this size."""
    options = f"{'remount,' if again else ''}size={num_bytes}"
    command = ["mount", "-t", "tmpfs", "-o", options, "kbert-faults", str(where)]
    subprocess.run(command, check=True, capture_output=True)


def on_a_full_disk(whole: Path, where: Path, step: int) -> str:
    """What the training says, and how it ends once there is room.

    Args:
        step: after whose checkpoint the disk gets as small as what is on it.
    """
    run = where / "run"
    checkpoint = RunFolder(run).checkpoints_folder / f"step-{step:08}"
    with subprocess.Popen(command_for(run), stderr=subprocess.PIPE, text=True) as first:
        while first.poll() is None and not checkpoint.exists():
            time.sleep(0.01)
        mount(where, shutil.disk_usage(where).used + 3 * _BLOCK, again=True)
        log = first.communicate()[1]
    last = log.strip().splitlines()[-1]
    if first.returncode != 1 or "Traceback" in log or not last.startswith("Error: "):
        return f"! exit code {first.returncode}: {last}"
    mount(where, _ROOM, again=True)
    again, log_again = train(run)
    if again:
        return f"! does not go on: {log_again.strip().splitlines()[-1]}"
    is_same = not differences(whole, run)
    return (
        f"stopped with a message, {'the same' if is_same else '! another'} in the end"
    )


if __name__ == "__main__":
    sys.exit(main())
