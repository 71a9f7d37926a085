"""The settings of `kbert pretrain` and of `kbert vocab`; see `kbert.settings`."""

from typing import Annotated, Literal

from pydantic import Field

from kbert.settings import (
    Count,
    NonNegative,
    Rate,
    Settings,
    SharedTrainSettings,
    Text,
)

Share = Annotated[float, Field(ge=0, le=1)]
Inner = Annotated[float, Field(gt=0, lt=1)]
Size = Literal["tiny", "mini", "small", "medium", "base", "large"]


class CorpusSettings(Settings):
    """`[data]` of `kbert vocab`: what is read, and what a document is."""

    sources: list[Text] = Field(
        default=["sample"],
        min_length=1,
        description="files, globs, folders, tfds:NAME[/CONFIG] or sample",
    )
    document: Literal["blank_line", "line", "file"] = Field(
        default="blank_line", description="what ends a document of plain text"
    )
    text: Text | None = Field(
        default=None, description="text column; not set: the only plausible one"
    )
    train_split: Text = Field(
        default="train", description="split to read (tfds sources only)"
    )
    data_dir: Text | None = Field(
        default=None, description="folder where tensorflow-datasets keeps prepared data"
    )
    encoding_errors: Literal["strict", "replace", "ignore"] = Field(
        default="replace", description="what to do with bytes that are not UTF-8"
    )
    limit: Count | None = Field(
        default=None, description="only the first N documents of each file"
    )


class PretrainDataSettings(CorpusSettings):
    """`[data]` of `kbert pretrain`: how examples are made of the text."""

    validation: Text | None = Field(
        default=None,
        description="held-out text: a file, a folder, a TFDS split or data set",
    )
    validation_share: Inner = Field(
        default=0.01,
        description="share of the documents held out where data.validation is not set",
    )
    max_length: Annotated[int, Field(ge=8)] = Field(
        default=128, description="tokens an example, incl. [CLS] and [SEP]"
    )
    short_length: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="tokens an example in a first phase; not set: one phase",
    )
    short_sequence_rate: Share = Field(
        default=0.1, description="share of the pairs that are made shorter on purpose"
    )
    mask_selection_rate: Inner = Field(
        default=0.15, description="share of the tokens that are to be predicted"
    )
    mask_token_rate: Share = Field(
        default=0.8, description="share of these that become [MASK]"
    )
    random_token_rate: Share = Field(
        default=0.1, description="share of these that become a random token"
    )
    whole_word: bool = Field(
        default=False, description="mask all the pieces of a word together"
    )


class PretrainModelSettings(Settings):
    """`[model]` of `kbert pretrain`: weights to go on from, or a new BERT."""

    preset: Text | None = Field(
        default=None,
        description="preset to go on from, with its vocabulary; not set: a new model",
    )
    vocabulary: Text | None = Field(
        default=None, description="vocabulary file; not set: trained on the text"
    )
    vocabulary_size: Annotated[int, Field(ge=6, le=1_000_000)] | None = Field(
        default=None, description="tokens of a vocabulary trained here; not set: 30000"
    )
    lowercase: bool | None = Field(
        default=None,
        description="lowercase the text; not set: as preset or vocabulary have it",
    )
    strip_accents: bool | None = Field(
        default=None, description="strip accents; not set: where the text is lowercased"
    )
    size: Size | None = Field(
        default=None, description="size of a new model; not set: mini"
    )
    num_layers: Count | None = Field(
        default=None, description="encoder layers; not set: by size"
    )
    num_heads: Count | None = Field(
        default=None, description="attention heads; not set: by size"
    )
    hidden_dim: Count | None = Field(
        default=None, description="width of the encoder; not set: by size"
    )
    intermediate_dim: Count | None = Field(
        default=None,
        description="width of the feed-forward nets; not set: 4 hidden_dim",
    )
    max_sequence_length: Annotated[int, Field(ge=8)] | None = Field(
        default=None, description="positions; not set: data.max_length"
    )
    position_embedding: Literal["learned", "sinusoidal"] = Field(
        default="learned", description="position table of a new model"
    )
    dropout: Rate | None = Field(
        default=None, description="dropout rate; not set: as the preset says, or 0.1"
    )


class PretrainTrainSettings(SharedTrainSettings):
    """`[train]` of `kbert pretrain`: how long and how fast; steps are the measure."""

    max_steps: Count = Field(default=10_000, description="optimizer steps")
    optimizer: Literal["adamw", "lamb"] = Field(
        default="adamw", description="adamw, or lamb for large batches"
    )
    next_sentence_weight: NonNegative = Field(
        default=1.0,
        description="weight of the next-sentence loss; 0: none, and full sequences",
    )
    short_share: Inner | None = Field(
        default=None,
        description="share of the steps that take data.short_length; not set: 0.9",
    )
    eval_steps: Count | None = Field(
        default=None, description="steps between evaluations; not set: a twentieth"
    )


class PretrainConfig(Settings):
    """All settings of `kbert pretrain`."""

    model: PretrainModelSettings = PretrainModelSettings()
    data: PretrainDataSettings = PretrainDataSettings()
    train: PretrainTrainSettings = PretrainTrainSettings()


class VocabConfig(Settings):
    """All settings of `kbert vocab`."""

    data: CorpusSettings = CorpusSettings()
