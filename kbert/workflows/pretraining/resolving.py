"""The settings of a pretraining: do they fit together, and what is left open decided.

A run keeps the settings as resolved here, so that its `config.toml` says what was done.
"""

import os
from pathlib import Path
from typing import Any

from kbert.errors import ConfigError
from kbert.preset_files import Architecture
from kbert.presets import SAMPLE, Preset
from kbert.pretrain_settings import PretrainConfig, PretrainModelSettings
from kbert.toml_files import read_toml
from kbert.training.precision import Choice
from kbert.workflows.pretraining.idle import is_given
from kbert.workflows.resolving import check_accumulation

DEFAULT_VOCABULARY_SIZE = 30_000
DEFAULT_SHORT_SHARE = 0.9
_EVALUATIONS = 20

# The numbers of an architecture, and what only a new model can be given.
NUMBERS = (
    "num_layers",
    "num_heads",
    "hidden_dim",
    "intermediate_dim",
    "max_sequence_length",
    "dropout",
)
_OF_A_NEW_MODEL = ("size", *NUMBERS[:-1], "position_embedding", "vocabulary_size")


def without_settings_of_run(config: PretrainConfig) -> PretrainConfig:
    """The settings without those of a new model that the preset itself was made with.

    So the config of a run can go on from this run.

    Raises:
        ConfigError: the preset is a run whose config cannot be read.
    """
    model = config.model
    file = Path(os.path.expanduser(model.preset or "")) / "config.toml"
    if model.preset in (None, SAMPLE) or not file.is_file():
        return config
    own = read_toml(file).get("model")
    if not isinstance(own, dict):
        return config
    fields = type(model).model_fields
    known = {
        name: fields[name].default
        for name in _OF_A_NEW_MODEL
        if name in own and own[name] == getattr(model, name)
    }
    return config.model_copy(update={"model": model.model_copy(update=known)})


def check_settings(config: PretrainConfig) -> None:
    """Checks settings against each other, before anything is read.

    Raises:
        ConfigError: two of them contradict each other, or one would have no effect.
    """
    model, data, train = config.model, config.data, config.train
    if model.preset is not None:
        _check_nothing_new(model)
    if model.vocabulary is not None and model.vocabulary_size is not None:
        raise ConfigError(
            "model.vocabulary_size is that of a vocabulary trained here; "
            f"model.vocabulary = {model.vocabulary} gives one. Leave one of them out."
        )
    rates = data.mask_token_rate, data.random_token_rate
    if sum(rates) > 1 + 1e-9:
        raise ConfigError(
            "data.mask_token_rate and data.random_token_rate are shares of the "
            f"selected tokens, together at most 1. Received: {rates[0]} and {rates[1]}."
        )
    if train.short_share is not None and data.short_length is None:
        raise ConfigError(
            "train.short_share is the share of the phase of data.short_length, "
            "which is not set: set it too, or leave train.short_share out."
        )
    if data.short_length is not None:
        _check_phases(config, data.short_length)


def _check_phases(config: PretrainConfig, short_length: int) -> None:
    data, train = config.data, config.train
    if short_length >= data.max_length:
        raise ConfigError(
            "data.short_length, the tokens of the first phase, must be below "
            f"data.max_length. Received: {data.short_length} and {data.max_length}."
        )
    if not 0 < short_steps(config) < train.max_steps:
        raise ConfigError(
            "Each phase needs a step: of train.max_steps the share train.short_share "
            "takes data.short_length, the others data.max_length. Received: "
            f"{train.max_steps} and {_short_share(config)}. Raise --max-steps, or "
            "leave data.short_length out."
        )


def short_steps(config: PretrainConfig) -> int:
    """The steps of the phase of `data.short_length`; 0 where there is none."""
    return round(config.train.max_steps * (_short_share(config) or 0))


def resolve_pretraining(
    config: PretrainConfig,
    architecture: Architecture,
    choice: Choice,
    *,
    lowercase: bool,
    strip_accents: bool,
    trains_vocabulary: bool,
    has_weights: bool,
) -> PretrainConfig:
    """The same settings with every `auto` and every open default decided.

    Args:
        has_weights: whether it goes on from weights; those of `sample` are random.
    """
    check_accumulation(choice, config.train.gradient_accumulation_steps)
    steps = config.train.max_steps
    train = config.train.model_copy(
        update={
            "learning_rate": _learning_rate(
                config, architecture, has_weights=has_weights
            ),
            "precision": choice.precision,
            "jit_compile": choice.jit_compile,
            "eval_steps": config.train.eval_steps or max(1, steps // _EVALUATIONS),
            "short_share": _short_share(config),
        }
    )
    decided: dict[str, Any] = {"lowercase": lowercase, "strip_accents": strip_accents}
    if config.model.preset is None:  # A preset says the rest.
        decided |= {name: getattr(architecture, name) for name in NUMBERS}
    if trains_vocabulary:
        size = config.model.vocabulary_size or DEFAULT_VOCABULARY_SIZE
        decided["vocabulary_size"] = size
    model = config.model.model_copy(update=decided)
    return config.model_copy(update={"model": model, "train": train})


def check_preset(config: PretrainConfig, preset: Preset) -> None:
    """Checks that a preset can go on with these settings.

    Raises:
        ConfigError: it has fewer positions than an example has tokens.
    """
    limit = preset.max_sequence_length
    if config.data.max_length > limit:
        raise ConfigError(
            f"data.max_length must be at most {limit}, the positions of {preset.name}. "
            f"Received: {config.data.max_length}. Lower --max-length."
        )


def check_same_vocabulary(
    tokens: tuple[str, ...], given: tuple[str, ...], owner: str, mend: str
) -> None:
    """Checks that a vocabulary is the one that something was made with.

    Args:
        tokens: what it was made with.
        given: what it is to be used with.
        owner: what was made, for the message.
        mend: what to do, a clause.

    Raises:
        ConfigError: they differ; says where first.
    """
    if tokens == given:
        return
    pairs = enumerate(zip(tokens, given, strict=False), start=1)
    place = next((f"{b!r} on line {n}, not {a!r}" for n, (a, b) in pairs if a != b), "")
    sizes = f"{len(given):,} tokens, not {len(tokens):,}"
    raise ConfigError(
        f"The vocabulary must be that of {owner}, whose numbers belong to its tokens. "
        f"Received: {place or sizes}. {mend}."
    )


def _check_nothing_new(model: PretrainModelSettings) -> None:
    new = [f"model.{name}" for name in _OF_A_NEW_MODEL if is_given(model, name)]
    if new:
        raise ConfigError(
            f"{new[0]} is for a new model; the preset {model.preset} has its "
            f"own. Leave --preset out, or {' and '.join(new)}, in a config file too."
        )


def _short_share(config: PretrainConfig) -> float | None:
    if config.data.short_length is None:
        return None
    return config.train.short_share or DEFAULT_SHORT_SHARE


def _learning_rate(
    config: PretrainConfig, architecture: Architecture, *, has_weights: bool
) -> float:
    if config.train.learning_rate != "auto":
        return config.train.learning_rate
    return choose_pretraining_rate(
        architecture.hidden_dim,
        pretrained=has_weights,
        optimizer=config.train.optimizer,
    )


def choose_pretraining_rate(
    hidden_dim: int, *, pretrained: bool, optimizer: str
) -> float:
    """The peak rate where none is set.

    1e-4 for 768 and wider as in Devlin et al. 2019, 5e-4 for narrower encoders (at 1e-3
    one of 256 stays longer at the frequencies of the tokens: benchmarks/RESULTS.md); to
    go on from weights, a smaller one. LAMB's is relative to the norm of the weights,
    and 2e-3 in the range of You et al. 2020 (arXiv 1904.00962, table 1).
    """
    if optimizer == "lamb":
        return 1e-3 if pretrained else 2e-3
    if pretrained:
        return 5e-5 if hidden_dim >= 768 else 1e-4
    return 1e-4 if hidden_dim >= 768 else 5e-4
