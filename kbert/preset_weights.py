"""The weights in a preset's folder: found, checked against the config, loaded.

The checks read only the files' headers, so that a preset that does not fit is
refused before Keras is imported.
"""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from kbert.bounded import check_regular
from kbert.errors import PresetError
from kbert.hugging_face import WORD_EMBEDDINGS, Tensor, bert_tensors, name_prefix
from kbert.preset_files import Architecture, Format, preset_file, read_json
from kbert.stored_tensors import (
    SAFETENSORS_ERRORS,
    Stored,
    damaged,
    h5_tensors,
    in_short,
    safetensors_tensors,
)

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

_SINGLE: dict[Format, str] = {
    "keras_hub": "model.weights.h5",
    "hugging_face": "model.safetensors",
}
_INDEX: dict[Format, str] = {
    "keras_hub": "model.weights.json",
    "hugging_face": "model.safetensors.index.json",
}


# keras-hub's loader opens it first, whatever the index says.
_FIRST_OF_SEVERAL = "model_00000.weights.h5"


def find_weights(folder: Path, preset_format: Format) -> list[Path]:
    """The weight files: a single one, or those that the index names.

    Raises:
        PresetError: names what is missing.
    """
    single = preset_file(folder, _SINGLE[preset_format])
    index = preset_file(folder, _INDEX[preset_format])
    if single.exists():
        check_regular(single, PresetError)
        return [single]
    if not index.exists():
        hint = "Copy the whole preset, or name another one."
        if (folder / "pytorch_model.bin").is_file():
            hint = (
                "pytorch_model.bin is not read, since reading it can run code: save "
                "the model as safetensors."
            )
        raise PresetError(
            f"{folder} has no weights: neither {single.name} nor {index.name}. {hint}"
        )
    weight_map = read_json(index).get("weight_map")
    entries = list(weight_map.values()) if isinstance(weight_map, dict) else []
    listed = [entry if isinstance(entry, list) else [entry] for entry in entries]
    names = [name for entry in listed for name in entry]
    if not names or not all(map(_is_plain_name, names)):
        raise PresetError(f'{index}: "weight_map" must name files of the same folder.')
    if preset_format == "keras_hub":
        names.append(_FIRST_OF_SEVERAL)
    files = {name: preset_file(folder, name) for name in names}
    if missing := sorted({n for n, file in files.items() if not file.is_file()}):
        raise PresetError(
            f"{folder} has no {', '.join(missing)}, which {index.name} names. Copy "
            "the whole preset."
        )
    return sorted(set(files.values()))


def _is_plain_name(name: Any) -> bool:
    """Whether it names a file of the folder, and none elsewhere."""
    if not isinstance(name, str) or name in ("", ".."):
        return False
    return Path(name).name == name and "\0" not in name


def check_weights(
    folder: Path, preset_format: Format, architecture: Architecture
) -> None:
    """Compare the shapes in the weight files' headers with the config.

    Raises:
        PresetError: weights are missing, damaged, or of another shape; names the
            file, the tensor and both shapes.
    """
    files = find_weights(folder, preset_format)
    if preset_format == "keras_hub":
        stored = h5_tensors(files)
        _check_size(folder, stored, architecture)
        _check_keras_hub(stored, architecture)
    else:
        stored = safetensors_tensors(files)
        _check_hugging_face(folder, stored, architecture)


def load_weights(
    backbone: "keras.Model",
    folder: Path,
    preset_format: Format,
    architecture: Architecture,
) -> None:
    """Load a preset's weights into a BertBackbone of its architecture.

    Raises:
        PresetError: the files cannot be read or do not fit.
    """
    files = find_weights(folder, preset_format)
    if preset_format == "hugging_face":
        _load_hugging_face(backbone, files, architecture)
        return
    h5_tensors(files)
    single, index = folder / _SINGLE[preset_format], folder / _INDEX[preset_format]
    source = single if single.is_file() else index
    try:
        backbone.load_weights(source)
    except (ValueError, LookupError, OSError, RuntimeError, TypeError) as error:
        raise PresetError(
            f"{source} cannot be loaded into the model of {folder / 'config.json'}: "
            f"{in_short(error)}"
        ) from error


def _check_size(
    folder: Path, stored: dict[str, Stored], architecture: Architecture
) -> None:
    """Refuse, before it is made, a model for which there are no weights."""
    there, wanted = sum(t.size for t in stored.values()), architecture.num_parameters
    # Half, since a tensor or two may be missing, which loading tells.
    if there * 2 < wanted:
        raise PresetError(
            f"The weights must be those of config.json. Received: {there:,} numbers in "
            f"{folder}, {wanted:,} by config.json."
        )


def _check_keras_hub(stored: dict[str, Stored], a: Architecture) -> None:
    # One tensor for each number of the config; loading compares the others.
    first = "layers/transformer_encoder"
    heads = (a.hidden_dim, a.num_heads, a.hidden_dim // a.num_heads)
    expected = {
        "layers/reversible_embedding/vars/0": (a.vocabulary_size, a.hidden_dim),
        "layers/position_embedding/vars/0": (a.max_sequence_length, a.hidden_dim),
        "layers/embedding/vars/0": (a.num_segments, a.hidden_dim),
        f"{first}/_self_attention_layer/query_dense/vars/0": heads,
        f"{first}/_feedforward_intermediate_dense/vars/0": (
            a.hidden_dim,
            a.intermediate_dim,
        ),
    }
    # A tensor may be missing here: another Keras may name its layers otherwise.
    for name in expected.keys() & stored.keys():
        _compare(name, stored[name], expected[name])
    pattern = re.compile(r"layers/(transformer_encoder(_\d+)?)/")
    layers = {found[1] for name in stored if (found := pattern.match(name))}
    if layers and len(layers) != a.num_layers:
        file = next(iter(stored.values())).file
        raise PresetError(
            f"The weights must be those of config.json. Received: {len(layers)} "
            f"encoder layers in {file}, {a.num_layers} in config.json."
        )


def _check_hugging_face(
    folder: Path, stored: dict[str, Stored], architecture: Architecture
) -> None:
    for tensor in _tensors_of(folder, stored.keys(), architecture):
        if tensor.name in stored:
            _compare(tensor.name, stored[tensor.name], tensor.shape)
        elif not _is_pooler(tensor):
            raise PresetError(f"The weights in {folder} lack {tensor.name}.")
    layer = f"{name_prefix(stored)}encoder.layer.{architecture.num_layers}."
    if any(name.startswith(layer) for name in stored):
        raise PresetError(
            f"The weights must be those of config.json. Received: {layer}* in "
            f"{folder}, {architecture.num_layers} layers in config.json."
        )


def _load_hugging_face(
    backbone: "keras.Model", files: list[Path], architecture: Architecture
) -> None:
    import numpy as np

    folder = files[0].parent
    stored = safetensors_tensors(files)
    variables = {variable.path: variable for variable in backbone.variables}
    random = []
    for tensor in _tensors_of(folder, stored.keys(), architecture):
        if tensor.name not in stored:
            random.append(tensor.name)
            continue
        file = stored[tensor.name].file
        try:
            with safetensors.safe_open(file, framework="np") as weights:
                value = weights.get_tensor(tensor.name)
        except SAFETENSORS_ERRORS as error:
            raise damaged(file, error) from None
        if tensor.path.endswith("/kernel"):
            value = value.T
        variable = variables[tensor.path]
        variable.assign(value.reshape(variable.shape).astype(np.float32))
    if random:
        logger.warning("%s has no %s: they start random", folder, ", ".join(random))


def _tensors_of(folder: Path, names: Any, architecture: Architecture) -> list[Tensor]:
    prefix = name_prefix(names)
    if prefix is None:
        raise PresetError(
            f"The weights in {folder} must be of a BERT: they lack {WORD_EMBEDDINGS}."
        )
    return bert_tensors(architecture, names, prefix)


def _is_pooler(tensor: Tensor) -> bool:
    # A model trained for masked words alone comes without one.
    return tensor.path.startswith("pooled_dense/")


def _compare(name: str, stored: Stored, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise PresetError(
            f"The weights must have the shapes of config.json. Received: {name} of "
            f"shape {stored.shape} in {stored.file}, {expected} by config.json."
        )
