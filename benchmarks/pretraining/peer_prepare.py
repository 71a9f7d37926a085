"""The peer's side of prepare.py: TEXT VOCABULARY OUTPUT MAX_LENGTH CHECKOUT.

Runs create_pretraining_data.py of a checkout of google-research/bert unchanged; its
`import tensorflow` gets TensorFlow 2's module for code of TensorFlow 1.
"""

import importlib
import sys
from types import ModuleType
from unittest import mock

import tensorflow as tf

from benchmarks.pretraining.prepared_by import measure


def main() -> int:
    text, vocabulary, output, max_length, checkout = sys.argv[1:]
    script = import_script(checkout)
    script.FLAGS(
        [
            "create_pretraining_data.py",
            f"--input_file={text}",
            f"--output_file={output}",
            f"--vocab_file={vocabulary}",
            "--do_lower_case=True",
            f"--max_seq_length={max_length}",
            # As many as 15 % are; the script's own default fits 128 tokens.
            f"--max_predictions_per_seq={round(0.15 * int(max_length)) + 1}",
            "--masked_lm_prob=0.15",
            "--short_seq_prob=0.1",
            "--dupe_factor=1",
        ]
    )

    def count() -> tuple[int, int, int]:
        num_examples = num_tokens = num_random = 0
        for record in tf.data.TFRecordDataset(output).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            num_examples += 1
            num_tokens += sum(feature["input_mask"].int64_list.value)
            num_random += feature["next_sentence_labels"].int64_list.value[0]
        return num_examples, num_tokens, num_random

    measure(lambda: script.main(None), count)
    return 0


def import_script(checkout: str) -> ModuleType:
    sys.path.insert(0, checkout)
    with mock.patch.dict(sys.modules, tensorflow=tf.compat.v1):
        return importlib.import_module("create_pretraining_data")


if __name__ == "__main__":
    sys.exit(main())
