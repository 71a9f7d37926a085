"""How Hugging Face names the weights of a BERT, and where keras-hub keeps them.

Hugging Face stores a dense kernel as (outputs, inputs), Keras as (inputs, outputs),
with the attention heads on an axis of their own.
"""

from collections.abc import Collection
from typing import NamedTuple

from kbert.preset_files import Architecture

WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"

# The heads of a BertForPreTraining: our weight -> its names, in new files and in old.
HEADS_PREFIX = "cls."
_TRANSFORM = f"{HEADS_PREFIX}predictions.transform"
MASKED_LM_NAMES: dict[str, tuple[str, ...]] = {
    "dense.kernel": (f"{_TRANSFORM}.dense.weight",),
    "dense.bias": (f"{_TRANSFORM}.dense.bias",),
    "norm.gamma": (f"{_TRANSFORM}.LayerNorm.weight", f"{_TRANSFORM}.LayerNorm.gamma"),
    "norm.beta": (f"{_TRANSFORM}.LayerNorm.bias", f"{_TRANSFORM}.LayerNorm.beta"),
    "bias": (
        f"{HEADS_PREFIX}predictions.bias",
        f"{HEADS_PREFIX}predictions.decoder.bias",
    ),
}
NEXT_SENTENCE_NAMES: dict[str, tuple[str, ...]] = {
    "kernel": (f"{HEADS_PREFIX}seq_relationship.weight",),
    "bias": (f"{HEADS_PREFIX}seq_relationship.bias",),
}


class Tensor(NamedTuple):
    """One weight of a BERT."""

    path: str  # of the variable in a BertBackbone
    name: str  # in the safetensors file
    shape: tuple[int, ...]  # in the safetensors file


def name_prefix(names: Collection[str]) -> str | None:
    """What stands before every name ("bert." or nothing); None where no BERT is."""
    found = [name for name in names if name.endswith(WORD_EMBEDDINGS)]
    return min(found, key=len).removesuffix(WORD_EMBEDDINGS) if found else None


def bert_tensors(
    architecture: Architecture, names: Collection[str], prefix: str
) -> list[Tensor]:
    """All weights of a BERT, the pooler's last.

    Args:
        architecture: the sizes.
        names: of the tensors in the files. They tell which of its two pairs of
            names LayerNorm has: gamma and beta in old files, weight and bias in new.
        prefix: from `name_prefix`.
    """
    old = f"{prefix}embeddings.LayerNorm.gamma" in names
    scale, shift = ("gamma", "beta") if old else ("weight", "bias")
    hidden, inner = architecture.hidden_dim, architecture.intermediate_dim
    tensors: list[Tensor] = []

    def add(path: str, name: str, *shape: int) -> None:
        tensors.append(Tensor(path, prefix + name, shape))

    def add_norm(path: str, name: str) -> None:
        add(f"{path}/gamma", f"{name}.{scale}", hidden)
        add(f"{path}/beta", f"{name}.{shift}", hidden)

    def add_dense(path: str, name: str, outputs: int, inputs: int) -> None:
        add(f"{path}/kernel", f"{name}.weight", outputs, inputs)
        add(f"{path}/bias", f"{name}.bias", outputs)

    for path, name, rows in (
        ("token", "word", architecture.vocabulary_size),
        ("position", "position", architecture.max_sequence_length),
        ("segment", "token_type", architecture.num_segments),
    ):
        add(
            f"{path}_embedding/embeddings",
            f"embeddings.{name}_embeddings.weight",
            rows,
            hidden,
        )
    add_norm("embeddings_layer_norm", "embeddings.LayerNorm")
    for number in range(architecture.num_layers):
        path, name = f"transformer_layer_{number}", f"encoder.layer.{number}"
        for role in ("query", "key", "value"):
            ours = f"{path}/self_attention_layer/{role}"
            add_dense(ours, f"{name}.attention.self.{role}", hidden, hidden)
        ours = f"{path}/self_attention_layer/attention_output"
        add_dense(ours, f"{name}.attention.output.dense", hidden, hidden)
        ours = f"{path}/self_attention_layer_norm"
        add_norm(ours, f"{name}.attention.output.LayerNorm")
        ours = f"{path}/feedforward_intermediate_dense"
        add_dense(ours, f"{name}.intermediate.dense", inner, hidden)
        ours = f"{path}/feedforward_output_dense"
        add_dense(ours, f"{name}.output.dense", hidden, inner)
        add_norm(f"{path}/feedforward_layer_norm", f"{name}.output.LayerNorm")
    add_dense("pooled_dense", "pooler.dense", hidden, hidden)
    return tensors
