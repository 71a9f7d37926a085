"""Peak memory of preparing a large text, beside that of a tenth of it.

Purpose: `kbert pretrain --prepare-only` of a text file of 2 GB takes as much memory, at
its peak, as of one of 200 MB, within 10 %.

    python -m benchmarks.pretraining.memory
    python -m benchmarks.pretraining.memory --megabytes 400 --vocabulary vocab.txt

The texts are made of the sentences of kbert's sample: documents of 4 to 12 of them, in
any order, in each sentence one word replaced by another or by a number. Without
--vocabulary one is learned from the text on the way, as for any user. The peak is what
the system says of the process, and of those it may have started, when it has ended.
Where the smaller text does not fill the buffers the ratio says nothing: 200 MB are
enough. Takes about 30 minutes for 2 GB on two cores, and 5 GB of disk in --folder.
Prints both peaks and a JSON line; exits with 1 where the ratio is above 1.1.
"""

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

from benchmarks.pretraining.commands import KBERT, ROOT

MAX_RATIO = 1.1
MAX_NUMBER = 10_000
SENTENCES = range(4, 13)  # of a document


def main() -> int:
    arguments = parse_arguments()
    large = arguments.megabytes
    peaks = {}
    for megabytes in (large / 10, large):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            text = Path(folder, "text.txt")
            write_text(text, round(megabytes * 1e6))
            start = time.monotonic()
            peak = prepare(text, Path(folder, "prepared"), arguments.vocabulary)
        seconds = time.monotonic() - start
        peaks[megabytes] = peak
        print(f"{megabytes:g} MB: peak {peak / 1e6:,.0f} MB, {seconds:,.0f} s")
    ratio = peaks[large] / peaks[large / 10]
    print(f"ratio {ratio:.3f}, at most {MAX_RATIO}")
    report = {"kept": ratio <= MAX_RATIO, "ratio": ratio, "peak_bytes": peaks}
    print(json.dumps(report))
    return 0 if report["kept"] else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=2000, help="of the large")
    parser.add_argument("--vocabulary", type=Path, help="learned where not given")
    parser.add_argument("--folder", type=Path, help="for texts and examples")
    return parser.parse_args()


def write_text(path: Path, num_bytes: int) -> None:
    """A text of documents with blank lines between them, always the same."""
    sentences = sample_sentences()
    words = sorted({word for sentence in sentences for word in sentence})
    # A sentence with a gap at each of its words.
    gaps = [
        (" ".join(["", *sentence[:n], ""]), " ".join(["", *sentence[n + 1 :]]))
        for sentence in sentences
        for n in range(len(sentence))
    ]
    words += map(str, range(MAX_NUMBER))
    rng = random.Random(0)
    size = 0
    with path.open("w", encoding="utf-8") as file:
        while size < num_bytes:
            count = rng.choice(SENTENCES)
            chosen = zip(
                rng.choices(gaps, k=count), rng.choices(words, k=count), strict=True
            )
            document = "".join(f"{gap[0]}{word}{gap[1]}" for gap, word in chosen)
            size += file.write(f"{document}\n\n")


def sample_sentences() -> list[list[str]]:
    """The sentences of kbert's sample, as words."""
    sample = resources.files("kbert.data") / "sample" / "train.csv"
    with sample.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    sentences = [s for text in texts for s in re.split(r"(?<=[.!?])\s+", text)]
    return [sentence.split() for sentence in sentences if sentence]


def prepare(text: Path, output: Path, vocabulary: Path | None) -> int:
    """Prepares the text in a process of its own; returns its peak memory in bytes."""
    command = [*KBERT, "pretrain", str(text), "--prepare-only", "--output", str(output)]
    if vocabulary is not None:
        command += ["--vocabulary", str(vocabulary.absolute())]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"kbert pretrain ended with {process.returncode}.")
    return usage.ru_maxrss * 1024  # Linux says kilobytes


if __name__ == "__main__":
    sys.exit(main())
