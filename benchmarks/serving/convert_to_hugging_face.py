"""A kbert run as a Hugging Face BertForSequenceClassification, weights and tokenizer.

Purpose: the model that peer_server.py serves: the same weights, so that its answers can
be compared with kbert's.

    python -m benchmarks.serving.convert_to_hugging_face runs/imdb128_head /tmp/peer

The run must keep the head of a long text (`--set data.truncation=head`): that is what
a Hugging Face tokenizer does. Exits with 1 where it does not.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
from safetensors.numpy import save_file

from kbert.hugging_face import bert_tensors
from kbert.preset_files import read_architecture
from kbert.presets import Preset, resolve_preset
from kbert.runs import open_run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path, help="where the model is written")
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    values = run.read_task()
    if values["truncation"] != "head" or values["is_paired"]:
        print(
            "The run must be one of single texts and trained with "
            f"data.truncation=head. Received: {values['truncation']}.",
            file=sys.stderr,
        )
        return 1
    preset = resolve_preset(os.path.abspath(run.path))
    num_tensors = write_model(
        arguments.folder,
        keras_hub.models.BertTextClassifier.from_preset(str(preset.folder)),
        preset,
        labels=values["labels"],
        max_length=values["max_length"],
    )
    print(f"{num_tensors} tensors in {arguments.folder}")
    return 0


def write_model(
    folder: Path,
    classifier: keras_hub.models.BertTextClassifier,
    preset: Preset,
    *,
    labels: Sequence[str],
    max_length: int,
) -> int:
    """Writes a classifier and its tokenizer as Hugging Face's packages read them.

    Args:
        preset: whose architecture and vocabulary the classifier has.
        max_length: tokens of a text at most.

    Returns:
        How many tensors there are.
    """
    _, architecture = read_architecture(preset.folder)
    tokenizer = {
        "tokenizer_class": "BertTokenizerFast",
        "do_lower_case": preset.lowercase,
        "strip_accents": preset.strip_accents,
        "model_max_length": max_length,
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = convert_weights(classifier, architecture)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = convert_config(architecture, labels)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2))
    (folder / "vocab.txt").write_text("\n".join(preset.vocabulary) + "\n", "utf-8")
    return len(tensors)


def convert_weights(
    model: keras_hub.models.BertTextClassifier, architecture: Any
) -> dict[str, np.ndarray]:
    """The weights of a BertTextClassifier under Hugging Face's names."""
    variables = {
        variable.path: variable.numpy() for variable in model.backbone.variables
    }
    tensors = {}
    for path, name, shape in bert_tensors(architecture, (), "bert."):
        value = variables[path]
        if path.endswith("/kernel"):
            value = value.reshape(shape[::-1]).T
        tensors[name] = np.ascontiguousarray(value.reshape(shape))
    kernel, bias = (weight.numpy() for weight in model.output_dense.weights)
    tensors["classifier.weight"] = np.ascontiguousarray(kernel.T)
    tensors["classifier.bias"] = bias
    return tensors


def convert_config(architecture: Any, labels: Sequence[str]) -> dict[str, Any]:
    """What Hugging Face's config.json says of a BertForSequenceClassification."""
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_act": "gelu_pytorch_tanh",  # what keras-hub's BertBackbone computes
        "hidden_size": architecture.hidden_dim,
        "intermediate_size": architecture.intermediate_dim,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": architecture.max_sequence_length,
        "num_attention_heads": architecture.num_heads,
        "num_hidden_layers": architecture.num_layers,
        "type_vocab_size": architecture.num_segments,
        "vocab_size": architecture.vocabulary_size,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


if __name__ == "__main__":
    sys.exit(main())
