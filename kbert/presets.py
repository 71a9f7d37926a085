"""Presets: from a name or a folder to a checked local folder, and to a backbone.

What a preset can be: `sample` (carried by kbert, untrained), a folder in
keras-hub's or Hugging Face's format, a run, `hf://USER/REPO`, or the name of a
keras-hub preset. A folder with a model in it goes before a keras-hub name spelt
the same; `sample` always means kbert's own.
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kbert.bounded import resolve_inside, shown
from kbert.checksums import check_whole
from kbert.errors import PresetError
from kbert.preset_cache import HUGGING_FACE, fetch, find_cached
from kbert.preset_files import (
    Format,
    read_architecture,
    read_json,
    read_tokenizer,
)
from kbert.preset_weights import check_weights, load_weights

if TYPE_CHECKING:
    import keras_hub

SAMPLE = "sample"
_SAMPLE_FOLDER = Path(__file__).parent / "data" / "sample" / "preset"

# Listed among keras-hub's BERT presets, but tokenized with SentencePiece.
_NOT_WORDPIECE = frozenset({"multilingual_e5_small"})
_CASED = frozenset({"bert_base_en", "bert_base_zh", "bert_base_multi", "bert_large_en"})


@dataclass(frozen=True)
class Preset:
    """A checked preset on this machine."""

    name: str  # as it was given
    folder: Path
    format: Format
    vocabulary: tuple[str, ...]
    lowercase: bool
    strip_accents: bool
    max_sequence_length: int  # positions, in tokens
    num_layers: int
    num_heads: int
    hidden_dim: int
    has_weights: bool


class PresetInfo(NamedTuple):
    """A named preset, for people who choose one."""

    name: str
    parameters: int
    language: str  # "en", "zh" or "multi"
    cased: bool
    on_this_machine: bool
    description: str


def resolve_preset(
    name: str, *, lowercase: bool | None = None, strip_accents: bool | None = None
) -> Preset:
    """Find a preset, download it if need be, and check that its parts fit.

    Accents are stripped where text is lowercased, as the uncased BERTs were trained,
    whatever a converted tokenizer.json says.

    Args:
        name: what `--preset` takes.
        lowercase: the user's decision; None leaves it to the preset.
        strip_accents: the user's decision; None leaves it to a run's, else to
            lowercase.

    Raises:
        PresetError: there is no such preset, or it cannot be used.
    """
    folder, decisions = _locate(name)
    check_whole(folder, PresetError)
    preset_format, architecture = read_architecture(folder)
    tokenizer = read_tokenizer(folder, preset_format, architecture)
    has_weights = folder != _SAMPLE_FOLDER
    if has_weights:
        check_weights(folder, preset_format, architecture)
    if lowercase is not None and strip_accents is None:
        strip_accents = lowercase
    lowered = _first(lowercase, decisions.get("lowercase"), tokenizer.lowercase)
    return Preset(
        name=name,
        folder=folder,
        format=preset_format,
        vocabulary=tokenizer.vocabulary,
        lowercase=lowered,
        strip_accents=_first(strip_accents, decisions.get("strip_accents"), lowered),
        max_sequence_length=architecture.max_sequence_length,
        num_layers=architecture.num_layers,
        num_heads=architecture.num_heads,
        hidden_dim=architecture.hidden_dim,
        has_weights=has_weights,
    )


def load_backbone(
    preset: Preset, *, dtype: str = "float32", dropout: float | None = None
) -> "keras_hub.models.BertBackbone":
    """Build a preset's encoder and load its weights.

    The weights of `sample` are random: seed them with `keras.utils.set_random_seed`.

    Args:
        preset: from `resolve_preset`.
        dtype: a Keras dtype policy, for example "mixed_bfloat16".
        dropout: rate; None takes the preset's.

    Raises:
        PresetError: the weights cannot be read or do not fit.
    """
    return load_backbone_of(
        preset.folder, dtype=dtype, dropout=dropout, has_weights=preset.has_weights
    )


def load_backbone_of(
    folder: Path,
    *,
    dtype: str = "float32",
    dropout: float | None = None,
    has_weights: bool = True,
) -> "keras_hub.models.BertBackbone":
    """`load_backbone` of a folder that `resolve_preset` has checked.

    Raises:
        PresetError: the weights cannot be read or do not fit.
    """
    import keras_hub

    preset_format, a = read_architecture(folder)
    # Built from numbers, never deserialized: a preset runs no code.
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=a.vocabulary_size,
        num_layers=a.num_layers,
        num_heads=a.num_heads,
        hidden_dim=a.hidden_dim,
        intermediate_dim=a.intermediate_dim,
        dropout=a.dropout if dropout is None else dropout,
        max_sequence_length=a.max_sequence_length,
        num_segments=a.num_segments,
        dtype=dtype,
        name="bert_backbone",
    )
    if has_weights:
        load_weights(backbone, folder, preset_format, a)
    return backbone


def list_presets() -> list[PresetInfo]:
    """The embedded preset and all named ones, and which are on this machine."""
    _, sample = read_architecture(_SAMPLE_FOLDER)
    tokenizer = read_tokenizer(_SAMPLE_FOLDER, "keras_hub", sample)
    carried = PresetInfo(
        name=SAMPLE,
        parameters=sample.num_parameters,
        language="en",
        cased=not tokenizer.lowercase,
        on_this_machine=True,
        description=f"{sample.num_layers}-layer untrained BERT that kbert carries.",
    )
    return [carried, *(_info(name, entry) for name, entry in _known().items())]


def _info(name: str, entry: dict[str, Any]) -> PresetInfo:
    metadata = entry.get("metadata", {})
    description = " ".join(str(metadata.get("description", "")).split())
    if name in _NOT_WORDPIECE:
        description = f"Not for kbert: no WordPiece tokenizer. {description}"
    return PresetInfo(
        name=name,
        parameters=int(metadata.get("params", 0)),
        language=_language(name),
        cased=name in _CASED | _NOT_WORDPIECE,
        on_this_machine=find_cached(entry["kaggle_handle"]) is not None,
        description=description,
    )


def _language(name: str) -> str:
    words = name.split("_")
    if "zh" in words:
        return "zh"
    # multi_qa_..._en begins with another "multi".
    return "multi" if "multi" in words[1:] or "multilingual" in words else "en"


def _known() -> dict[str, dict[str, Any]]:
    """The presets that keras-hub knows: name -> metadata and handle."""
    import keras_hub

    return dict(keras_hub.models.BertBackbone.presets)


def _locate(name: str) -> tuple[Path, dict[str, bool]]:
    """The model's folder, and what a run decided about its tokenizer."""
    if name == SAMPLE:
        return _SAMPLE_FOLDER, {}
    if name.startswith(HUGGING_FACE):
        return fetch(name, name), {}
    path = Path(os.path.expanduser(name))
    if os.path.isfile(path / "config.json"):
        return path, {}
    if os.path.isfile(path / "task.json") and os.path.isdir(path / "model"):
        model = resolve_inside(path, "model", PresetError)
        return model, _decisions_of_run(resolve_inside(path, "task.json", PresetError))
    if path.name != name or name in (".", ".."):
        raise _no_model(path)
    known = _known()
    if name in _NOT_WORDPIECE:
        raise PresetError(
            f"The preset {name} has a SentencePiece tokenizer; kbert's is WordPiece. "
            "`kbert presets` lists the others."
        )
    if name in known:
        return fetch(name, known[name]["kaggle_handle"]), {}
    if os.path.lexists(path):
        raise _no_model(path)
    near = difflib.get_close_matches(name, [SAMPLE, *known], n=3, cutoff=0.5)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    raise PresetError(
        f"There is no preset {name!r}, neither by that name nor as a folder.{hint} "
        "`kbert presets` lists the names."
    )


def _decisions_of_run(file: Path) -> dict[str, bool]:
    """How a run tokenizes: it may differ from the tokenizer.json in its model."""
    task = read_json(file)
    keys = [key for key in ("lowercase", "strip_accents") if key in task]
    for key in keys:
        if not isinstance(task[key], bool):
            raise PresetError(
                f'{file}: "{key}" must be true or false. Received: {shown(task[key])}.'
            )
    return {key: task[key] for key in keys}


def _no_model(path: Path) -> PresetError:
    if os.path.isdir(path):
        problem = f"{path} holds no model: it has no config.json, and is no run."
    elif os.path.lexists(path):
        problem = f"{path} is a file; a preset is a folder."
    else:
        problem = f"There is no folder {path}."
    return PresetError(
        f"{problem} --preset takes a folder in keras-hub's or Hugging Face's format, a "
        "run, hf://USER/REPO, a name that `kbert presets` lists, or sample."
    )


def _first(*decisions: bool | None) -> bool:
    return next(decision for decision in decisions if decision is not None)
