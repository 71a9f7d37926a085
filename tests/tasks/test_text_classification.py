"""Single-label text classification: labels, loss, weights, answers."""

import json

import keras
import keras_hub
import numpy as np
import pytest

from kbert.errors import ConfigError, DataError, RunError
from kbert.tasks import TextClassification, task_from_dict
from tests.layers import checks
from tests.tiny import VOCABULARY, architecture, build_model, random_dataset


def dataset_with(labels: list[str]):
    names = tuple(dict.fromkeys(labels))
    dataset = random_dataset(len(labels))
    ids = np.array([names.index(label) for label in labels], np.int32)
    return type(dataset)(
        **{**vars(dataset), "label_ids": ids, "label_names": names, "name": "some.csv"}
    )


def test_labels_are_sorted_whatever_their_order_of_appearance():
    assert TextClassification.learn(dataset_with(["b", "c", "a"]), None).labels == (
        "a", "b", "c"
    )  # fmt: skip
    numbers = dataset_with(["10", "9", "-1", "9"])
    assert TextClassification.learn(numbers, None).labels == ("-1", "9", "10")


def test_the_source_may_have_an_order_of_its_own():
    task = TextClassification.learn(dataset_with(["a", "b"]), ("z", "b", "a"))
    assert task.labels == ("b", "a")


def test_targets_are_indices_into_the_labels():
    dataset = dataset_with(["b", "a", "b"])
    task = TextClassification.learn(dataset, None)
    np.testing.assert_array_equal(task.targets(dataset), [1, 0, 1])


def test_one_class_is_not_enough():
    with pytest.raises(DataError, match=r"some\.csv has one class only.*'a'"):
        TextClassification.learn(dataset_with(["a", "a"]), None)


def test_a_label_that_training_never_saw():
    task = TextClassification(labels=("a", "b"))
    with pytest.raises(DataError, match=r"never saw: 'c'.*classes are: 'a', 'b'"):
        task.targets(dataset_with(["a", "c"]))


def test_a_held_out_part_may_lack_a_class():
    dataset = dataset_with(["a", "b", "c"])
    part = dataset.select(np.array([0, 2]), "part")
    task = TextClassification.learn(dataset, None)
    np.testing.assert_array_equal(task.targets(part), [0, 2])


def test_round_trip_through_task_json():
    task = TextClassification(labels=("1", "ü"))
    assert task_from_dict(task.to_dict(), "task.json") == task
    with pytest.raises(RunError, match=r"task\.json holds the task 'tagging'"):
        task_from_dict({"task": "tagging"}, "task.json")


def cross_entropy(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> float:
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = np.full(logits.shape, smoothing / logits.shape[1])
    wanted[np.arange(len(targets)), targets] += 1 - smoothing
    return float(-(wanted * log_p).sum(-1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("num_examples", [1, 5])
def test_loss_against_the_formula(smoothing, num_examples):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(num_examples, 3)).astype("float32")
    targets = rng.integers(0, 3, num_examples)
    loss = TextClassification(("a", "b", "c")).loss(label_smoothing=smoothing)
    found = float(loss(targets, keras.ops.convert_to_tensor(logits)))
    assert found == pytest.approx(cross_entropy(logits, targets, smoothing), abs=1e-5)


def test_balanced_weights_give_every_class_the_same_sum():
    targets = np.array([0, 0, 0, 1, 2, 2])
    weights = TextClassification(("a", "b", "c")).example_weights(targets, "balanced")
    sums = [weights[targets == i].sum() for i in range(3)]
    assert sums == pytest.approx([2, 2, 2])


def test_given_weights():
    task = TextClassification(("a", "b"))
    weights = task.example_weights(np.array([0, 1, 1]), {"b": 2.5})
    np.testing.assert_array_equal(weights, [1, 2.5, 2.5])
    with pytest.raises(ConfigError, match=r"'c', which is no class.*'a', 'b'"):
        task.example_weights(np.array([0]), {"c": 1.0})


def test_answers():
    task = TextClassification(("no", "yes"))
    predictions = task.predictions(np.array([[0.0, np.log(3)], [5.0, 5.0 - np.log(4)]]))
    first, second = task.answers(predictions)
    assert first["label"] == "yes"
    assert first["score"] == pytest.approx(0.75)
    assert first["probabilities"] == pytest.approx({"no": 0.25, "yes": 0.75})
    assert (second["label"], second["score"]) == ("no", pytest.approx(0.8))


def test_probabilities_of_huge_logits_are_finite():
    task = TextClassification(("a", "b"))
    found = task.predictions(np.array([[1e4, -1e4]], "float32"))
    np.testing.assert_array_equal(found, [[1, 0]])


def test_a_model_is_saved_for_keras_hub_and_loaded_again(tmp_path):
    task = TextClassification(("a", "b", "c"))
    model = task.build_model(
        architecture(num_layers=2, dropout=0.2), head_dropout=0.3, dtype="mixed_float16"
    )
    checks.randomize(model)
    tokenizer = keras_hub.models.BertTokenizer(list(VOCABULARY), lowercase=True)
    folder = str(tmp_path / "model")
    task.save_model(model, folder, tokenizer=tokenizer, max_length=16)
    saved = keras_hub.models.BertTextClassifier.from_preset(folder)
    assert saved.dtype_policy.name == saved.backbone.dtype_policy.name == "float32"
    assert (saved.backbone.dropout, saved.dropout) == (0.2, 0.3)
    assert saved.preprocessor.sequence_length == 16
    loaded = task.load_model(folder, dtype="float32")
    saved.preprocessor = None
    ids = np.array([[2, 5, 6, 3, 0], [2, 9, 8, 7, 3]])
    features = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": ids > 0}
    expected = saved(features)
    assert expected.shape == (2, 3)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(loaded(features), expected, atol=1e-5)
    np.testing.assert_allclose(model(features), expected, atol=0.02)
    with pytest.raises(RunError, match=r"of 2 classes.*Received: 3\."):
        TextClassification(("a", "b")).load_model(folder, dtype="float32")


def test_logits_are_float32_in_half_precision():
    model = build_model(TextClassification(("a", "b")), dtype="mixed_bfloat16")
    ids = np.array([[2, 5, 6, 3]])
    logits = model(
        {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    )
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    rounded = keras.ops.cast(keras.ops.cast(logits, "bfloat16"), "float32")
    assert not np.array_equal(logits, rounded)


def test_roc_auc_needs_two_classes_to_validate_on():
    TextClassification(("a", "b")).check_metric("roc_auc", np.array([0, 1]))
    TextClassification(("a", "b", "c")).check_metric("accuracy", np.array([0]))
    for labels, targets in ((("a", "b", "c"), [0, 1, 2]), (("a", "b"), [1, 1])):
        with pytest.raises(ConfigError, match="roc_auc needs two classes"):
            TextClassification(labels).check_metric("roc_auc", np.array(targets))


def test_metric_names_are_what_metrics_has():
    task = TextClassification(("a", "b"))
    metrics = task.metrics(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    assert set(task.metric_names()) <= set(metrics)
    assert task.default_metric in task.metric_names()


SENTIMENT = TextClassification(labels=("neg", "pos"))
TARGETS = np.array([0, 1, 1])
MEASURED = SENTIMENT.metrics(
    np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32), TARGETS
)


def test_what_was_measured_is_known_again():
    assert SENTIMENT.are_metrics(json.loads(json.dumps(MEASURED)), TARGETS)


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {key: value for key, value in MEASURED.items() if key != "roc_auc"},
        MEASURED | {"more": 1.0},
        MEASURED | {"accuracy": "high"},
        MEASURED | {"accuracy": None},
        MEASURED | {"accuracy": float("nan")},
        MEASURED | {"loss": float("inf")},
        MEASURED | {"num_examples": True},
        MEASURED | {"num_examples": 10**30},
        MEASURED | {"num_examples": -1},
        MEASURED | {"per_class": {}},
        MEASURED | {"confusion_matrix": {"labels": ["neg", "pos"], "counts": [[1]]}},
        MEASURED
        | {"confusion_matrix": {"labels": ["neg"], "counts": [[1, 0], [0, 1]]}},
        MEASURED
        | {"confusion_matrix": {"labels": ["pos", "neg"], "counts": [[1, 0], [0, 1]]}},
    ],
)
def test_what_no_metrics_can_be(values):
    assert not SENTIMENT.are_metrics(values, TARGETS)
