"""What a pretrained run does: it says which words may stand where a mask stands.

It has no labels, targets or signatures, hence it is no `Task`: `kbert pretrain` trains
it, `kbert.workflows.mask_filler` applies it, and to be more it is fine-tuned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import keras
import keras_hub

from kbert.bounded import shown
from kbert.data.sources import Columns
from kbert.errors import RunError
from kbert.preset_files import preset_file
from kbert.presets import load_backbone_of
from kbert.saved_tasks import TASK, TASK_WEIGHTS, load_head, read_saved_task

_MODEL_CLASS = "BertMaskedLM"
# [CLS], one token and [SEP].
_MIN_LENGTH = 3


@dataclass(frozen=True)
class MaskedLM:
    """A pretrained run's `task.json`.

    Attributes:
        max_length: tokens of the longest example, special tokens included.
        lowercase: whether texts are lower-cased.
        strip_accents: whether combining marks are removed.
        next_sentence: whether it was also trained to predict the next sentence.
        mask_selection_rate: the share of tokens that were masked.
        whole_word: whether the tokens of a word were masked together.
        text_column: the column of a table that was read; None for plain text.
    """

    max_length: int
    lowercase: bool
    strip_accents: bool
    next_sentence: bool
    mask_selection_rate: float
    whole_word: bool
    text_column: str | None = None

    name: ClassVar[str] = "masked_lm"

    @property
    def columns(self) -> Columns:
        """The columns that were read."""
        return Columns(self.text_column)

    def to_dict(self) -> dict[str, Any]:
        """What `task.json` holds; with the keys that every run's has."""
        return {
            "task": self.name,
            "next_sentence": self.next_sentence,
            "mask_selection_rate": self.mask_selection_rate,
            "whole_word": self.whole_word,
            "columns": {"text": self.text_column, "text_pair": None, "label": None},
            "is_paired": False,
            "max_length": self.max_length,
            "truncation": "head_tail",
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> "MaskedLM":
        """The task that `to_dict` described.

        Args:
            source: what messages call the file.

        Raises:
            RunError: a value is missing, or is none that `to_dict` gives.
        """
        columns = _value(values, "columns", dict, source)
        if columns.get("text") is not None:
            _value(columns, "text", str, source)
        task = cls(
            max_length=_value(values, "max_length", int, source),
            lowercase=_value(values, "lowercase", bool, source),
            strip_accents=_value(values, "strip_accents", bool, source),
            next_sentence=_value(values, "next_sentence", bool, source),
            mask_selection_rate=_value(values, "mask_selection_rate", float, source),
            whole_word=_value(values, "whole_word", bool, source),
            text_column=columns.get("text"),
        )
        if task.max_length < _MIN_LENGTH:
            raise RunError(
                f'{source} is damaged: "max_length" is {task.max_length}, and must be '
                f"at least {_MIN_LENGTH}."
            )
        return task

    def load_model(self, folder: str, *, dtype: str) -> keras.Model:
        """The BertMaskedLM that was saved as a preset; logits `[B, P, V]` float32.

        Args:
            folder: the preset.
            dtype: a Keras dtype policy, for all but the logits.

        Raises:
            RunError: the preset has no trained masked-LM head, where keras-hub would
                silently make a random one.
        """
        _check_has_head(Path(folder))
        preset = Path(folder)
        model = keras_hub.models.BertMaskedLM(load_backbone_of(preset, dtype=dtype))
        load_head(model, preset)
        # Rounded to half precision, logits tie and their ranks are lost.
        model.masked_lm_head.dtype_policy = keras.DTypePolicy("float32")
        model.backbone.token_embedding.reverse_dtype = "float32"
        return model


def _check_has_head(folder: Path) -> None:
    found = read_saved_task(folder).class_name or "no model"
    has_weights = preset_file(folder, TASK_WEIGHTS).exists()
    if found != _MODEL_CLASS or not has_weights:
        raise RunError(
            f"The model of a pretrained run is a {_MODEL_CLASS}, in {folder / TASK} "
            f"and {TASK_WEIGHTS}. Received: {found:.80}, {TASK_WEIGHTS} "
            f"{'there' if has_weights else 'missing'}. The run "
            "is damaged: copy it again, or train it again."
        )


def _value(values: Mapping[str, Any], key: str, kind: type, source: str) -> Any:
    if key not in values:
        raise RunError(f"{source} is damaged: no {key!r}.")
    value = values[key]
    allowed = (int, float) if kind is float else (kind,)
    # `type`, since to isinstance True is a whole number.
    if type(value) not in allowed:
        raise RunError(
            f'{source} is damaged: "{key}" must be of type {kind.__name__}. '
            f"Received: {shown(value)}."
        )
    return value
