"""How good a classifier is: numbers ready for JSON, and tables ready to read.

Axes: N examples, C classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbert.display import align_columns, cut, display_width, printable

NUM_CALIBRATION_BINS = 15  # as in Guo et al. (2017), section 5
SUM_TOLERANCE = 0.02  # bfloat16 has three digits

MAX_LABEL_COLUMNS = 24
MAX_MATRIX_COLUMNS = 100
MAX_MATRIX_CLASSES = 20
NUM_CONFUSIONS = 10

TITLES = {
    "num_examples": "examples",
    "loss": "loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "matthews_correlation": "Matthews correlation",
    "roc_auc": "ROC AUC",
    "expected_calibration_error": "calibration error",
    "masked_lm_accuracy": "masked-LM accuracy",
    "next_sentence_accuracy": "next-sentence accuracy",
}
_SHORT_TITLES = {
    "num_examples": "examples",
    "loss": "loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "matthews_correlation": "Matthews",
    "roc_auc": "ROC AUC",
    "expected_calibration_error": "calibration",
}


def classification_metrics(
    probabilities: NDArray[Any],
    targets: NDArray[Any],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Compare predicted class probabilities with the true classes.

    The predicted class is the most probable one, the first of equals. A class
    without examples (or without predictions) counts with a recall (or a precision)
    of 0 and is part of the macro averages.

    Args:
        probabilities: [N, C], a row sums to 1.
        targets: [N] integers in [0, C).
        labels: the C names of the classes.

    Returns:
        Plain numbers under `num_examples`, `loss` (mean negative log-likelihood in
        nats), `accuracy`, `macro_f1`, `macro_precision`, `macro_recall`,
        `matthews_correlation`, `roc_auc` (only for two classes that both occur) and
        `expected_calibration_error`; `per_class` maps each label to `precision`,
        `recall`, `f1` and `support`; `confusion_matrix` holds `labels` and `counts`,
        whose rows are true and whose columns are predicted classes.

    Raises:
        ValueError: shapes do not fit, there is no example, a probability is NaN or
            a row is no distribution, a target is no class.
    """
    from sklearn import metrics as sk  # slow to import

    targets = np.asarray(targets)
    probabilities = np.asarray(probabilities, np.float64)
    _check(probabilities, targets, labels)
    predictions = probabilities.argmax(axis=1)
    classes = np.arange(len(labels))
    counts = sk.confusion_matrix(targets, predictions, labels=classes)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        targets, predictions, labels=classes, average=None, zero_division=0
    )
    result: dict[str, Any] = {
        "num_examples": len(targets),
        "loss": _negative_log_likelihood(probabilities, targets),
        "accuracy": float(np.mean(predictions == targets)),
        "macro_f1": float(f1.mean()),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "matthews_correlation": _matthews_correlation(targets, predictions),
    }
    if len(labels) == 2 and 0 < targets.sum() < len(targets):
        result["roc_auc"] = float(sk.roc_auc_score(targets, probabilities[:, 1]))
    result["expected_calibration_error"] = _expected_calibration_error(
        probabilities.max(axis=1), predictions == targets
    )
    result["per_class"] = {
        label: {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "support": int(support[index]),
        }
        for index, label in enumerate(labels)
    }
    result["confusion_matrix"] = {"labels": list(labels), "counts": counts.tolist()}
    return result


def has_form(values: Any, form: Any) -> bool:
    """Whether metrics from JSON have the names, texts, lengths and types of others."""
    if type(values) is not type(form):
        return False
    if isinstance(form, dict):
        same_names = values.keys() == form.keys()
        return same_names and all(has_form(values[key], form[key]) for key in form)
    if isinstance(form, list):
        same_length = len(values) == len(form)
        return same_length and all(map(has_form, values, form))
    if isinstance(form, str):
        return values == form
    if isinstance(form, float):
        return math.isfinite(values)
    return not isinstance(form, int) or 0 <= values < 2**53  # a count


def format_metrics_table(metrics_by_split: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table with a row for each split and a column for each main metric."""
    keys = [
        key
        for key in _SHORT_TITLES
        if any(key in metrics for metrics in metrics_by_split.values())
    ]
    rows = [["split", *(_SHORT_TITLES[key] for key in keys)]]
    for split, metrics in metrics_by_split.items():
        rows.append([split, *(_format(metrics.get(key)) for key in keys)])
    return "\n".join(align_columns(rows))


def format_evaluation(metrics: Mapping[str, Any]) -> str:
    """Return what `classification_metrics` found as text for a terminal.

    The summary, a table with a row for each class, and the confusion matrix or, of
    more than 20 classes, the 10 most frequent confusions.
    """
    summary = [
        [title, _format(metrics[key])]
        for key, title in TITLES.items()
        if key in metrics
    ]
    rows = [["class", "precision", "recall", "F1", "examples"]]
    for label, values in metrics["per_class"].items():
        numbers = (values[key] for key in ("precision", "recall", "f1", "support"))
        rows.append([_short(label), *map(_format, numbers)])
    labels = [_short(label) for label in metrics["confusion_matrix"]["labels"]]
    counts = metrics["confusion_matrix"]["counts"]
    matrix = _matrix if len(labels) <= MAX_MATRIX_CLASSES else _confusions
    blocks = (align_columns(summary), align_columns(rows), matrix(labels, counts))
    return "\n\n".join("\n".join(block) for block in blocks)


def _check(
    probabilities: NDArray[Any], targets: NDArray[Any], labels: Sequence[str]
) -> None:
    shape = (len(targets), len(labels)) if targets.ndim == 1 else None
    if shape is None or probabilities.shape != shape or 0 in shape:
        raise ValueError(
            "`probabilities` must be [N, C] for N >= 1 `targets` and C `labels`. "
            f"Received: probabilities of shape {probabilities.shape}, targets of "
            f"shape {targets.shape}, {len(labels)} labels"
        )
    if len(set(labels)) < len(labels):
        raise ValueError(f"`labels` must differ. Received: labels={list(labels)}")
    if not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"`targets` must be integers. Received: {targets.dtype}")
    wrong = np.flatnonzero((targets < 0) | (targets >= len(labels)))
    if wrong.size:
        raise ValueError(
            f"`targets` must lie in [0, {len(labels)}). "
            f"Received: targets[{wrong[0]}]={targets[wrong[0]]}"
        )
    sums_to_one = np.abs(probabilities.sum(axis=1) - 1) <= SUM_TOLERANCE  # NaN: False
    wrong = np.flatnonzero(~sums_to_one | (probabilities < 0).any(axis=1))
    if wrong.size:
        raise ValueError(
            "Each row of `probabilities` must be a distribution: no NaN, no negative "
            f"number, and a sum of 1. Received: {wrong.size} of {len(targets)} rows "
            f"that are not, first probabilities[{wrong[0]}]={probabilities[wrong[0]]}"
        )


def _matthews_correlation(targets: NDArray[Any], predictions: NDArray[Any]) -> float:
    from sklearn.metrics import matthews_corrcoef

    if np.ptp(targets) == 0 or np.ptp(predictions) == 0:
        return 0.0  # no correlation with a constant; scikit-learn would warn
    return float(matthews_corrcoef(targets, predictions))


def _negative_log_likelihood(
    probabilities: NDArray[Any], targets: NDArray[Any]
) -> float:
    of_target = probabilities[np.arange(len(targets)), targets]
    logs = np.log(of_target.clip(np.finfo(np.float64).eps, 1.0))
    return float(abs(logs.mean()))  # abs, as the negative of 0.0 prints as -0.0


def _expected_calibration_error(
    confidences: NDArray[Any], correct: NDArray[Any]
) -> float:
    """Mean gap between confidence and accuracy (Guo et al. 2017, equation 3).

    The bins are of equal width and closed above: (0, 1/15], (1/15, 2/15], ...
    """
    edges = np.linspace(0.0, 1.0, NUM_CALIBRATION_BINS + 1)
    bins = np.digitize(confidences, edges[1:-1], right=True)
    gaps = np.bincount(bins, weights=correct - confidences)  # each times its bin's size
    return float(np.abs(gaps).sum() / len(confidences))


def _format(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _short(label: str) -> str:
    return cut(printable(label), MAX_LABEL_COLUMNS)


def _matrix(labels: list[str], counts: list[list[int]]) -> list[str]:
    """Return the lines of a confusion matrix; columns that are too wide get numbers."""
    cells = [[str(count) for count in row] for row in counts]
    widest = max(len(cell) for row in cells for cell in row)
    width = sum(max(widest, display_width(label)) + 2 for label in labels)
    heads = labels
    if width + MAX_LABEL_COLUMNS > MAX_MATRIX_COLUMNS:
        heads = [f"[{number}]" for number in range(1, len(labels) + 1)]
        labels = [
            f"{head:<{len(heads[-1])}} {label}"
            for head, label in zip(heads, labels, strict=True)
        ]
    rows = [["true \\ predicted", *heads]]
    rows += [[label, *row] for label, row in zip(labels, cells, strict=True)]
    return ["confusion matrix", *align_columns(rows)]


def _confusions(labels: list[str], counts: list[list[int]]) -> list[str]:
    """Return the lines of a table of the most frequent wrong predictions."""
    matrix = np.array(counts)
    of_class = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:NUM_CONFUSIONS]
    rows = [["true", "predicted", "examples", "of its class"]]
    for true, predicted in zip(*np.unravel_index(order, matrix.shape), strict=True):
        count = matrix[true, predicted]
        if count:
            share = f"{count / of_class[true]:.1%}"
            rows.append([labels[true], labels[predicted], str(count), share])
    if len(rows) == 1:
        return ["no confusions"]
    return ["most frequent confusions", *align_columns(rows, num_left=2)]
