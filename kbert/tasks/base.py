"""What a task is: all that differs between one use of BERT and another.

Training, evaluation, prediction and export know this interface only. A new task
is one new module, registered in `kbert.tasks`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import keras_hub
import numpy as np

from kbert.data.encoded import EncodedDataset
from kbert.models import BertEncoder
from kbert.preset_files import Architecture
from kbert.tasks.served import ServedModel, Signature


class Task(ABC):
    """How labels become targets, which head, loss and metrics, what an answer is."""

    name: ClassVar[str]
    default_metric: ClassVar[str]

    @classmethod
    @abstractmethod
    def learn(
        cls, dataset: EncodedDataset, label_order: Sequence[str] | None
    ) -> "Task":
        """The task that a labelled training set defines.

        Args:
            dataset: the training examples.
            label_order: the classes in the source's own order, where it has one.

        Raises:
            DataError: the labels do not make a task.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What `task.json` keeps of the task."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Task":
        """The task that `to_dict` described.

        Raises:
            RunError: the values are none that `to_dict` gives.
        """

    @abstractmethod
    def targets(self, dataset: EncodedDataset) -> np.ndarray:
        """The targets `[examples]` of a labelled data set.

        Raises:
            DataError: a label that training never saw.
        """

    @abstractmethod
    def build_model(
        self, architecture: Architecture, *, head_dropout: float, dtype: str
    ) -> BertEncoder:
        """kbert's model with a fresh head: features to outputs.

        Args:
            architecture: of the encoder; its dropout is that of training.
            head_dropout: the rate in the head.
            dtype: a Keras dtype policy.
        """

    @abstractmethod
    def load_model(self, folder: str, *, dtype: str) -> BertEncoder:
        """kbert's model, with the weights that `save_model` saved in `folder`.

        Raises:
            RunError: they are not of this task.
        """

    @abstractmethod
    def save_model(
        self,
        model: BertEncoder,
        folder: str,
        *,
        tokenizer: keras_hub.models.BertTokenizer,
        max_length: int,
    ) -> None:
        """Saves a model as a preset with tokenizer that plain keras-hub loads.

        It is in float32, whatever the model computes in: a preset keeps its precision,
        and every later user would get that of the training.
        """

    @abstractmethod
    def loss(self, *, label_smoothing: float = 0.0) -> keras.losses.Loss:
        """The training loss of the model's outputs and the targets."""

    @abstractmethod
    def example_weights(
        self, targets: np.ndarray, class_weights: str | Mapping[str, float] | None
    ) -> np.ndarray:
        """The weight of each example in the loss, `[examples]` float32.

        Raises:
            ConfigError: `class_weights` does not fit the task.
        """

    @abstractmethod
    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """What metrics and answers are made from, of the model's outputs."""

    @abstractmethod
    def metrics(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        """The metrics by name, ready for JSON."""

    @abstractmethod
    def are_metrics(self, values: Any, targets: np.ndarray) -> bool:
        """Whether JSON could be what `metrics` gave for these targets.

        A run from elsewhere may hold anything.
        """

    @classmethod
    @abstractmethod
    def metric_names(cls) -> tuple[str, ...]:
        """The metrics that may choose the best checkpoint."""

    @abstractmethod
    def check_metric(self, name: str, targets: np.ndarray) -> None:
        """Checks that one of `metric_names` can be had of these targets.

        Raises:
            ConfigError: it cannot.
        """

    @abstractmethod
    def format_metrics(self, metrics: Mapping[str, Any]) -> str:
        """All metrics of one split, as text for people."""

    @abstractmethod
    def format_splits(self, metrics_by_split: Mapping[str, Mapping[str, Any]]) -> str:
        """The main metrics, a line a split."""

    @abstractmethod
    def plot(self, metrics: Mapping[str, Any], folder: Path) -> None:
        """Writes the pictures there are of the metrics of one split."""

    @abstractmethod
    def answers(self, predictions: np.ndarray) -> list[dict[str, Any]]:
        """What `kbert predict` prints beside each text."""

    @abstractmethod
    def signatures(self, served: ServedModel) -> dict[str, Signature]:
        """The ways to call an exported model; `serving_default` takes plain strings."""

    @abstractmethod
    def served_outputs(self, outputs: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """What each of `signatures` has to return, by name, for the model's outputs."""
