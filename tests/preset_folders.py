"""Small presets, written for tests: both formats, and the caches they lie in."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "##a", "##b"]
SIZES = {
    "vocabulary_size": 20,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 12,
    "max_sequence_length": 16,
}


def write_keras_hub_preset(folder: Path, *, lowercase: bool = True) -> Path:
    """A preset as keras-hub itself writes it, with random weights."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.BertBackbone(**SIZES, dropout=0.2)
    backbone.save_to_preset(str(folder))
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=WORDS, lowercase=lowercase)
    tokenizer.save_to_preset(str(folder))
    return folder


def hugging_face_weights(*, prefix: str = "", old_norm: bool = False) -> dict:
    """Random weights of a BERT of `SIZES` under Hugging Face's names."""
    generator = np.random.default_rng(2)
    scale, shift = ("gamma", "beta") if old_norm else ("weight", "bias")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (20, 8),
        "embeddings.position_embeddings.weight": (16, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        f"embeddings.LayerNorm.{scale}": (8,),
        f"embeddings.LayerNorm.{shift}": (8,),
        "pooler.dense.weight": (8, 8),
        "pooler.dense.bias": (8,),
    }
    for number in range(2):
        layer = f"encoder.layer.{number}"
        for name, outputs, inputs in [
            ("attention.self.query", 8, 8),
            ("attention.self.key", 8, 8),
            ("attention.self.value", 8, 8),
            ("attention.output.dense", 8, 8),
            ("intermediate.dense", 12, 8),
            ("output.dense", 8, 12),
        ]:
            shapes[f"{layer}.{name}.weight"] = (outputs, inputs)
            shapes[f"{layer}.{name}.bias"] = (outputs,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}.{name}.{scale}"] = (8,)
            shapes[f"{layer}.{name}.{shift}"] = (8,)
    return {
        prefix + name: generator.normal(size=shape).astype("float32")
        for name, shape in shapes.items()
    }


def write_hugging_face_preset(
    folder: Path, weights: dict | None = None, **config: Any
) -> Path:
    """A BERT folder as Hugging Face's libraries write it; `config` adds keys."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {
        "model_type": "bert",
        "vocab_size": 20,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
    }
    write_json(folder / "config.json", {**numbers, **config})
    write_json(folder / "tokenizer_config.json", {"do_lower_case": False})
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    save_file(weights or hugging_face_weights(), folder / "model.safetensors")
    return folder


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; keys of "config", where it has that."""
    content = json.loads(path.read_text(encoding="utf-8"))
    target = content.get("config", content)
    for key, value in changes.items():
        if value is None:
            del target[key]
        else:
            target[key] = value
    write_json(path, content)


def seed_kaggle_cache(source: Path, handle: str) -> Path:
    """What a download of a named preset leaves: its files, each marked complete."""
    from kagglehub.cache import Cache
    from kagglehub.handle import parse_model_handle

    cache, model = Cache(), parse_model_handle(handle.removeprefix("kaggle://"))
    for file in (path for path in source.rglob("*") if path.is_file()):
        relative = file.relative_to(source).as_posix()
        target = Path(cache.get_path(model, relative))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        cache.mark_as_complete(model, relative)
    return Path(cache.get_path(model))


def seed_hugging_face_cache(source: Path, cache: Path, repository: str) -> Path:
    """What huggingface_hub leaves of a repository."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    shutil.copytree(source, folder / "snapshots" / ("0" * 40))
    return folder / "snapshots" / ("0" * 40)
