"""An export without Keras: kbert's tokenizer, an embedding, a mean, a dense layer.

It has everything that an export of a run has, and takes a second to write.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from kbert.config import ExportSettings
from kbert.errors import ExportError
from kbert.exporting import card, golden, server_files, warmup
from kbert.exporting.checks.tokenizer import VOCABULARY_FILE_NAME
from kbert.exporting.fresh import FreshServable
from kbert.exporting.probe import Probe, op_libraries
from kbert.exporting.saved_model import write_saved_model
from kbert.files import write_json
from kbert.tasks.served import FEATURES, LENGTH_MULTIPLE, Signature
from kbert.tokenization import WordPieceTokenizer, pack, pad
from kbert.workflows.machine import versions

LABELS = ("neg", "pos")
MAX_LENGTH = 32
MAX_BATCH_SIZE = 4
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "good", "the", "电", ".",
    *_LETTERS, *(f"##{letter}" for letter in _LETTERS),
)  # fmt: skip

Change = Callable[[tf.Tensor], tf.Tensor]


class InProcess(FreshServable):
    """A servable that is loaded here, for speed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._probe = Probe(op_libraries("portable"))
        # Tests ask the same again and again.
        self._answer = functools.cache(
            lambda text: self._probe.answer(json.loads(text))
        )
        self.load(folder)

    def load(self, folder: Path) -> None:
        self._answer.cache_clear()
        self._request({"load": str(folder)})

    def _request(self, request: dict) -> dict:
        answer = self._answer(json.dumps(request, sort_keys=True))
        if "error" in answer:
            raise ExportError(answer["error"])
        return answer


def write_toy_export(
    folder: Path, *, masks_padding: bool = True, change: Change = tf.identity
) -> Path:
    """Writes `folder`, a version, and returns it.

    Args:
        masks_padding: else padding counts in the mean, a mistake.
        change: what is done to the texts first; for other mistakes.
    """
    extra = folder / "assets.extra"
    extra.mkdir(parents=True)
    signatures, variables = _signatures(masks_padding, change)
    write_saved_model(folder, signatures, variables)
    settings = ExportSettings(max_batch_size=MAX_BATCH_SIZE)
    _write_golden(extra, signatures)
    shapes = warmup.plan(
        warmup.batch_sizes(MAX_BATCH_SIZE),
        warmup.lengths(MAX_LENGTH, LENGTH_MULTIPLE),
        seconds_of_largest=0.0,
    )
    calls = warmup.requests(shapes, ["text"], signature="serving_default")
    warmup.write_warmup(extra / warmup.FILE_NAME, "toy", calls)
    (extra / server_files.BATCHING_FILE_NAME).write_text(
        server_files.batching_parameters(settings)
    )
    (extra / server_files.MODEL_CONFIG_FILE_NAME).write_text(
        server_files.model_config("toy")
    )
    (extra / VOCABULARY_FILE_NAME).write_text("\n".join(VOCABULARY) + "\n", "utf-8")
    task = {"labels": list(LABELS), "max_length": MAX_LENGTH}
    values = card.build_card(
        name="toy",
        task=task,
        run={"preset": "toy", "metrics": {}, "data": {}},
        signatures=signatures,
        settings=settings,
        versions=versions(),
    )
    write_json(extra / card.FILE_NAME, values)
    return folder


def edit_json(file: Path, change: Callable[[dict], object]) -> None:
    """Changes what a JSON file holds."""
    values = json.loads(file.read_text("utf-8"))
    change(values)
    file.write_text(json.dumps(values), "utf-8")


def _signatures(
    masks_padding: bool, change: Change
) -> tuple[dict[str, Signature], list[tf.Variable]]:
    rng = np.random.default_rng(0)
    tokenizer = WordPieceTokenizer(VOCABULARY, lowercase=True, strip_accents=True)
    embedding = tf.Variable(rng.normal(size=(len(VOCABULARY), 4)), dtype=tf.float32)
    kernel = tf.Variable(rng.normal(size=(4, len(LABELS))), dtype=tf.float32)
    labels = tf.constant(LABELS)

    def encoded(token_ids, segment_ids, padding_mask):
        mask = padding_mask if masks_padding else tf.ones_like(padding_mask)
        weights = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
        embedded = tf.gather(embedding, token_ids + 0 * segment_ids) * weights
        mean = tf.reduce_sum(embedded, 1) / tf.reduce_sum(weights, 1)
        return {"logits": tf.linalg.matmul(mean, kernel)}

    def probabilities(text):
        tokens = tokenizer.tokenize(change(text))
        packed = pack(
            tokens, None, max_length=MAX_LENGTH, truncation="head",
            cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id,
        )  # fmt: skip
        features = pad(
            packed, pad_id=tokenizer.pad_id, max_length=MAX_LENGTH,
            multiple_of=LENGTH_MULTIPLE,
        )  # fmt: skip
        return tf.nn.softmax(encoded(**features)["logits"])

    def serving_default(text):
        values = probabilities(text)
        return {
            "label": tf.gather(labels, tf.argmax(values, axis=-1)),
            "score": tf.reduce_max(values, axis=-1),
            "probabilities": values,
        }

    def classify(inputs):
        feature = {"text": tf.io.FixedLenFeature([], tf.string)}
        values = probabilities(tf.io.parse_example(inputs, feature)["text"])
        classes = tf.tile(labels[tf.newaxis], [tf.shape(values)[0], 1])
        return {"classes": classes, "scores": values}

    text = tf.TensorSpec([None], tf.string, name="text")
    inputs = tf.TensorSpec([None], tf.string, name="inputs")
    ids = (tf.TensorSpec([None, None], tf.int32, name=name) for name in FEATURES)
    signatures = {
        "serving_default": Signature(serving_default, (text,)),
        "classify": Signature(classify, (inputs,)),
        "encoded": Signature(encoded, tuple(ids)),
    }
    return signatures, [embedding, kernel]


def _write_golden(extra: Path, signatures: dict[str, Signature]) -> None:
    texts = golden.golden_texts(is_paired=False)
    examples = []
    for text in texts:
        example = tf.train.Example()
        example.features.feature["text"].bytes_list.value.append(text.encode())
        examples.append(example.SerializeToString())
    ids = np.arange(12, dtype=np.int32).reshape(2, 6)
    mask = np.array([[1] * 6, [1] * 3 + [0] * 3], np.int32)
    asked = {
        "serving_default": {"text": np.array([t.encode() for t in texts], object)},
        "classify": {"inputs": np.array(examples, object)},
        "encoded": dict(zip(FEATURES, (ids, np.zeros_like(ids), mask), strict=True)),
    }
    calls = {}
    for name, inputs in asked.items():
        outputs = signatures[name].function(*map(tf.constant, inputs.values()))
        answers = {key: values.numpy() for key, values in outputs.items()}
        calls[name] = golden.GoldenCall(inputs, answers)
    golden.Golden("float32", 1e-5, calls).write(extra)
