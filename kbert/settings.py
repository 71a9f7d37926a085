"""Every setting: its name, type, default, range and meaning.

A setting has one name (`section.key`), one place and one default. Here is what is
allowed; where a value comes from is the business of `kbert.config`.
"""

import types
import typing
from typing import Annotated, Any, Literal, NamedTuple, Self

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, model_validator

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]


class Settings(BaseModel):
    """A section or a whole config: frozen, strict types, no unknown names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


class ModelSettings(Settings):
    """`[model]`: which pretrained encoder, and how its tokenizer treats text."""

    preset: Text = Field(
        default="sample",
        description="keras-hub preset name, folder, run, hf:// or sample",
    )
    lowercase: bool | None = Field(
        default=None, description="lowercase the text; not set: as the preset says"
    )
    strip_accents: bool | None = Field(
        default=None, description="strip accents; not set: where the text is lowercased"
    )
    dropout: Rate | None = Field(
        default=None, description="dropout rate; not set: as the preset says"
    )


class DataSettings(Settings):
    """`[data]`: what is read, which columns, and how texts are cut."""

    source: Text = Field(
        default="sample", description="tfds:NAME[/CONFIG], a file, a folder or sample"
    )
    data_dir: Text | None = Field(
        default=None, description="folder where tensorflow-datasets keeps prepared data"
    )
    text: Text | None = Field(
        default=None, description="text column; not set: the only plausible one"
    )
    text_pair: Text | None = Field(
        default=None, description="column of the second text; not set: none"
    )
    label: Text | None = Field(
        default=None, description="label column; not set: the only plausible one"
    )
    train_split: Text = Field(
        default="train", description="split to train on (tfds sources only)"
    )
    validation: Text | None = Field(
        default=None, description="validation file, folder or TFDS split"
    )
    validation_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="share held out where data.validation is not set"
    )
    test: Text | None = Field(
        default=None, description="file, folder or TFDS split evaluated at the end"
    )
    max_length: Annotated[int, Field(ge=4)] | None = Field(
        default=None,
        description="tokens a text, incl. [CLS], [SEP]; not set: 256 or preset's",
    )
    truncation: Literal["head", "tail", "head_tail"] = Field(
        default="head_tail", description="which part of a too long text is kept"
    )
    encoding_errors: Literal["strict", "replace", "ignore"] = Field(
        default="strict", description="what to do with bytes that are not UTF-8"
    )
    limit: Count | None = Field(
        default=None, description="only the first N examples of each split"
    )


class SharedTrainSettings(Settings):
    """`[train]`: what every kind of training has."""

    batch_size: Count = Field(default=32, description="examples a batch")
    tokens_per_batch: Count | None = Field(
        default=None, description="tokens a batch, in place of a fixed batch_size"
    )
    gradient_accumulation_steps: Count = Field(
        default=1, description="batches an optimizer step"
    )
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = Field(
        default="auto", description="peak learning rate; auto: by the model's size"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="learning rate after the warm-up"
    )
    warmup_ratio: Rate = Field(
        default=0.1, description="share of the steps that warm up"
    )
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="steps that warm up, in place of warmup_ratio"
    )
    weight_decay: NonNegative = Field(
        default=0.01, description="decay of the weights; never of biases and LayerNorm"
    )
    clip_norm: NonNegative = Field(
        default=1.0, description="clip gradients to this global norm; 0: off"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        default="auto", description="number format of the computation"
    )
    jit_compile: Literal["auto"] | bool = Field(
        default="auto", description="compile with XLA; auto: on a GPU"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=42,
        description="of shuffling, dropout, new weights and the held-out share",
    )
    deterministic: bool = Field(
        default=False,
        description="the same run each time on a GPU too, slower; a CPU always does so",
    )
    on_nonfinite: Literal["stop", "skip"] = Field(
        default="stop",
        description="what to do where a loss or gradient is no finite number",
    )
    checkpoint_steps: Count | None = Field(
        default=None,
        description="steps between checkpoints, beside those at evaluations",
    )
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(
        default=10.0,
        description="minutes between checkpoints where checkpoint_steps is not set",
    )
    keep_checkpoints: Count = Field(
        default=2, description="checkpoints that are kept; the best model always is"
    )

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if self.warmup_steps is not None and "warmup_ratio" in self.model_fields_set:
            raise ValueError("`warmup_steps` and `warmup_ratio` exclude each other")
        return self


class TrainSettings(SharedTrainSettings):
    """`[train]` of `kbert finetune`: how long, how fast, and which model is best."""

    epochs: Literal["auto"] | Count = Field(
        default="auto",
        description="passes over the training data; auto: 3, or 12 from random weights",
    )
    max_steps: Count | None = Field(
        default=None, description="stop after so many optimizer steps"
    )
    label_smoothing: Rate = Field(
        default=0.0, description="share of the target spread over all classes"
    )
    class_weights: (
        Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None
    ) = Field(default=None, description="weight of each class's examples in the loss")
    freeze_embeddings: bool = Field(
        default=False, description="keep the embeddings as they are"
    )
    freeze_layers: Annotated[int, Field(ge=0)] = Field(
        default=0, description="keep the first N encoder layers as they are"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="learning rate factor from a layer to the one below"
    )
    eval_steps: Count | None = Field(
        default=None, description="steps between evaluations; not set: each epoch"
    )
    patience: Count | None = Field(
        default=None, description="stop after N evaluations without improvement"
    )
    best_metric: Text = Field(
        default="auto",
        description="metric that picks the best checkpoint; auto: the task's",
    )


class FinetuneConfig(Settings):
    """All settings of `kbert finetune`."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()


class ExportSettings(Settings):
    """`[export]`: how a run is written for TensorFlow Serving."""

    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="number format that the export computes in"
    )
    max_batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=32, description="most texts that a server puts in one batch"
    )
    batch_timeout_micros: Annotated[int, Field(ge=0)] = Field(
        default=0, description="how long a server waits for a batch to fill"
    )
    max_enqueued_batches: Count = Field(
        default=100, description="batches that may wait; a server refuses more"
    )


class ExportConfig(Settings):
    """All settings of `kbert export`."""

    export: ExportSettings = ExportSettings()


class Setting(NamedTuple):
    """One setting, described for people."""

    key: str  # section.key
    type: str  # "a whole number, at least 1"
    default: Any
    description: str


def sections(config_class: type[Settings]) -> dict[str, type[Settings]]:
    """The sections of a config class: name -> class."""
    fields = config_class.model_fields.items()
    return {name: typing.cast(type, field.annotation) for name, field in fields}


def describe_settings(config_class: type[Settings]) -> list[Setting]:
    """All settings of a config class, in the order in which they are written."""
    return [
        Setting(
            f"{section}.{key}",
            _type_text(field.annotation, field.metadata),
            field.get_default(call_default_factory=True),
            field.description or "",
        )
        for section, section_class in sections(config_class).items()
        for key, field in section_class.model_fields.items()
    ]


def _type_text(annotation: Any, metadata: list[Any]) -> str:
    """What a value must be, in words: `a number, above 0, at most 1, or "auto"`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        constraints = getattr(arguments[1], "metadata", [])
        return _type_text(arguments[0], [*metadata, *constraints])
    if origin in (typing.Union, types.UnionType):
        kinds = [_type_text(kind, metadata) for kind in arguments]
        return " or ".join(kind for kind in kinds if kind)
    if origin is Literal:
        names = [f'"{name}"' for name in arguments]
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    if origin is list:
        return f"a list, each {_type_text(arguments[0], [])}"
    if origin is dict:
        number = _type_text(arguments[1], []).removeprefix("a number, ")
        return f"a table from names to numbers, each {number}"
    if annotation is type(None):
        return ""
    kinds_of = {bool: "true or false", int: "a whole number", float: "a number"}
    return ", ".join([kinds_of.get(annotation, "a text"), *_limits(metadata)])


def _limits(metadata: list[Any]) -> list[str]:
    limits = []
    for limit in metadata:
        match limit:
            case annotated_types.Gt(bound):
                limits.append(f"above {bound}")
            case annotated_types.Ge(bound):
                limits.append(f"at least {bound}")
            case annotated_types.Lt(bound):
                limits.append(f"below {bound}")
            case annotated_types.Le(bound):
                limits.append(f"at most {bound}")
            case annotated_types.MinLen():
                limits.append("not empty")
    return limits
