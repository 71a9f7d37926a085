"""The settings of a pretraining: do they fit together, and what is left open decided.

A run keeps the settings as resolved here, so that its `config.toml` says what was done.
"""

from collections.abc import Iterator
from typing import Any

from kbert.data.prepared import Prepared
from kbert.errors import ConfigError
from kbert.preset_files import Architecture
from kbert.presets import Preset
from kbert.pretrain_settings import PretrainConfig, PretrainModelSettings
from kbert.training.precision import Choice
from kbert.workflows.resolving import check_accumulation

DEFAULT_VOCABULARY_SIZE = 30_000
DEFAULT_SHORT_SHARE = 0.9
_EVALUATIONS = 20

# The numbers of an architecture, and what only a new model can be given.
_NUMBERS = (
    "num_layers",
    "num_heads",
    "hidden_dim",
    "intermediate_dim",
    "max_sequence_length",
    "dropout",
)
_OF_A_NEW_MODEL = ("size", *_NUMBERS[:-1], "position_embedding", "vocabulary_size")


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
    if data.short_length is not None and data.short_length >= data.max_length:
        raise ConfigError(
            "data.short_length, the tokens of the first phase, must be below "
            f"data.max_length. Received: {data.short_length} and {data.max_length}."
        )
    if train.short_share is not None and data.short_length is None:
        raise ConfigError(
            "train.short_share is the share of the phase of data.short_length, "
            "which is not set: set it too, or leave "
            "train.short_share out."
        )


def idle_settings(config: PretrainConfig) -> Iterator[str]:
    """A sentence for each setting that has no effect."""
    data = config.data
    given = data.model_fields_set
    if not any(source.startswith("tfds:") for source in data.sources):
        for name in ("train_split", "data_dir"):
            if name in given:
                yield f"data.{name} has no effect: no source is tfds:NAME"
    if config.train.next_sentence_weight == 0 and "short_sequence_rate" in given:
        yield "data.short_sequence_rate has no effect: it is for pairs of segments"
    if data.validation is not None and "validation_share" in given:
        yield "data.validation_share has no effect: data.validation is held-out text"
    if config.train.tokens_per_batch and "batch_size" in config.train.model_fields_set:
        yield "train.batch_size has no effect: train.tokens_per_batch takes its place"


def resolve_pretraining(
    config: PretrainConfig,
    architecture: Architecture,
    choice: Choice,
    *,
    lowercase: bool,
    strip_accents: bool,
) -> PretrainConfig:
    """The same settings with every `auto` and every open default decided."""
    check_accumulation(choice, config.train.gradient_accumulation_steps)
    steps = config.train.max_steps
    train = config.train.model_copy(
        update={
            "learning_rate": _learning_rate(config, architecture),
            "precision": choice.precision,
            "jit_compile": choice.jit_compile,
            "eval_steps": config.train.eval_steps or max(1, steps // _EVALUATIONS),
            "short_share": _short_share(config),
        }
    )
    decided: dict[str, Any] = {"lowercase": lowercase, "strip_accents": strip_accents}
    if config.model.preset is None:  # A preset says the rest.
        decided |= {name: getattr(architecture, name) for name in _NUMBERS}
        if config.model.vocabulary is None:
            decided["vocabulary_size"] = (
                config.model.vocabulary_size or DEFAULT_VOCABULARY_SIZE
            )
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
    tokens: tuple[str, ...], given: tuple[str, ...], owner: str
) -> None:
    """Checks that a vocabulary is the one that something was made with.

    Args:
        tokens: what it was made with.
        given: what it is to be used with.
        owner: what was made, for the message.

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
        f"Received: {place or sizes}. Leave model.vocabulary out, or train a new model "
        "on the text itself."
    )


def adopt_prepared(config: PretrainConfig, prepared: Prepared) -> PretrainConfig:
    """The same settings with those of a prepared folder, where they are not given.

    Raises:
        ConfigError: a setting contradicts how the folder was prepared.
    """
    lengths = prepared.lengths
    pairs = [s["next_sentence"] for s in prepared.settings["lengths"].values()]
    data, train, model = config.data, config.train, config.model
    longest = data.max_length if "max_length" in data.model_fields_set else lengths[-1]
    shorter = [length for length in lengths if length < longest]
    shortest = shorter[0] if shorter else None
    if "short_length" in data.model_fields_set:
        shortest = data.short_length
    weight = train.next_sentence_weight
    if not pairs[0] and "next_sentence_weight" not in train.model_fields_set:
        weight = 0.0
    made = {
        "data.max_length": (longest, longest in lengths, lengths),
        "data.short_length": (shortest, shortest in (None, *lengths), lengths),
        "train.next_sentence_weight": (
            weight,
            (weight > 0) == pairs[0],
            "above 0" if pairs[0] else 0,
        ),
    }
    for name in ("lowercase", "strip_accents"):
        was, asked = prepared.settings[name], getattr(model, name)
        made[f"model.{name}"] = (asked, asked in (None, was), was)
    for name, (value, fits, was) in made.items():
        if not fits:
            raise ConfigError(
                f"{prepared.folder} was prepared with {name} {was}. Received: {value}. "
                "Leave the setting out, or prepare the text again."
            )
    numbers = {"max_length": longest, "short_length": shortest}
    tokenizing = {n: prepared.settings[n] for n in ("lowercase", "strip_accents")}
    return config.model_copy(
        update={
            "data": data.model_copy(update=numbers),
            "train": train.model_copy(update={"next_sentence_weight": weight}),
            "model": model.model_copy(update=tokenizing),
        }
    )


def _check_nothing_new(model: PretrainModelSettings) -> None:
    new = [f"model.{n}" for n in _OF_A_NEW_MODEL if n in model.model_fields_set]
    if new:
        raise ConfigError(
            f"{new[0]} is for a new model; the preset {model.preset} has its "
            f"own. Leave --preset out, or {' and '.join(new)}."
        )


def _short_share(config: PretrainConfig) -> float | None:
    if config.data.short_length is None:
        return None
    return config.train.short_share or DEFAULT_SHORT_SHARE


def _learning_rate(config: PretrainConfig, architecture: Architecture) -> float:
    if config.train.learning_rate != "auto":
        return config.train.learning_rate
    return choose_pretraining_rate(
        architecture.hidden_dim,
        pretrained=config.model.preset is not None,
        optimizer=config.train.optimizer,
    )


def choose_pretraining_rate(
    hidden_dim: int, *, pretrained: bool, optimizer: str
) -> float:
    """The peak rate where none is set.

    1e-4 for 768 and wider as in Devlin et al. 2019, more for narrower encoders; to go
    on from weights, a smaller one. LAMB's is relative to the norm of the weights, and
    2e-3 in the range of You et al. 2020 (arXiv 1904.00962, table 1).
    """
    if optimizer == "lamb":
        return 1e-3 if pretrained else 2e-3
    if pretrained:
        return 5e-5 if hidden_dim >= 768 else 1e-4
    if hidden_dim >= 768:
        return 1e-4
    return 5e-4 if hidden_dim >= 384 else 1e-3
