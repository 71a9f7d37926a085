"""One text, or a pair of texts, and one label of several."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from kbert.bounded import is_unicode, shown
from kbert.data.encoded import EncodedDataset
from kbert.data.sources import sort_labels
from kbert.display import list_some
from kbert.encoder import (
    build_backbone,
    copy_classifier_from_keras_hub,
    copy_classifier_to_keras_hub,
)
from kbert.errors import ConfigError, DataError, RunError
from kbert.metrics import (
    classification_metrics,
    format_evaluation,
    format_metrics_table,
    has_form,
)
from kbert.models import BertEncoder, BertForTextClassification
from kbert.preset_files import Architecture, read_architecture
from kbert.presets import load_backbone_of
from kbert.saved_tasks import load_head, read_saved_task
from kbert.tasks.base import Task
from kbert.tasks.served import FEATURES, ServedModel, Signature

_MODEL_CLASS = "BertTextClassifier"
# Losses are better when smaller.
_METRICS = (
    "accuracy",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "matthews_correlation",
    "roc_auc",
    "loss",
)


@dataclass(frozen=True)
class TextClassification(Task):
    """Single-label text classification.

    Attributes:
        labels: the classes; a target is an index into them.
    """

    labels: tuple[str, ...]

    name: ClassVar[str] = "text_classification"
    default_metric: ClassVar[str] = "accuracy"

    @classmethod
    def learn(
        cls, dataset: EncodedDataset, label_order: Sequence[str] | None
    ) -> "TextClassification":
        """The classes of the training set; see `Task.learn`."""
        if dataset.label_ids is None:
            raise DataError(f"{dataset.name} has no labels; training needs them.")
        seen = {dataset.label_names[i] for i in np.unique(dataset.label_ids)}
        if len(seen) < 2:
            raise DataError(
                f"{dataset.name} has one class only: every label is "
                f"{seen.pop()!r}. A classifier needs at least two; check the label "
                "column, or raise data.limit if it cut the others off."
            )
        labels = label_order if label_order is not None else sort_labels(seen)
        return cls(labels=tuple(label for label in labels if label in seen))

    def to_dict(self) -> dict[str, Any]:
        """See `Task.to_dict`."""
        return {"task": self.name, "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TextClassification":
        """See `Task.from_dict`.

        Raises:
            RunError: the labels are no list of at least two different texts.
        """
        labels = values["labels"]
        if (
            not isinstance(labels, list)
            or len(labels) < 2
            or not all(isinstance(label, str) and is_unicode(label) for label in labels)
            or len(set(labels)) < len(labels)
        ):
            raise RunError(
                'The run\'s task.json is damaged: "labels" must be a list of at least '
                f"two different texts. Received: {shown(labels)}."
            )
        return cls(labels=tuple(labels))

    def targets(self, dataset: EncodedDataset) -> np.ndarray:
        """The class numbers, `[examples]` int32; see `Task.targets`."""
        if dataset.label_ids is None:
            raise DataError(f"{dataset.name} has no labels.")
        numbers = {label: index for index, label in enumerate(self.labels)}
        used = np.unique(dataset.label_ids)
        unseen = [n for i in used if (n := dataset.label_names[i]) not in numbers]
        if unseen:
            raise DataError(
                f"{dataset.name} has labels that training never saw: "
                f"{_quoted(unseen)}. The classes are: {_quoted(self.labels)}. Add "
                "examples of them to the training data, or take them out here."
            )
        table = np.array([numbers.get(name, -1) for name in dataset.label_names])
        return table[dataset.label_ids].astype(np.int32)

    def build_model(
        self, architecture: Architecture, *, head_dropout: float, dtype: str
    ) -> BertForTextClassification:
        """Logits `[B, classes]` in float32; see `Task.build_model`."""
        return BertForTextClassification(
            **asdict(architecture),
            num_classes=len(self.labels),
            head_dropout=head_dropout,
            dtype=dtype,
            name="bert_for_text_classification",
        )

    def load_model(self, folder: str, *, dtype: str) -> BertForTextClassification:
        """Of a `BertTextClassifier`; see `Task.load_model`."""
        preset = Path(folder)
        task = read_saved_task(preset)
        if task.class_name != _MODEL_CLASS or task.num_classes != len(self.labels):
            received = task.num_classes if task.class_name == _MODEL_CLASS else "none"
            raise RunError(
                f"{folder} must be a {_MODEL_CLASS} of {len(self.labels)} classes, the "
                f"labels of its run's task.json. Received: {shown(received)}. The run "
                "is damaged: copy it again, or train it again."
            )
        saved = keras_hub.models.BertTextClassifier(
            load_backbone_of(preset),
            num_classes=len(self.labels),
            dropout=task.dropout,
        )
        load_head(saved, preset)
        _, architecture = read_architecture(preset)
        model = self.build_model(architecture, head_dropout=saved.dropout, dtype=dtype)
        copy_classifier_from_keras_hub(saved, model)
        return model

    def save_model(
        self,
        model: BertEncoder,
        folder: str,
        *,
        tokenizer: keras_hub.models.BertTokenizer,
        max_length: int,
    ) -> None:
        """As a `BertTextClassifier`; see `Task.save_model`."""
        assert isinstance(model, BertForTextClassification), "built by `build_model`"
        # Named, here and below: by itself Keras counts the models of a process.
        saved = keras_hub.models.BertTextClassifier(
            build_backbone(model),
            num_classes=len(self.labels),
            preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
                tokenizer, sequence_length=max_length, name="preprocessor"
            ),
            dropout=model.head_dropout.rate,
            name="bert_text_classifier",
        )
        copy_classifier_to_keras_hub(model, saved)
        saved.save_to_preset(folder)

    def loss(self, *, label_smoothing: float = 0.0) -> keras.losses.Loss:
        """Cross-entropy of logits and class numbers."""
        if not label_smoothing:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return _SmoothedCrossentropy(len(self.labels), label_smoothing)

    def example_weights(
        self, targets: np.ndarray, class_weights: str | Mapping[str, float] | None
    ) -> np.ndarray:
        """See `Task.example_weights`; `balanced` weighs by inverse frequency."""
        if class_weights is None:
            return np.ones(len(targets), np.float32)
        if class_weights == "balanced":
            counts = np.bincount(targets, minlength=len(self.labels))
            per_class = len(targets) / (len(self.labels) * np.maximum(counts, 1))
            return per_class[targets].astype(np.float32)
        assert isinstance(class_weights, Mapping)
        if unknown := [name for name in class_weights if name not in self.labels]:
            raise ConfigError(
                f"train.class_weights names {_quoted(unknown)}, which is no class of "
                f"the training data. The classes are: {_quoted(self.labels)}."
            )
        per_class = np.array([class_weights.get(label, 1.0) for label in self.labels])
        return per_class[targets].astype(np.float32)

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Probabilities `[examples, classes]` float32 of the logits."""
        logits = outputs.astype(np.float64)
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return (exponents / exponents.sum(axis=-1, keepdims=True)).astype(np.float32)

    def metrics(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """See `kbert.metrics.classification_metrics`."""
        return classification_metrics(predictions, targets, self.labels)

    def are_metrics(self, values: Any, targets: np.ndarray) -> bool:
        """See `Task.are_metrics`."""
        occurring = np.unique(targets)
        nothing = np.zeros((len(occurring), len(self.labels)))
        return has_form(values, self.metrics(self.predictions(nothing), occurring))

    @classmethod
    def metric_names(cls) -> tuple[str, ...]:
        """See `Task.metric_names`."""
        return _METRICS

    def check_metric(self, name: str, targets: np.ndarray) -> None:
        """See `Task.check_metric`."""
        if name == "roc_auc" and (len(self.labels) > 2 or len(set(targets)) < 2):
            raise ConfigError(
                "train.best_metric = roc_auc needs two classes, and examples of both "
                f"to validate on. The classes are: {_quoted(self.labels)}; "
                f"{len(set(targets))} of them are there. Choose accuracy or macro_f1."
            )

    def format_metrics(self, metrics: Mapping[str, Any]) -> str:
        """See `kbert.metrics.format_evaluation`."""
        return format_evaluation(metrics)

    def format_splits(self, metrics_by_split: Mapping[str, Mapping[str, Any]]) -> str:
        """See `kbert.metrics.format_metrics_table`."""
        return format_metrics_table(metrics_by_split)

    def plot(self, metrics: Mapping[str, Any], folder: Path) -> None:
        """Writes `confusion.png`."""
        from kbert.plots import plot_confusion  # slow to import

        plot_confusion(metrics["confusion_matrix"], folder / "confusion.png")

    def answers(self, predictions: np.ndarray) -> list[dict[str, Any]]:
        """The label, its score and all probabilities of each text."""
        answers = []
        for row in predictions:
            best = int(row.argmax())
            answers.append(
                {
                    "label": self.labels[best],
                    "score": float(row[best]),
                    "probabilities": dict(
                        zip(self.labels, map(float, row), strict=True)
                    ),
                }
            )
        return answers

    def signatures(self, served: ServedModel) -> dict[str, Signature]:
        """`serving_default`, TensorFlow Serving's `classify`, and `encoded`.

        `serving_default` takes `text` (and `text_pair`) and returns `label` [B],
        `score` [B] and `probabilities` [B, classes]. `classify` takes `inputs`,
        serialized `tf.Example`s with the same names, and returns `classes` and
        `scores`, [B, classes] in the order of the labels. `encoded` takes token ids
        and returns `logits` [B, classes].
        """
        labels = tf.constant(self.labels)

        def serving_default(
            text: tf.Tensor, text_pair: tf.Tensor | None = None
        ) -> dict[str, tf.Tensor]:
            probabilities = tf.nn.softmax(served.text_outputs(text, text_pair))
            return {
                "label": tf.gather(labels, tf.argmax(probabilities, axis=-1)),
                "score": tf.reduce_max(probabilities, axis=-1),
                "probabilities": probabilities,
            }

        def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            names = [spec.name for spec in served.text_inputs]
            example = {name: tf.io.FixedLenFeature([], tf.string) for name in names}
            texts = tf.io.parse_example(inputs, example)
            scores = tf.nn.softmax(
                served.text_outputs(*(texts[name] for name in names))
            )
            classes = tf.tile(labels[tf.newaxis], [tf.shape(scores)[0], 1])
            return {"classes": classes, "scores": scores}

        def encoded(*features: tf.Tensor) -> dict[str, tf.Tensor]:
            return {
                "logits": served.outputs(dict(zip(FEATURES, features, strict=True)))
            }

        examples = tf.TensorSpec([None], tf.string, name="inputs")
        return {
            "serving_default": Signature(serving_default, served.text_inputs),
            "classify": Signature(classify, (examples,)),
            "encoded": Signature(encoded, served.feature_inputs),
        }

    def served_outputs(self, outputs: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """See `Task.served_outputs`."""
        probabilities = self.predictions(outputs)
        labels = np.array([label.encode() for label in self.labels], object)
        return {
            "serving_default": {
                "label": labels[probabilities.argmax(axis=-1)],
                "score": probabilities.max(axis=-1),
                "probabilities": probabilities,
            },
            "classify": {
                "classes": np.tile(labels, (len(outputs), 1)),
                "scores": probabilities,
            },
            "encoded": {"logits": outputs},
        }


class _SmoothedCrossentropy(keras.losses.CategoricalCrossentropy):
    """Cross-entropy with label smoothing that takes class numbers."""

    def __init__(self, num_classes: int, label_smoothing: float) -> None:
        super().__init__(from_logits=True, label_smoothing=label_smoothing)
        self.num_classes = num_classes

    def call(self, y_true, y_pred):  # type: ignore[no-untyped-def]
        classes = keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32")
        one_hot = keras.ops.one_hot(classes, self.num_classes)  # (B, classes)
        return super().call(one_hot, y_pred)


def _quoted(names: Sequence[str]) -> str:
    return list_some(names, quoted=True)
