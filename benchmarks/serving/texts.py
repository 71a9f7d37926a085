"""The texts of the serving benchmarks: IMDB test reviews, and the hard cases.

Purpose: a JSON-lines file whose answers `kbert predict` then gives, the expected ones:

    python -m benchmarks.serving.texts texts.jsonl --data-dir $DATA --count 1000
    kbert predict RUN --input texts.jsonl --output answers.jsonl

With `--hard-cases` the texts of HARD_CASES follow, for parity.py.
"""

import argparse
import json
from pathlib import Path

HARD_CASES = (
    "",
    " ",
    "a rather good film " * 526 + "indee.",  # 10,000 characters
    "x" * 10_000,
    "这部电影很好看。我非常喜欢。 映画はとても良かったです。 정말 좋은 영화였다.",
    "Loved it 😀👍🏽 the 👨‍👩‍👧‍👦 too ❤️",
    "a\0good\0film",
    "\0",
    "Ça, c'est un cliché: naïve, Ångström, İstanbul",
    "tabs\tand\nlines\r\nand\u00a0spaces\u200band\ufeffmarks",
    '"quotes" \\ back/slashes <br /> & entities &amp;',
    "[MASK] [CLS] [SEP] [PAD] [UNK]",
    "ΟΔΟΣ ΣΊΣΥΦΟΣ \U00010400 \ue000",
)

# Invalid UTF-8, which only gRPC can carry, and the valid text that it stands for:
# kbert drops bytes that are no UTF-8.
INVALID_UTF8 = (
    (b"a good\xff\xfe film", "a good film"),
    (b"\x80", ""),
    (b"truncated \xe2\x82", "truncated "),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path, help="a .jsonl file to write")
    parser.add_argument("--data-dir", required=True, help="of tensorflow-datasets")
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--hard-cases", action="store_true")
    parser.add_argument("--labelled", action="store_true", help="write labels too")
    arguments = parser.parse_args()
    from kbert.data.sources import open_source

    source = open_source(
        "tfds:imdb_reviews",
        split=arguments.split,
        data_dir=arguments.data_dir,
        limit=arguments.count,
        labelled=arguments.labelled,
    )
    rows = []
    for chunk in source.chunks():
        rows += [{"text": text} for text in chunk.texts]
        for row, label in zip(rows[-len(chunk) :], chunk.labels or (), strict=False):
            row["label"] = label
    if arguments.hard_cases:
        rows += [{"text": text} for text in HARD_CASES]
        rows += [{"text": text} for _, text in INVALID_UTF8]
    with arguments.output.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    print(f"{len(rows)} texts in {arguments.output}")


if __name__ == "__main__":
    main()
