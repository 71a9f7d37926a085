"""The weights in a preset's folder: found, checked against the config, loaded.

The checks read only the files' headers, so that a preset that does not fit is
refused before Keras is imported.
"""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kbert.errors import PresetError
from kbert.hugging_face import WORD_EMBEDDINGS, Tensor, bert_tensors, name_prefix
from kbert.preset_files import Architecture, Format, read_json

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


class _Stored(NamedTuple):
    """Where a tensor is kept and how large it is."""

    file: Path
    shape: tuple[int, ...]


def find_weights(folder: Path, preset_format: Format) -> list[Path]:
    """The weight files: a single one, or those that the index names.

    Raises:
        PresetError: names what is missing.
    """
    single, index = folder / _SINGLE[preset_format], folder / _INDEX[preset_format]
    if single.is_file():
        return [single]
    if not index.is_file():
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
    if not names or not all(type(n) is str and Path(n).name == n for n in names):
        raise PresetError(f'{index}: "weight_map" must name files of the same folder.')
    if missing := sorted({n for n in names if not (folder / n).is_file()}):
        raise PresetError(
            f"{folder} has no {', '.join(missing)}, which {index.name} names. Copy "
            "the whole preset."
        )
    return sorted({folder / name for name in names})


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
        _check_keras_hub(_h5_tensors(files), architecture)
    else:
        stored = _safetensors_tensors(files)
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
    single, index = folder / _SINGLE[preset_format], folder / _INDEX[preset_format]
    source = single if single.is_file() else index
    try:
        backbone.load_weights(source)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise PresetError(
            f"{source} cannot be loaded into the model of {folder / 'config.json'}: "
            f"{_in_short(error)}"
        ) from error


def _check_keras_hub(stored: dict[str, _Stored], a: Architecture) -> None:
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
    folder: Path, stored: dict[str, _Stored], architecture: Architecture
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
    import safetensors

    folder = files[0].parent
    stored = _safetensors_tensors(files)
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
        except (OSError, TypeError, safetensors.SafetensorError) as error:
            raise _damaged(file, error) from None
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


def _h5_tensors(files: list[Path]) -> dict[str, _Stored]:
    import h5py

    stored: dict[str, _Stored] = {}
    for file in files:

        def note(name: str, item: Any, file: Path = file) -> None:
            if isinstance(item, h5py.Dataset):
                stored[name] = _Stored(file, tuple(item.shape or ()))

        try:
            with h5py.File(file, "r") as weights:
                weights.visititems(note)
        except (OSError, RuntimeError, KeyError) as error:
            raise _damaged(file, error) from None
    return stored


def _safetensors_tensors(files: list[Path]) -> dict[str, _Stored]:
    import safetensors

    stored: dict[str, _Stored] = {}
    for file in files:
        try:
            with safetensors.safe_open(file, framework="np") as weights:
                for name in weights.keys():  # it is no dict
                    shape = weights.get_slice(name).get_shape()
                    stored[name] = _Stored(file, tuple(shape))
        except (OSError, safetensors.SafetensorError) as error:
            raise _damaged(file, error) from None
    return stored


def _compare(name: str, stored: _Stored, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise PresetError(
            f"The weights must have the shapes of config.json. Received: {name} of "
            f"shape {stored.shape} in {stored.file}, {expected} by config.json."
        )


def _damaged(file: Path, error: Exception) -> PresetError:
    return PresetError(
        f"{file} is damaged or incomplete: {_in_short(error)}. Copy or download it "
        "again."
    )


def _in_short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
