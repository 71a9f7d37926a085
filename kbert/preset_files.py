"""What a preset's folder says of its model and its tokenizer.

Two formats: keras-hub's (`config.json` with `"class_name": "BertBackbone"`) and
Hugging Face's (`"model_type": "bert"`). Only plain numbers and texts are taken from
the files and checked; nothing in them is ever deserialized or run.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kbert.bounded import read_json as read_bounded_json
from kbert.bounded import resolve_inside, shown
from kbert.errors import PresetError
from kbert.vocabulary import check_vocabulary, read_vocabulary

logger = logging.getLogger(__name__)

Format = Literal["keras_hub", "hugging_face"]

MAX_SIZE = 1_000_000_000  # of any one dimension
MAX_LAYERS = 1_000  # the deepest published BERTs have 48; each is an object of Keras
MAX_PARAMETERS = 10_000_000_000

# Our name -> Hugging Face's. Both files carry the same numbers.
_SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}
_OPTIONAL_SIZES = {"max_sequence_length": 512, "num_segments": 2}  # as in keras-hub


@dataclass(frozen=True)
class Architecture:
    """The numbers that make a BertBackbone."""

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    max_sequence_length: int
    num_segments: int
    dropout: float

    @property
    def num_parameters(self) -> int:
        """Trainable numbers of the backbone, pooler included."""
        hidden, inner = self.hidden_dim, self.intermediate_dim
        tables = self.vocabulary_size + self.max_sequence_length + self.num_segments
        dense = hidden * hidden + hidden  # query, key, value, output and the pooler
        layer = 4 * dense + (2 * hidden * inner + inner + hidden) + 4 * hidden
        return tables * hidden + 2 * hidden + self.num_layers * layer + dense


@dataclass(frozen=True)
class TokenizerFiles:
    """What a folder says of its tokenizer."""

    vocabulary: tuple[str, ...]
    lowercase: bool


def preset_file(folder: Path, name: str) -> Path:
    """The path of a preset's file, whether or not it is there.

    Raises:
        PresetError: it is a link out of the folder, or `name` leads there.
    """
    real = Path(os.path.realpath(folder))
    root = folder
    # Hugging Face's cache keeps the files themselves beside its snapshots.
    if real.parent.name == "snapshots" and real.parents[1].name.startswith("models--"):
        root = real.parents[1]
    return resolve_inside(folder, name, PresetError, root=root)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        PresetError: the file is missing, too large, or holds no JSON object.
    """
    return read_bounded_json(path, PresetError)


def read_architecture(folder: Path) -> tuple[Format, Architecture]:
    """Read and check `config.json`.

    Raises:
        PresetError: it is missing or damaged, of another model than BERT, or its
            numbers make no BERT.
    """
    file = preset_file(folder, "config.json")
    config = read_json(file)
    if "class_name" in config:
        if config["class_name"] != "BertBackbone":
            raise _other_model(file, config["class_name"], "a keras-hub BertBackbone")
        numbers = config.get("config")
        if not isinstance(numbers, dict):
            raise PresetError(f'{file} must hold an object under "config".')
        sizes = {name: numbers.get(name) for name in _SIZES}
        rate = numbers.get("dropout", 0.1)
        return "keras_hub", _checked(file, sizes, {name: name for name in _SIZES}, rate)
    if "model_type" in config:
        if config["model_type"] != "bert":
            raise _other_model(file, config["model_type"], 'model type "bert"')
        _check_hugging_face_variant(file, config)
        sizes = {name: config.get(theirs) for name, theirs in _SIZES.items()}
        rate = config.get("hidden_dropout_prob", 0.1)
        return "hugging_face", _checked(file, sizes, _SIZES, rate)
    raise PresetError(
        f'{file} is no BERT config: it has neither "class_name" (keras-hub) nor '
        '"model_type" (Hugging Face).'
    )


def _other_model(file: Path, found: Any, wanted: str) -> PresetError:
    return PresetError(
        f"{file} must be of {wanted}. Received: {shown(found)}. kbert trains BERT "
        "models; `kbert presets` lists known ones."
    )


def _check_hugging_face_variant(file: Path, config: dict[str, Any]) -> None:
    """Refuse what BertBackbone would compute differently without a word."""
    activation = config.get("hidden_act", "gelu")
    if not str(activation).startswith("gelu"):
        raise PresetError(
            f'{file}: "hidden_act" must be "gelu", all that keras-hub\'s BertBackbone '
            f"computes. Received: {shown(activation)}."
        )
    positions = config.get("position_embedding_type") or "absolute"
    if positions != "absolute":
        raise PresetError(
            f'{file}: "position_embedding_type" must be "absolute". '
            f"Received: {shown(positions)}."
        )


def _checked(
    file: Path, sizes: dict[str, Any], names: dict[str, str], dropout: Any
) -> Architecture:
    """An Architecture whose numbers make sense; `names` as the file calls them."""
    for name, default in _OPTIONAL_SIZES.items():
        if sizes[name] is None:
            sizes[name] = default
    for name, size in sizes.items():
        if type(size) is not int or not 1 <= size <= MAX_SIZE:
            received = "nothing" if size is None else shown(size)
            raise PresetError(
                f'{file}: "{names[name]}" must be a whole number from 1 to '
                f"{MAX_SIZE:,}. Received: {received}."
            )
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise PresetError(
            f"{file}: the dropout rate must be at least 0 and below 1. "
            f"Received: {shown(dropout)}."
        )
    if sizes["num_layers"] > MAX_LAYERS:
        raise PresetError(
            f'{file}: "{names["num_layers"]}" must be at most {MAX_LAYERS:,}. '
            f"Received: {sizes['num_layers']:,}."
        )
    architecture = Architecture(**sizes, dropout=float(dropout))
    if architecture.hidden_dim % architecture.num_heads:
        raise PresetError(
            f'{file}: "{names["hidden_dim"]}" must be a multiple of '
            f'"{names["num_heads"]}". Received: {architecture.hidden_dim} and '
            f"{architecture.num_heads}."
        )
    if architecture.num_parameters > MAX_PARAMETERS:
        raise PresetError(
            f"{file} describes a model of {architecture.num_parameters:,} parameters. "
            f"kbert takes at most {MAX_PARAMETERS:,}: are the sizes right?"
        )
    return architecture


def read_tokenizer(
    folder: Path, preset_format: Format, architecture: Architecture
) -> TokenizerFiles:
    """Read and check the vocabulary and whether it is for lowercased text.

    Raises:
        PresetError: a file is missing or damaged, the vocabulary is no BERT
            vocabulary, or it has more tokens than the model has embeddings.
    """
    if preset_format == "keras_hub":
        source, tokenizer = _read_keras_hub_tokenizer(folder)
    else:
        source, tokenizer = _read_hugging_face_tokenizer(folder)
    if len(tokenizer.vocabulary) > architecture.vocabulary_size:
        raise PresetError(
            f"The vocabulary must fit the model's embedding table. Received: "
            f"{len(tokenizer.vocabulary):,} tokens in {source} for "
            f"{architecture.vocabulary_size:,} embeddings in {folder / 'config.json'}."
        )
    return tokenizer


def _read_keras_hub_tokenizer(folder: Path) -> tuple[Path, TokenizerFiles]:
    file = preset_file(folder, "tokenizer.json")
    config = read_json(file)
    kind = config.get("class_name")
    if kind != "BertTokenizer":
        raise PresetError(
            f"{file} must be of a BertTokenizer, which is WordPiece. Received: "
            f"{shown(kind)}. kbert has no other tokenizer."
        )
    settings = config.get("config")
    lowercase = settings.get("lowercase") if isinstance(settings, dict) else None
    if not isinstance(lowercase, bool):
        raise PresetError(
            f'{file}: "lowercase" must be true or false. Received: {shown(lowercase)}.'
        )
    source = preset_file(folder, "assets/tokenizer/vocabulary.txt")
    return source, TokenizerFiles(read_vocabulary(source), lowercase)


def _read_hugging_face_tokenizer(folder: Path) -> tuple[Path, TokenizerFiles]:
    fast = preset_file(folder, "tokenizer.json")
    converted = read_json(fast) if fast.exists() else {}
    source = preset_file(folder, "vocab.txt")
    if source.exists() or not converted:
        vocabulary = read_vocabulary(source)
    else:
        source, vocabulary = fast, _vocabulary_of_tokenizer_json(fast, converted)
    slow = preset_file(folder, "tokenizer_config.json")
    lowercase = read_json(slow).get("do_lower_case") if slow.exists() else None
    if lowercase is None:
        normalizer = converted.get("normalizer")
        lowercase = normalizer.get("lowercase") if type(normalizer) is dict else None
    if lowercase is None:
        # Special tokens are written in capitals in every vocabulary.
        words = (token for token in vocabulary if not token.startswith("["))
        lowercase = not any(word != word.lower() for word in words)
        logger.warning(
            "%s does not say whether its text is lowercased; taken from the "
            "vocabulary: %s. model.lowercase decides otherwise.",
            folder,
            "lowercased" if lowercase else "cased",
        )
    if not isinstance(lowercase, bool):
        raise PresetError(
            f'{slow}: "do_lower_case" must be true or false. '
            f"Received: {shown(lowercase)}."
        )
    return source, TokenizerFiles(vocabulary, lowercase)


def _vocabulary_of_tokenizer_json(
    file: Path, content: dict[str, Any]
) -> tuple[str, ...]:
    model = content.get("model")
    ids = model.get("vocab") if isinstance(model, dict) else None
    kind = model.get("type", "WordPiece") if isinstance(model, dict) else None
    if kind != "WordPiece" or not isinstance(ids, dict):
        raise PresetError(
            f"{file} must hold a WordPiece vocabulary. Received: {shown(kind)}. kbert "
            "has no other tokenizer."
        )
    whole = all(type(number) is int for number in ids.values())
    tokens = sorted(ids, key=lambda token: ids[token]) if whole else []
    if not whole or sorted(ids.values()) != list(range(len(ids))):
        raise PresetError(
            f"{file}: the ids of its vocabulary must be 0, 1, 2 and so on."
        )
    check_vocabulary(tokens, str(file))
    return tuple(tokens)
