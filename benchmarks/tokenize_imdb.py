"""kbert's tokenizer beside Hugging Face's Rust tokenizer, on the same texts.

Purpose: MB/s of `WordPieceTokenizer` in a tf.data pipeline and of `tokenizers`'
`encode_batch`, taken by turns in one process, so that what else the machine is doing
hits both alike. Equal token ids are a condition, checked first; texts with private-use
characters are set aside, since `tokenizers` drops those and the original BERT does not.

    python benchmarks/tokenize_imdb.py --vocabulary vocabulary.txt \\
        ~/tensorflow_datasets/imdb_reviews/plain_text/1.0.0/*-train.tfrecord-*

Takes one to two minutes for the 25,000 reviews; expect a ratio of about 7 on two cores.
Exits with 1 where the token ids differ.
"""

import argparse
import json
import statistics
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf
from tokenizers import BertWordPieceTokenizer

from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import read_vocabulary


def main() -> int:
    arguments = parse_arguments()
    texts = read_texts(arguments.records, arguments.limit)
    megabytes = sum(map(len, texts)) / 1e6
    print(f"{len(texts)} texts, {megabytes:.1f} MB, batches of {arguments.batch_size}")

    kbert_dataset = make_dataset(arguments.vocabulary, texts, arguments.batch_size)
    peer = BertWordPieceTokenizer(
        str(arguments.vocabulary), lowercase=True, strip_accents=True
    )
    batches = [
        [text.decode() for text in texts[start : start + arguments.batch_size]]
        for start in range(0, len(texts), arguments.batch_size)
    ]
    different = [
        text
        for text, kbert_ids, peer_ids in encode_with_both(kbert_dataset, peer, batches)
        if kbert_ids != peer_ids
    ]
    num_private = sum(map(has_private_use, different))
    print(
        f"different token ids: {len(different)} of {len(texts)} texts, "
        f"{num_private} of them with private-use characters"
    )
    if num_private < len(different):
        return 1

    def run_kbert() -> None:
        for _ in kbert_dataset:
            pass

    def run_peer() -> None:
        for batch in batches:
            peer.encode_batch(batch, add_special_tokens=False)

    kbert_rates, peer_rates = [], []
    for number in range(1, arguments.rounds + 1):
        kbert_rates.append(megabytes / measure_seconds(run_kbert))
        peer_rates.append(megabytes / measure_seconds(run_peer))
        print(
            f"round {number}: kbert {kbert_rates[-1]:.1f} MB/s, "
            f"tokenizers {peer_rates[-1]:.1f} MB/s"
        )
    kbert_rate, peer_rate = map(statistics.median, (kbert_rates, peer_rates))
    print(
        f"median: kbert {kbert_rate:.1f} MB/s, tokenizers {peer_rate:.1f} MB/s, "
        f"ratio {kbert_rate / peer_rate:.2f}"
    )
    if arguments.json:
        rates = {"kbert": kbert_rates, "tokenizers": peer_rates}
        print(json.dumps({"ratio": kbert_rate / peer_rate, "mb_per_second": rates}))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("records", nargs="+", type=Path, help="TFRecord files")
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=-1, help="first N texts only")
    parser.add_argument("--json", action="store_true", help="figures in a last line")
    return parser.parse_args()


def read_texts(records: list[Path], limit: int) -> list[bytes]:
    """The feature `text` of every example."""
    feature = {"text": tf.io.FixedLenFeature([], tf.string)}
    dataset = tf.data.TFRecordDataset([str(path) for path in records]).take(limit)
    dataset = dataset.batch(1024).map(lambda x: tf.io.parse_example(x, feature)["text"])
    return [text for batch in dataset.as_numpy_iterator() for text in batch]


def make_dataset(
    vocabulary: Path, texts: list[bytes], batch_size: int
) -> tf.data.Dataset:
    """Ragged token ids of the texts, in their order."""
    tokenizer = WordPieceTokenizer(
        read_vocabulary(vocabulary), lowercase=True, strip_accents=True
    )
    return (
        tf.data.Dataset.from_tensor_slices(texts)
        .batch(batch_size)
        .map(tokenizer.tokenize, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def encode_with_both(
    dataset: tf.data.Dataset, peer: BertWordPieceTokenizer, batches: list[list[str]]
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Yields each text with kbert's and the peer's token ids."""
    for tokens, batch in zip(dataset, batches, strict=True):
        encodings = peer.encode_batch(batch, add_special_tokens=False)
        for text, token_ids, encoding in zip(
            batch, tokens.to_list(), encodings, strict=True
        ):
            yield text, token_ids, encoding.ids


def has_private_use(text: str) -> bool:
    return any(unicodedata.category(character) == "Co" for character in text)


def measure_seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
