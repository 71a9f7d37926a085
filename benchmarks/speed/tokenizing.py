"""Tokenizing IMDB: benchmarks/tokenize_imdb.py as a part of this suite.

Purpose: kbert's tokenizer in a tf.data pipeline handles 2.5 times the MB/s of Hugging
Face's Rust `tokenizers`, with equal token ids.

    python -m benchmarks.speed.tokenizing --peer-python venv-peers/bin/python \\
        --data-dir $DATA --preset $PRESET

Both are in one process of kbert's environment, by turns; the peers' Python is not used.
Takes about a minute. Prints a table and a JSON line; exits with 1 where a promise is
broken.
"""

import sys
from pathlib import Path

from benchmarks.serving.servers import only_cores
from benchmarks.speed.report import (
    NUM_CORES,
    Promise,
    conclude,
    make_parser,
    parse,
    run_process,
    undisturbed,
)

PROMISED_RATIO = 2.5


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=-1, help="first N texts only")
    arguments = parse(parser)
    if arguments.quick:
        arguments.rounds, arguments.limit = 1, 500
    records = Path(arguments.data_dir, "imdb_reviews/plain_text/1.0.0")
    files = sorted(map(str, records.glob("*-train.tfrecord-*")))
    vocabulary = Path(arguments.preset, "assets/tokenizer/vocabulary.txt")
    command = [sys.executable, "benchmarks/tokenize_imdb.py", *files]
    command += ["--vocabulary", str(vocabulary), "--rounds", str(arguments.rounds)]
    command += ["--limit", str(arguments.limit), "--json"]
    with only_cores(NUM_CORES):
        # It fails, with its own words, where the token ids differ.
        measured = run_process(command, arguments.folder / "tokenize.log")
    print(measured.stdout.strip().rpartition("\n")[0])
    figures = measured.answer
    promises = [
        Promise("MB/s: x tokenizers", figures["ratio"], PROMISED_RATIO),
        undisturbed(measured.others),
    ]
    return conclude("tokenize", promises, figures)


if __name__ == "__main__":
    sys.exit(main())
