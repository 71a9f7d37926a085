"""What all ways of applying a run share: its preset, precisions, what a text is."""

import os

from kbert.errors import ConfigError, RunError
from kbert.presets import Preset, resolve_preset
from kbert.runs import RunFolder
from kbert.tokenization import WordPieceTokenizer

# Enough tokens to keep a processor busy, few enough to stay in its cache.
TOKENS_PER_BATCH = 4096
# Texts are sorted by length within windows: memory stays constant.
WINDOW = 2048

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

Text = str | tuple[str, str]


def preset_of(run: RunFolder) -> Preset:
    """The preset that a run holds.

    Raises:
        PresetError: it is damaged.
    """
    # From the root: a folder `sample` is not the preset of that name.
    return resolve_preset(os.path.abspath(run.path))


def tokenizer_of(preset: Preset) -> WordPieceTokenizer:
    """The tokenizer that treats text as a preset asks for."""
    return WordPieceTokenizer(
        preset.vocabulary,
        lowercase=preset.lowercase,
        strip_accents=preset.strip_accents,
    )


def check_max_length(max_length: int, preset: Preset, source: object) -> None:
    """Checks that a run's texts are no longer than its model has positions.

    Raises:
        RunError: they may be; `source` names the file that says so.
    """
    if max_length > preset.max_sequence_length:
        raise RunError(
            f'{source} is damaged: "max_length" must be at most '
            f"{preset.max_sequence_length}, the positions of the run's model. "
            f"Received: {max_length:,}."
        )


def check_precision(name: str) -> str:
    """Returns the name of a precision that a run can be applied in.

    Raises:
        ConfigError: it is none.
    """
    if name not in _PRECISIONS:
        raise ConfigError(
            f"precision must be one of {', '.join(_PRECISIONS)}. Received: {name}."
        )
    return name


def check_text(text: object, number: int) -> None:
    """Checks that something is a text or a pair of texts.

    Args:
        number: its place among the texts, counted from 0.

    Raises:
        TypeError: it is neither.
    """
    parts = text if isinstance(text, tuple | list) and len(text) == 2 else [text]
    for part in parts:
        if not isinstance(part, str):
            raise TypeError(
                "Each text must be a string, or a pair of strings for a run trained "
                f"on pairs. Received: texts[{number}] = {text!r:.80} "
                f"({type(part).__name__})."
            )
