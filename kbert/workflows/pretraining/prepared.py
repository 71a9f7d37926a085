"""What a prepared folder decides of the settings of a pretraining."""

from pathlib import Path
from typing import Any

from kbert.data.prepared import Prepared
from kbert.errors import ConfigError
from kbert.pretrain_settings import PretrainConfig, PretrainDataSettings
from kbert.workflows.pretraining.idle import is_given

# How text became documents: kept in the folder, to go on with or to train on.
CHOICES = (
    "document",
    "text",
    "train_split",
    "encoding_errors",
    "limit",
    "validation",
    "validation_share",
)


def preparation_choices(data: PretrainDataSettings) -> dict[str, Any]:
    """The settings that decide the examples, beside recipes and vocabulary."""
    return {name: getattr(data, name) for name in CHOICES}


def adopt_prepared(config: PretrainConfig, prepared: Prepared) -> PretrainConfig:
    """The same settings with those of a prepared folder, where they are not given.

    Raises:
        ConfigError: a setting contradicts how the folder was prepared.
    """
    data, train, model = config.data, config.train, config.model
    for section, settings, name in (
        ("data", data, "validation"),
        ("model", model, "vocabulary_size"),
    ):
        if is_given(settings, name):
            raise ConfigError(
                f"{prepared.folder} is prepared and has its own {name}. Received: "
                f"{section}.{name} = {getattr(settings, name)}. Leave the setting out, "
                "or prepare the text again."
            )
    lengths = _lengths(data, prepared)
    weight = _next_sentence_weight(config, prepared)
    recipe = next(iter(prepared.settings["lengths"].values()))
    read = prepared.settings["choices"] | {"short_sequence_rate": recipe["short_rate"]}
    known = [*CHOICES, "short_sequence_rate"]
    read = {name: read[name] for name in known if name in read and name != "validation"}
    tokenizing = {n: prepared.settings[n] for n in ("lowercase", "strip_accents")}
    for section, settings, decided in (
        ("data", data, read),
        ("model", model, tokenizing),
    ):
        for name, was in decided.items():
            asked = getattr(settings, name)
            if is_given(settings, name) and asked != was:
                raise _contradiction(prepared.folder, f"{section}.{name}", was, asked)
    return config.model_copy(
        update={
            "data": data.model_copy(update=lengths | read),
            "train": train.model_copy(update={"next_sentence_weight": weight}),
            "model": model.model_copy(update=tokenizing),
        }
    )


def _lengths(data: PretrainDataSettings, prepared: Prepared) -> dict[str, int | None]:
    """`max_length` and `short_length`: those asked for, else all that there are."""
    there, given = prepared.lengths, data.model_fields_set
    longest, shortest = data.max_length, data.short_length
    if "max_length" not in given:
        longest = there[-1]
        if "short_length" not in given and len(there) > 1:
            shortest = there[0]
    lengths = {"max_length": longest, "short_length": shortest}
    for name, asked in lengths.items():
        if asked is not None and asked not in there:
            was = " and ".join(map(str, there))
            raise _contradiction(prepared.folder, f"data.{name}", was, asked)
    return lengths


def _next_sentence_weight(config: PretrainConfig, prepared: Prepared) -> float:
    """The weight that is set; 0 by default where the folder has no pairs."""
    train = config.train
    has_pairs = any(s["next_sentence"] for s in prepared.settings["lengths"].values())
    weight = train.next_sentence_weight
    if not has_pairs and "next_sentence_weight" not in train.model_fields_set:
        return 0.0
    if (weight > 0) != has_pairs:
        was = "above 0" if has_pairs else "0"
        name = "train.next_sentence_weight"
        raise _contradiction(prepared.folder, name, was, weight)
    return weight


def _contradiction(folder: Path, name: str, was: Any, asked: Any) -> ConfigError:
    return ConfigError(
        f"{folder} was prepared with {name} {was}. Received: {asked}. Leave the "
        "setting out, or prepare the text again."
    )
