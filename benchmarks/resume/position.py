"""How long a training that goes on at a late step waits for its first batch.

Purpose: of ten million examples, labelled or prepared, the first batch is there within
5 s of opening the data, however many epochs were trained before: earlier epochs are not
gone through, and a table that a run has read is not read again. For the record: the
same of a corpus of text whose examples are made while they are used, with the bookmark
of a position and without one, beside the wait at the beginning, and how fast text is
read that is only passed over.

    python -m benchmarks.resume.position

All data are made in a temporary folder (2 GB). Each wait is that of newly opened data
in this process: importing Keras is left out, tracing the mask is not. Once for each,
the batch after the first is compared with the one that its position leads to. Takes
about 10 minutes, half of them for making the data. Prints a table and a JSON line;
exits with 1 where a promise is broken.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np

from benchmarks.resume import made
from benchmarks.speed.report import Promise, conclude
from kbert.config import DataSettings
from kbert.data.batching import Batching, choose_widths
from kbert.data.corpus import open_corpus
from kbert.data.encoded import Encoder
from kbert.data.prepared import PreparedExamples, open_prepared
from kbert.data.pretraining import ExampleSource, TextExamples
from kbert.data.pretraining_examples import ExampleRecipe
from kbert.data.windows import read_pieces_of, windows
from kbert.layers import MaskedLMMask
from kbert.training.feeding import TrainingData, Update
from kbert.training.labelled_data import LabelledData
from kbert.training.masked_data import MaskedData, Phase, compile_mask
from kbert.workflows.datasets import (
    Datasets,
    encode_datasets,
    keep_datasets,
    open_sources,
)

PROMISED_SECONDS = 5.0
BATCH_SIZE = 32
NUM_ROWS = 200  # of a masked batch; a shard holds a multiple of it
MAX_LENGTH = 128
LATE_EPOCH = 3
LATE_EXAMPLE = 70_000  # of its block

Position = Mapping[str, Any] | None
Open = Callable[[], TrainingData]


@dataclass(frozen=True)
class Wait:
    """For the first batch of a training, from a position on.

    Attributes:
        step: the update it is of, counted from 1.
        seconds: of each round.
    """

    what: str
    step: int
    seconds: list[float]

    def __str__(self) -> str:
        middle, longest = statistics.median(self.seconds), max(self.seconds)
        return f"| {self.what} | {self.step:,} | {middle:.2f} | {longest:.2f} |"


def main() -> int:
    arguments = parse_arguments()
    waits: list[Wait] = []
    rates: dict[str, float] = {}
    for part in (wait_for_labelled, wait_for_prepared):
        with tempfile.TemporaryDirectory() as folder:
            waits += part(Path(folder), arguments)
    num_promised = len(waits)
    with tempfile.TemporaryDirectory() as folder:
        waits += wait_for_text(Path(folder), arguments, rates)
    print("\n| data | step | median s | longest s |\n|---|---|---|---|")
    for wait in waits:
        print(wait)
    for what, rate in rates.items():
        print(f"passing over {what}: {rate:.0f} MB/s")
    promises = [
        Promise(f"s: {wait.what}", max(wait.seconds), PROMISED_SECONDS, at_least=False)
        for wait in waits[:num_promised]
    ]
    figures = {
        "waits": [vars(wait) for wait in waits],
        "passing_over_mb_per_s": rates,
        "examples": arguments.examples,
        "text_megabytes": arguments.text_megabytes,
    }
    return conclude("resume", promises, figures)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=10_000_000)
    parser.add_argument("--text-megabytes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes: shows that all works, the figures mean nothing",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.examples, arguments.text_megabytes, arguments.rounds = 300_000, 75, 1
    return arguments


def wait_for_labelled(folder: Path, arguments: argparse.Namespace) -> list[Wait]:
    """Of a table, read and tokenized at the first start and kept for the next."""
    settings = DataSettings(source=str(folder / "examples.csv"))
    made.write_labelled(folder / "examples.csv", arguments.examples)
    encoder = Encoder(made.tokenizer(), 16, "head")
    kept = folder / "encoded"

    def read() -> Datasets:
        return encode_datasets(
            open_sources(settings), encoder, settings, seed=1, encoded_folder=kept
        )

    def open_data() -> LabelledData:
        datasets = read()
        if datasets.to_keep:
            raise RuntimeError("the table was read again")
        dataset = datasets.train
        batching = Batching(
            16, BATCH_SIZE, chosen_widths=choose_widths(dataset.lengths, 16)
        )
        weights = np.ones(len(dataset), np.float32)
        return LabelledData(
            dataset, dataset.label_ids, weights, batching, pad_id=0, seed=1
        )

    begin = time.perf_counter()
    datasets = read()
    seconds = time.perf_counter() - begin
    keep_datasets(datasets, kept, needed_bytes=0)
    keeping = time.perf_counter() - begin - seconds
    print(f"labelled: read in {seconds:.0f} s, kept in {keeping:.1f} s", flush=True)
    late = {"step": LATE_EPOCH * len(datasets.train) // BATCH_SIZE + 1000}
    return [
        measure("labelled, kept, from the beginning", open_data, None, arguments),
        measure("labelled, kept, late", open_data, late, arguments),
    ]


def wait_for_prepared(folder: Path, arguments: argparse.Namespace) -> list[Wait]:
    """Of a folder as `kbert pretrain --prepare-only` writes it."""
    num_examples = made.write_prepared(folder, arguments.examples)

    def open_data() -> MaskedData:
        prepared = open_prepared(folder)
        return masked_data(PreparedExamples(prepared, made.LENGTH, seed=1), made.LENGTH)

    block = num_examples // made.BLOCK_EXAMPLES // 2
    num_fed = LATE_EPOCH * num_examples + block * made.BLOCK_EXAMPLES + LATE_EXAMPLE
    late = place(num_fed // NUM_ROWS, LATE_EPOCH, block, LATE_EXAMPLE)
    return [
        measure("prepared, from the beginning", open_data, None, arguments),
        measure("prepared, late", open_data, late, arguments),
    ]


def wait_for_text(
    folder: Path, arguments: argparse.Namespace, rates: dict[str, float]
) -> list[Wait]:
    """Of text, from its last but one block on; notes how fast it is passed over."""
    tokenizer = made.tokenizer()
    recipe = ExampleRecipe(
        max_length=MAX_LENGTH,
        next_sentence=True,
        short_rate=0.1,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
    )

    def open_source(path: Path) -> TextExamples:
        corpus = open_corpus([str(path)])
        return TextExamples(corpus, tokenizer, recipe, seed=1, keep=keep_all)

    waits = []
    for path in made.write_texts(folder, arguments.text_megabytes):
        kind = f"text{path.name.removeprefix('text')}"
        rates[kind], num_windows = read_over(path)
        block = (num_windows - 1) // 8 - 1

        def open_data(path: Path = path) -> MaskedData:
            return masked_data(open_source(path), MAX_LENGTH)

        source = open_source(path)
        for _ in source.blocks(0, block):
            break
        bare = place(1000, 0, block, 0)
        marked = bare | {"bookmark": source.bookmark(0, block)}
        if path.suffix == ".txt":
            begin = measure(f"{kind}, from the beginning", open_data, None, arguments)
            waits.append(begin)
        for what, late in {"": bare, ", bookmark": marked}.items():
            waits.append(
                measure(f"{kind}, block {block}{what}", open_data, late, arguments)
            )
        path.unlink()
    return waits


def read_over(path: Path) -> tuple[float, int]:
    """How fast a text is read, in MB/s of what is in it, and its windows."""
    start = time.perf_counter()
    pieces = read_pieces_of(open_corpus([str(path)]), keep_all)
    sizes = [window.num_bytes for window in windows(pieces, need_two_documents=True)]
    return sum(sizes) / 1e6 / (time.perf_counter() - start), len(sizes)


def keep_all(file: int, document: int) -> bool:
    """No document is held out."""
    return True


def masked_data(source: ExampleSource, max_length: int) -> MaskedData:
    """What `kbert pretrain` feeds, masked."""
    layer = MaskedLMMask(
        made.VOCABULARY_SIZE,
        made.MASK_ID,
        special_token_ids=range(made.FIRST_WORD),
        mask_selection_length=max(1, round(0.15 * max_length)),
        seed=1,
    )
    phase = Phase(source, compile_mask(layer), max_length, NUM_ROWS, 10**9)
    return MaskedData([phase], pad_id=0, next_sentence=True)


def place(step: int, epoch: int, block: int, example: int) -> dict[str, Any]:
    """A position of `MaskedData`."""
    return {"step": step, "epoch": epoch, "block": block, "example": example}


def measure(
    what: str, open_data: Open, start: Position, arguments: argparse.Namespace
) -> Wait:
    """Waits for the first batch in each round.

    Raises:
        RuntimeError: the position of an update leads to another one than came next.
    """
    step = 0 if start is None else int(start["step"])
    seconds = []
    for number in range(arguments.rounds):
        begin = time.perf_counter()
        updates = open_data().updates(step + 2, start)
        first = next(updates)
        seconds.append(time.perf_counter() - begin)
        if number == 0:
            after = next(updates)
            (again,) = open_data().updates(step + 2, first.position)
            if tokens_of(after) != tokens_of(again):
                raise RuntimeError(f"{what}: not the batches of the training before")
        del updates  # and its threads, before the next round
    wait = Wait(what, step + 1, seconds)
    print(wait, flush=True)
    return wait


def tokens_of(update: Update) -> list[list[int]]:
    """The tokens of all batches."""
    return [fed.features["token_ids"].ravel().tolist() for fed in update.batches]


if __name__ == "__main__":
    sys.exit(main())
