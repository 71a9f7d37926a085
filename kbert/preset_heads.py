"""The pretraining heads in a preset's folder: which there are, and how they are read.

keras-hub keeps a masked-LM head in the weights of its task, and knows no head of the
next sentence: kbert's lies beside it. A Hugging Face BERT holds both, where it was
saved as one of its classes for pretraining.
"""

from pathlib import Path

import keras
import keras_hub
import numpy as np
import safetensors
import safetensors.numpy

from kbert.encoder import copy_head_from_keras_hub
from kbert.errors import PresetError
from kbert.hugging_face import (
    HEADS_PREFIX,
    MASKED_LM_NAMES,
    NEXT_SENTENCE_NAMES,
)
from kbert.models import BertForPretraining
from kbert.preset_files import preset_file
from kbert.preset_weights import find_weights
from kbert.presets import Preset
from kbert.saved_tasks import TASK_WEIGHTS, load_head, read_saved_task
from kbert.stored_tensors import SAFETENSORS_ERRORS, in_short, safetensors_tensors

NEXT_SENTENCE_FILE = "next_sentence.safetensors"
MASKED_LM_HEAD, NEXT_SENTENCE_HEAD = "masked-LM head", "next-sentence head"


def load_heads(
    preset: Preset, backbone: keras_hub.models.BertBackbone, model: BertForPretraining
) -> list[str]:
    """Loads the heads that a preset has.

    Args:
        backbone: the preset's, loaded.
        model: takes the heads.

    Returns:
        Those that `model` has and the preset lacks; they stay as they are.

    Raises:
        PresetError: weights cannot be read, or do not fit.
    """
    if preset.format == "hugging_face":
        return _load_hugging_face(preset.folder, model)
    missing = []
    if not _load_keras_hub(preset.folder, backbone, model):
        missing.append(MASKED_LM_HEAD)
    if model.next_sentence_head is not None:
        file = preset_file(preset.folder, NEXT_SENTENCE_FILE)
        if file.exists():
            dense = model.next_sentence_head.dense
            _assign(file, _read(file), {"kernel": dense.kernel, "bias": dense.bias})
        else:
            missing.append(NEXT_SENTENCE_HEAD)
    return missing


def save_next_sentence_head(model: BertForPretraining, folder: Path) -> None:
    """Writes the next-sentence head, if there is one, into a preset's folder."""
    if model.next_sentence_head is None:
        return
    dense = model.next_sentence_head.dense
    arrays = {
        "kernel": keras.ops.convert_to_numpy(dense.kernel),
        "bias": keras.ops.convert_to_numpy(dense.bias),
    }
    safetensors.numpy.save_file(arrays, folder / NEXT_SENTENCE_FILE)


def _load_keras_hub(
    folder: Path,
    backbone: keras_hub.models.BertBackbone,
    model: BertForPretraining,
) -> bool:
    """Whether a keras-hub preset had a masked-LM head, which is loaded then."""
    task = read_saved_task(folder)
    has_weights = preset_file(folder, TASK_WEIGHTS).exists()
    if task.class_name != "BertMaskedLM" or not has_weights:
        return False
    masked_lm = keras_hub.models.BertMaskedLM(backbone)
    load_head(masked_lm, folder)
    copy_head_from_keras_hub(masked_lm.masked_lm_head, model)
    return True


def _load_hugging_face(folder: Path, model: BertForPretraining) -> list[str]:
    stored: dict[str, np.ndarray] = {}
    for file in find_weights(folder, "hugging_face"):
        stored |= _read(file, prefix=HEADS_PREFIX)
    head, following = model.masked_lm_head, model.next_sentence_head
    variables = {
        "dense.kernel": head.dense.kernel,
        "dense.bias": head.dense.bias,
        "norm.gamma": head.norm.gamma,
        "norm.beta": head.norm.beta,
        "bias": head.bias,
    }
    missing = []
    if not _assign_named(folder, stored, MASKED_LM_NAMES, variables):
        missing.append(MASKED_LM_HEAD)
    if following is not None:
        variables = {"kernel": following.dense.kernel, "bias": following.dense.bias}
        if not _assign_named(folder, stored, NEXT_SENTENCE_NAMES, variables):
            missing.append(NEXT_SENTENCE_HEAD)
    return missing


def _assign_named(
    folder: Path,
    stored: dict[str, np.ndarray],
    names: dict[str, tuple[str, ...]],
    variables: dict[str, keras.Variable],
) -> bool:
    """Whether all of a head's tensors were there, under one of their names each."""
    found = {
        ours: next((stored[name] for name in theirs if name in stored), None)
        for ours, theirs in names.items()
    }
    if any(value is None for value in found.values()):
        return False
    # A kernel is stored as (outputs, inputs).
    arrays = {ours: value.T for ours, value in found.items() if value is not None}
    _assign(folder, arrays, variables)
    return True


def _read(file: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of a safetensors file whose names begin so."""
    safetensors_tensors([file])
    try:
        with safetensors.safe_open(file, framework="np") as weights:
            names = [name for name in weights.keys() if name.startswith(prefix)]
            return {name: weights.get_tensor(name) for name in names}
    except SAFETENSORS_ERRORS as error:
        raise PresetError(
            f"{file} is damaged: {in_short(error)}. Copy it again."
        ) from error


def _assign(
    source: Path, arrays: dict[str, np.ndarray], variables: dict[str, keras.Variable]
) -> None:
    for name, variable in variables.items():
        value = arrays.get(name, np.zeros(0))
        if value.shape != tuple(variable.shape):
            raise PresetError(
                f"{source} must have {name} of shape {tuple(variable.shape)}. "
                f"Received: {value.shape}."
            )
        variable.assign(value.astype(np.float32))
