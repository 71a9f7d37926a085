"""The metrics against formulas written out in NumPy, and the tables to the letter."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kbert.display import display_width
from kbert.metrics import (
    classification_metrics,
    format_evaluation,
    format_metrics_table,
)

Array = np.ndarray[Any, Any]


def reference(probabilities: Array, targets: Array, num_classes: int) -> dict[str, Any]:
    """The same metrics from their definitions, one example or one pair at a time."""
    num_examples = len(targets)
    predictions = [int(np.argmax(row)) for row in probabilities]
    counts = np.zeros((num_classes, num_classes), int)
    for true, predicted in zip(targets, predictions, strict=True):
        counts[true, predicted] += 1
    classes = []
    for k in range(num_classes):
        hits, predicted, true = counts[k, k], counts[:, k].sum(), counts[k].sum()
        classes.append(
            {
                "precision": hits / predicted if predicted else 0.0,
                "recall": hits / true if true else 0.0,
                "f1": 2 * hits / (predicted + true) if predicted + true else 0.0,
                "support": true,
            }
        )
    true, predicted = counts.sum(axis=1), counts.sum(axis=0)  # Gorodkin (2004)
    covariance = np.trace(counts) * num_examples - true @ predicted
    spread = (num_examples**2 - predicted @ predicted) * (num_examples**2 - true @ true)
    result = {
        "num_examples": num_examples,
        "accuracy": np.trace(counts) / num_examples,
        "macro_f1": np.mean([c["f1"] for c in classes]),
        "macro_precision": np.mean([c["precision"] for c in classes]),
        "macro_recall": np.mean([c["recall"] for c in classes]),
        "matthews_correlation": covariance / np.sqrt(spread) if spread else 0.0,
        "loss": np.mean(
            [
                -np.log(max(row[target], np.finfo(float).eps))
                for row, target in zip(probabilities, targets, strict=True)
            ]
        ),
        "expected_calibration_error": calibration_error(
            probabilities, targets, predictions
        ),
    }
    if num_classes == 2 and 0 < sum(targets) < num_examples:
        result["roc_auc"] = pairs_in_order(probabilities[:, 1], targets)
    return result | {"classes": classes, "counts": counts}


def calibration_error(
    probabilities: Array, targets: Array, predictions: list[int]
) -> float:
    edges, total = np.linspace(0, 1, 16), 0.0
    confidences = probabilities.max(axis=1)
    for low, high in itertools.pairwise(edges):
        inside = (confidences > low) & ((confidences <= high) | (high == 1))
        if inside.any():
            accuracy = np.mean(np.array(predictions)[inside] == targets[inside])
            gap = abs(accuracy - confidences[inside].mean())
            total += inside.mean() * gap
    return float(total)


def pairs_in_order(scores: Array, targets: Array) -> float:
    """AUC: the share of (positive, negative) pairs in which the positive is higher."""
    positives, negatives = scores[targets == 1], scores[targets == 0]
    differences = positives[:, None] - negatives[None, :]
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


def assert_equals_reference(
    result: dict[str, Any], expected: dict[str, Any], labels: tuple[str, ...]
) -> None:
    classes, counts = expected.pop("classes"), expected.pop("counts")
    assert result.keys() == expected.keys() | {"per_class", "confusion_matrix"}
    for key, value in expected.items():
        assert result[key] == pytest.approx(value, abs=1e-9), key
    assert tuple(result["per_class"]) == labels
    for label, values in zip(labels, classes, strict=True):
        assert result["per_class"][label] == pytest.approx(values), label
    assert result["confusion_matrix"]["labels"] == list(labels)
    assert result["confusion_matrix"]["counts"] == counts.tolist()


@st.composite
def classified(draw: st.DrawFn) -> tuple[Array, Array]:
    num_examples = draw(st.integers(1, 40))
    num_classes = draw(st.integers(2, 5))
    # Small whole numbers, so that ties and zeros come up.
    shape = (num_examples, num_classes)
    weights = draw(arrays(np.int64, shape, elements=st.integers(0, 4)))
    weights[:, draw(st.integers(0, num_classes - 1))] += 1
    classes = st.integers(0, num_classes - 1)
    targets = draw(arrays(np.int64, num_examples, elements=classes))
    return weights / weights.sum(axis=1, keepdims=True), targets


class TestValues:
    def test_by_hand(self) -> None:
        probabilities = np.array(
            [[0.9, 0.1], [0.6, 0.4], [0.35, 0.65], [0.2, 0.8], [0.55, 0.45]]
        )
        targets = np.array([0, 0, 0, 1, 1])
        result = classification_metrics(probabilities, targets, ("neg", "pos"))
        assert result["confusion_matrix"]["counts"] == [[2, 1], [1, 1]]
        assert result["accuracy"] == pytest.approx(3 / 5)
        assert result["per_class"]["neg"] == pytest.approx(
            {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
        )
        assert result["per_class"]["pos"] == pytest.approx(
            {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "support": 2}
        )
        assert result["macro_f1"] == pytest.approx(7 / 12)
        # (1 * 2 - 1 * 1) / sqrt(2 * 2 * 3 * 3)
        assert result["matthews_correlation"] == pytest.approx(1 / 6)
        # 0.8 beats 0.1, 0.4 and 0.65; 0.45 beats 0.1 and 0.4.
        assert result["roc_auc"] == pytest.approx(5 / 6)
        expected_loss = -np.log(0.9 * 0.6 * 0.35 * 0.8 * 0.45) / 5
        assert result["loss"] == pytest.approx(expected_loss)
        # Bins: {0.9}, {0.6, 0.55}, {0.65}, {0.8} with 0.6 as an upper edge.
        expected_gaps = 0.1 + abs(1 - 1.15) + 0.65 + 0.2
        assert result["expected_calibration_error"] == pytest.approx(expected_gaps / 5)

    @settings(deadline=None, max_examples=60)
    @given(classified())
    def test_equals_the_definitions(self, case: tuple[Array, Array]) -> None:
        probabilities, targets = case
        labels = tuple(f"class {k}" for k in range(probabilities.shape[1]))
        result = classification_metrics(probabilities, targets, labels)
        expected = reference(probabilities, targets, len(labels))
        assert_equals_reference(result, expected, labels)

    def test_many_examples_in_float32(self) -> None:
        rng = np.random.default_rng(7)
        probabilities = rng.dirichlet([0.4] * 2, 3000).astype(np.float32)
        targets = (rng.random(3000) < probabilities[:, 1]).astype(np.int32)
        result = classification_metrics(probabilities, targets, ("a", "b"))
        expected = reference(probabilities.astype(np.float64), targets, 2)
        assert_equals_reference(result, expected, ("a", "b"))
        assert result["expected_calibration_error"] < 0.03  # drawn calibrated

    def test_perfect(self) -> None:
        result = classification_metrics(np.eye(2), np.array([0, 1]), ("a", "b"))
        for key in ("accuracy", "macro_f1", "matthews_correlation", "roc_auc"):
            assert result[key] == 1.0
        assert str(result["loss"]) == "0.0"  # and not -0.0
        assert result["expected_calibration_error"] == 0.0

    def test_worst(self) -> None:
        result = classification_metrics(np.eye(2), np.array([1, 0]), ("a", "b"))
        assert result["accuracy"] == result["macro_f1"] == result["roc_auc"] == 0.0
        assert result["matthews_correlation"] == -1.0
        assert result["expected_calibration_error"] == 1.0
        assert result["loss"] == pytest.approx(-np.log(np.finfo(float).eps))

    def test_one_class_only_has_no_auc(self) -> None:
        probabilities = np.array([[0.7, 0.3], [0.4, 0.6]])
        result = classification_metrics(probabilities, np.array([0, 0]), ("a", "b"))
        assert "roc_auc" not in result
        assert result["matthews_correlation"] == 0.0
        assert result["accuracy"] == 0.5

    def test_a_class_without_examples_is_listed(self) -> None:
        probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
        labels = ("a", "b", "unseen")
        result = classification_metrics(probabilities, np.array([0, 1]), labels)
        nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
        assert result["per_class"]["unseen"] == nothing
        assert result["confusion_matrix"]["counts"][2] == [0, 0, 0]
        assert result["macro_f1"] == pytest.approx(2 / 3)

    def test_is_ready_for_json(self) -> None:
        probabilities = np.full((3, 2), 0.5, np.float32)
        targets = np.array([0, 1, 1], np.int32)
        result = classification_metrics(probabilities, targets, ("a", "b"))
        assert json.loads(json.dumps(result, allow_nan=False)) == result


class TestMistakes:
    @pytest.mark.parametrize(
        ("row", "shown"),
        [
            ([np.nan, 1.0], r"1 of 2 rows.*probabilities\[1\]=\[nan"),
            ([np.inf, 0.0], r"1 of 2 rows.*inf"),
            ([2.5, -1.5], r"1 of 2 rows.*-1\.5"),
            ([0.9, 0.9], r"a sum of 1.*0\.9 0\.9"),
        ],
    )
    def test_no_distribution(self, row: list[float], shown: str) -> None:
        probabilities = np.array([[0.5, 0.5], row])
        with pytest.raises(ValueError, match=shown):
            classification_metrics(probabilities, np.array([0, 1]), ("a", "b"))

    @pytest.mark.parametrize("target", [-1, 2])
    def test_no_class(self, target: int) -> None:
        with pytest.raises(ValueError, match=rf"\[0, 2\).*targets\[1\]={target}"):
            classification_metrics(np.eye(2), np.array([0, target]), ("a", "b"))

    @pytest.mark.parametrize(
        ("probabilities", "targets", "labels", "shown"),
        [
            (np.eye(2), np.array([0]), ("a", "b"), r"shape \(2, 2\).*shape \(1,\)"),
            (np.eye(2), np.array([0, 1]), ("a", "b", "c"), r"\(2, 2\).*3 labels"),
            (np.eye(2), np.eye(2, dtype=int), ("a", "b"), r"targets of shape \(2, 2\)"),
            (np.zeros((0, 2)), np.zeros(0, int), ("a", "b"), r"shape \(0, 2\)"),
            (np.eye(2), np.array([0.0, 1.0]), ("a", "b"), "float64"),
            (np.eye(2), np.array([0, 1]), ("a", "a"), r"\['a', 'a'\]"),
        ],
    )
    def test_arrays_that_do_not_fit(
        self, probabilities: Array, targets: Array, labels: tuple[str, ...], shown: str
    ) -> None:
        with pytest.raises(ValueError, match=shown):
            classification_metrics(probabilities, targets, labels)


def evaluate(counts: list[list[int]], labels: tuple[str, ...]) -> dict[str, Any]:
    """Metrics of predictions that were certain and gave this confusion matrix."""
    size = len(labels)
    cells = [(i, j) for i in range(size) for j in range(size)]
    pairs = [cell for cell in cells for _ in range(counts[cell[0]][cell[1]])]
    targets = np.array([true for true, _ in pairs])
    predictions = np.array([predicted for _, predicted in pairs])
    return classification_metrics(np.eye(size)[predictions], targets, labels)


class TestTables:
    def test_splits(self) -> None:
        two = evaluate([[9, 1], [2, 8]], ("a", "b"))
        three = evaluate([[1, 0, 0], [0, 1, 0], [0, 0, 2]], ("a", "b", "c"))
        assert format_metrics_table({"validation": two, "test": three}) == (
            "split       examples    loss  accuracy  macro F1  Matthews"
            "  ROC AUC  calibration\n"
            "validation        20  5.4065    0.8500    0.8496    0.7035"
            "   0.8500       0.1500\n"
            "test               4  0.0000    1.0000    1.0000    1.0000"
            "        -       0.0000"
        )

    def test_evaluation(self) -> None:
        metrics = evaluate([[9, 1], [2, 8]], ("负面", "good\n"))
        assert format_evaluation(metrics) == (
            "examples                  20\n"
            "loss                  5.4065\n"
            "accuracy              0.8500\n"
            "macro F1              0.8496\n"
            "macro precision       0.8535\n"
            "macro recall          0.8500\n"
            "Matthews correlation  0.7035\n"
            "ROC AUC               0.8500\n"
            "calibration error     0.1500\n"
            "\n"
            "class   precision  recall      F1  examples\n"
            "负面       0.8182  0.9000  0.8571        10\n"
            "good\\n     0.8889  0.8000  0.8421        10\n"
            "\n"
            "confusion matrix\n"
            "true \\ predicted  负面  good\\n\n"
            "负面                 9       1\n"
            "good\\n               2       8"
        )

    def test_long_labels_are_cut_and_stay_aligned(self) -> None:
        labels = ("很" * 30, "e\u0301" * 40, "x" * 24)
        text = format_evaluation(evaluate([[1, 1, 0], [0, 1, 0], [0, 0, 1]], labels))
        table = text.split("\n\n")[1].split("\n")
        assert len({display_width(line) for line in table}) == 1
        assert table[1].startswith("很" * 11 + "… ")
        assert table[2].startswith("e\u0301" * 23 + "… ")
        assert table[3].startswith("x" * 24 + " ")

    def test_a_wide_matrix_has_numbered_columns(self) -> None:
        labels = tuple(f"a rather long topic {k}" for k in range(10))
        counts = (np.eye(10, dtype=int) * 3).tolist()
        counts[2][9] = 7
        matrix = format_evaluation(evaluate(counts, labels)).split("\n\n")[2]
        header, *rows = matrix.split("\n")[1:]
        assert header.split()[3:] == [f"[{k}]" for k in range(1, 11)]
        assert rows[2].startswith("[3]  a rather long topic 2")
        assert rows[2].split()[-8:] == ["3", *"000000", "7"]
        assert max(map(len, matrix.split("\n"))) <= 100

    def test_many_classes_show_the_confusions(self) -> None:
        labels = tuple(f"class {k}" for k in range(21))
        counts = np.eye(21, dtype=int)
        counts[3, 4], counts[5, 0] = 2, 3
        counts[:, 20] += 1
        text = format_evaluation(evaluate(counts.tolist(), labels)).split("\n\n")[2]
        lines = text.split("\n")
        assert lines[:4] == [
            "most frequent confusions",
            "true     predicted  examples  of its class",
            "class 5  class 0           3         60.0%",
            "class 3  class 4           2         50.0%",
        ]
        assert len(lines) == 2 + 10

    def test_many_classes_without_confusions(self) -> None:
        labels = tuple(f"class {k}" for k in range(21))
        text = format_evaluation(evaluate(np.eye(21, dtype=int).tolist(), labels))
        assert text.endswith("\n\nno confusions")
