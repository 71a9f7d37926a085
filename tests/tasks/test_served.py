"""The signatures of a served model, against the model and the formula."""

import numpy as np
import pytest
import tensorflow as tf

from kbert.data.encoded import Encoder
from kbert.tasks import TextClassification
from kbert.tasks.served import ServedModel
from kbert.tokenization import WordPieceTokenizer
from tests.tiny import VOCABULARY, build_model

TASK = TextClassification(labels=("bad", "föö", "good"))
TEXTS = ["the film was good", "", "not very bad " * 9]
PAIRS = ["a film", "good food " * 9, ""]


@pytest.fixture(scope="module", params=[False, True], ids=["texts", "pairs"])
def served(request: pytest.FixtureRequest) -> ServedModel:
    tokenizer = WordPieceTokenizer(VOCABULARY, lowercase=True, strip_accents=True)
    model = build_model(TASK)
    return ServedModel(Encoder(tokenizer, 20, "head_tail"), model, request.param)


def columns(served: ServedModel) -> list[list[str]]:
    return [TEXTS, PAIRS] if served.is_paired else [TEXTS]


def expected_logits(served: ServedModel) -> np.ndarray:
    """Each text by itself, without any padding, as training has it."""
    rows = []
    for texts in zip(*columns(served), strict=True):
        row = served.encoder(*(tf.constant([text]) for text in texts))
        ids = row["token_ids"][tf.newaxis]
        features = {
            "token_ids": ids,
            "segment_ids": row["segment_ids"][tf.newaxis],
            "padding_mask": tf.ones_like(ids),
        }
        rows.append(served.model(features, training=False).numpy()[0])
    return np.array(rows)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def call(served: ServedModel, name: str, *inputs: tf.Tensor) -> dict[str, np.ndarray]:
    signature = TASK.signatures(served)[name]
    function = tf.function(signature.function, input_signature=signature.inputs)
    return {key: value.numpy() for key, value in function(*inputs).items()}


def test_plain_strings_give_what_the_model_gives(served: ServedModel):
    inputs = [tf.constant(texts) for texts in columns(served)]
    outputs = call(served, "serving_default", *inputs)
    probabilities = softmax(expected_logits(served))
    assert outputs.keys() == {"label", "score", "probabilities"}
    np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-6)
    np.testing.assert_allclose(outputs["score"], probabilities.max(-1), atol=1e-6)
    names = [label.encode() for label in TASK.labels]
    assert outputs["label"].tolist() == [names[i] for i in probabilities.argmax(-1)]
    assert outputs["probabilities"].dtype == outputs["score"].dtype == np.float32


def test_what_the_task_expects_of_a_server_is_what_it_serves(served: ServedModel):
    named = dict(zip(("text", "text_pair"), columns(served), strict=False))
    expected = TASK.served_outputs(expected_logits(served))
    signatures = TASK.signatures(served)
    assert expected.keys() == signatures.keys()
    for name, signature in signatures.items():
        inputs = served.examples_of(signature, named)
        assert list(inputs) == [spec.name for spec in signature.inputs]
        outputs = call(served, name, *map(tf.constant, inputs.values()))
        assert outputs.keys() == expected[name].keys()
        for key, values in expected[name].items():
            if values.dtype == object:
                assert outputs[key].tolist() == values.tolist()
            else:
                np.testing.assert_allclose(outputs[key], values, atol=1e-5)


def test_classify_takes_examples(served: ServedModel):
    names = [spec.name for spec in served.text_inputs]
    examples = []
    for texts in zip(*columns(served), strict=True):
        example = tf.train.Example()
        for name, text in zip(names, texts, strict=True):
            example.features.feature[name].bytes_list.value.append(text.encode())
        examples.append(example.SerializeToString())
    outputs = call(served, "classify", tf.constant(examples))
    probabilities = softmax(expected_logits(served))
    np.testing.assert_allclose(outputs["scores"], probabilities, atol=1e-6)
    names_of = [label.encode() for label in TASK.labels]
    assert outputs["classes"].tolist() == [names_of] * 3


def test_an_example_without_text_is_an_error(served: ServedModel):
    with pytest.raises(tf.errors.InvalidArgumentError, match="text"):
        call(served, "classify", tf.constant([b""]))


def test_encoded_takes_token_ids(served: ServedModel):
    inputs = [tf.constant(texts) for texts in columns(served)]
    features = served.encode(*inputs)
    assert features["token_ids"].shape == (3, 20)
    names = ("token_ids", "segment_ids", "padding_mask")
    outputs = call(served, "encoded", *(features[name] for name in names))
    np.testing.assert_allclose(outputs["logits"], expected_logits(served), atol=1e-5)


def test_inputs_are_named(served: ServedModel):
    named = {
        name: {spec.name: (spec.dtype, spec.shape.as_list()) for spec in found.inputs}
        for name, found in TASK.signatures(served).items()
    }
    texts = ["text", "text_pair"] if served.is_paired else ["text"]
    ids = ["token_ids", "segment_ids", "padding_mask"]
    assert named == {
        "serving_default": {name: (tf.string, [None]) for name in texts},
        "classify": {"inputs": (tf.string, [None])},
        "encoded": {name: (tf.int32, [None, None]) for name in ids},
    }
