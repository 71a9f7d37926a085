"""JSON of presets and runs that means harm: sizes, types, and what would be run."""

import base64
import marshal
from collections.abc import Callable
from typing import Any

import pytest

from tests.security.conftest import CANARY, Case
from tests.security.folders import set_json

_SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}
_BAD_SIZES: list[Any] = [
    *(0, -1, 1.5, True, "8", [8], {"a": 1}, float("nan"), float("inf")),
    *(10**6, 10**9, 10**12, 10**400),
]
_DEEP: Any = 1
for _ in range(400):
    _DEEP = [_DEEP]

# What Keras would import or call.
_CANARY_OBJECT = {"module": CANARY, "class_name": "Evil", "config": {}}
_LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {
        "name": "evil",
        "function": {
            "class_name": "__lambda__",
            "config": {
                "code": base64.b64encode(
                    marshal.dumps(compile(f"import {CANARY}", "evil", "exec"))
                ).decode(),
                "defaults": None,
                "closure": None,
            },
        },
    },
}

SIZE_CASES = [
    *(("keras_hub", "config.json", f"config.{ours}") for ours in _SIZES),
    *(("hugging_face", "config.json", theirs) for theirs in _SIZES.values()),
]

# (kind, file, keys, value): each is refused.
REFUSED: list[tuple[str, str, str, Any]] = [
    ("keras_hub", "config.json", "class_name", "GPT2Backbone"),
    ("keras_hub", "config.json", "class_name", ["BertBackbone"]),
    ("keras_hub", "config.json", "class_name", _DEEP),
    ("keras_hub", "config.json", "config", None),
    ("keras_hub", "config.json", "config", [1]),
    ("keras_hub", "config.json", "config.dropout", -1),
    ("keras_hub", "config.json", "config.dropout", True),
    ("keras_hub", "config.json", "config.dropout", float("nan")),
    ("keras_hub", "config.json", "config.hidden_dim", _DEEP),
    ("keras_hub", "tokenizer.json", "class_name", "SentencePieceTokenizer"),
    ("keras_hub", "tokenizer.json", "class_name", {"a": 1}),
    ("keras_hub", "tokenizer.json", "config", "x"),
    ("keras_hub", "tokenizer.json", "config.lowercase", "yes"),
    ("hugging_face", "config.json", "model_type", "gpt2"),
    ("hugging_face", "config.json", "model_type", ["bert"]),
    ("hugging_face", "config.json", "hidden_act", "relu"),
    ("hugging_face", "config.json", "hidden_act", ["x" * 10_000]),
    ("hugging_face", "config.json", "position_embedding_type", "relative_key"),
    ("hugging_face", "config.json", "hidden_dropout_prob", "0.1"),
    ("hugging_face", "tokenizer_config.json", "do_lower_case", 1),
    ("hugging_face", "tokenizer_config.json", "do_lower_case", _DEEP),
    ("run", "task.json", "task", "no_such_task"),
    ("run", "task.json", "task", ["text_classification"]),
    ("run", "task.json", "task", "masked_lm"),
    ("run", "task.json", "labels", []),
    ("run", "task.json", "labels", ["neg"]),
    ("run", "task.json", "labels", "ab"),
    ("run", "task.json", "labels", {"neg": 1, "pos": 2}),
    ("run", "task.json", "labels", [1, 2]),
    ("run", "task.json", "labels", ["neg", "neg"]),
    ("run", "task.json", "labels", ["neg", "\ud800"]),
    ("run", "task.json", "labels", ["neg", "pos", "more"]),
    ("run", "task.json", "labels", [str(n) for n in range(100_000)]),
    ("run", "task.json", "max_length", 0),
    ("run", "task.json", "max_length", -(10**6)),
    ("run", "task.json", "max_length", 33),
    ("run", "task.json", "max_length", 10**12),
    ("run", "task.json", "max_length", 16.0),
    ("run", "task.json", "max_length", True),
    ("run", "task.json", "max_length", "16"),
    ("run", "task.json", "truncation", "middle"),
    ("run", "task.json", "truncation", []),
    ("run", "task.json", "columns", []),
    ("run", "task.json", "columns", {}),
    ("run", "task.json", "columns.text", 5),
    ("run", "task.json", "columns.text", "\udfff"),
    ("run", "task.json", "is_paired", 1),
    ("run", "task.json", "lowercase", "yes"),
    ("run", "task.json", "strip_accents", _DEEP),
    ("run", "kbert.json", "data", []),
    ("run", "kbert.json", "data", {"files": 5}),
    ("run", "kbert.json", "data", {"files": [{}]}),
    ("run", "kbert.json", "data", {"train": {"name": 5}}),
    ("run", "kbert.json", "status", ["finished"]),
    ("run", "model/task.json", "class_name", "BertMaskedLM"),
    ("run", "model/task.json", "class_name", _DEEP),
    ("run", "model/task.json", "config.num_classes", 3),
    ("run", "model/task.json", "config.num_classes", 10**9),
    ("run", "model/task.json", "config.num_classes", [2]),
    ("run", "model/task.json", "config.dropout", 1.5),
    ("run", "model/task.json", "config.dropout", "0"),
    ("run", "model/task.json", "config", None),
    ("run", "model/config.json", "config.num_layers", 10**9),
    ("pretrained", "task.json", "max_length", 10**12),
    ("pretrained", "task.json", "max_length", 2),
    ("pretrained", "task.json", "lowercase", 1),
    ("pretrained", "task.json", "columns", 1),
    ("pretrained", "task.json", "columns", {"text": [1]}),
    ("pretrained", "task.json", "mask_selection_rate", "0.1"),
    ("pretrained", "task.json", "whole_word", _DEEP),
    ("pretrained", "model/task.json", "class_name", "BertTextClassifier"),
    ("pretrained", "model/task.json", "class_name", [1]),
]

# (kind, file, keys, value): what Keras's own loader would follow is not looked at.
IGNORED: list[tuple[str, str, str, Any]] = [
    ("keras_hub", "config.json", "module", CANARY),
    ("keras_hub", "config.json", "registered_name", f"{CANARY}>Evil"),
    ("keras_hub", "config.json", "config.dtype", _CANARY_OBJECT),
    ("keras_hub", "tokenizer.json", "module", CANARY),
    ("keras_hub", "tokenizer.json", "config.vocabulary", "/etc/passwd"),
    ("run", "model/config.json", "module", CANARY),
    ("run", "model/config.json", "registered_name", f"{CANARY}>Evil"),
    ("run", "model/config.json", "config.dtype", _CANARY_OBJECT),
    ("run", "model/task.json", "module", CANARY),
    ("run", "model/task.json", "registered_name", f"{CANARY}>Evil"),
    ("run", "model/task.json", "config.backbone", _CANARY_OBJECT),
    ("run", "model/task.json", "config.backbone", _LAMBDA),
    ("run", "model/task.json", "config.backbone.config.num_layers", 10**9),
    ("run", "model/task.json", "config.preprocessor", _LAMBDA),
    ("run", "model/task.json", "config.preprocessor", _CANARY_OBJECT),
    ("run", "model/task.json", "config.activation", _LAMBDA),
    ("run", "model/tokenizer.json", "module", CANARY),
    ("run", "model/tokenizer.json", "config.vocabulary", "../../../secret"),
    ("run", "model/preprocessor.json", "module", CANARY),
    ("run", "model/preprocessor.json", "config.tokenizer", _CANARY_OBJECT),
    ("pretrained", "model/task.json", "module", CANARY),
    ("pretrained", "model/task.json", "config.backbone", _LAMBDA),
    ("pretrained", "model/task.json", "config.backbone", _CANARY_OBJECT),
    ("pretrained", "model/config.json", "config.dtype", _LAMBDA),
    ("pretrained", "model/preprocessor.json", "module", CANARY),
]

NUM_CASES = len(SIZE_CASES) * len(_BAD_SIZES) + len(REFUSED) + len(IGNORED)


def _name(value: tuple[str, str, str, Any]) -> str:
    return "-".join([*value[:3], f"{value[3]!r:.30}"])


@pytest.mark.parametrize("where", SIZE_CASES, ids=lambda where: "-".join(where))
def test_sizes_that_make_no_model(
    case: Callable[[str], Case], where: tuple[str, str, str]
) -> None:
    kind, file, keys = where
    made = case(kind)
    content = (made.folder / file).read_bytes()
    for size in _BAD_SIZES:
        set_json(made.folder / file, keys, size)
        message = made.refused()
        assert "config.json" in message, size
        assert len(message) < 1000
        (made.folder / file).write_bytes(content)


@pytest.mark.parametrize("change", REFUSED, ids=_name)
def test_values_that_are_refused(
    case: Callable[[str], Case], change: tuple[str, str, str, Any]
) -> None:
    kind, file, keys, value = change
    made = case(kind)
    set_json(made.folder / file, keys, value)
    message = made.refused()
    named = (file.rpartition("/")[2], "task.json", made.folder.name)
    assert any(name in message for name in named)
    assert len(message) < 2000


def _rounds() -> dict[str, list[tuple[str, str, str, Any]]]:
    """Changes that can be made together, as loading takes time."""
    rounds: dict[str, list[tuple[str, str, str, Any]]] = {}
    for change in IGNORED:
        number = 1
        while any(
            f"{change[2]}.".startswith(f"{other[2]}.")
            or f"{other[2]}.".startswith(f"{change[2]}.")
            for other in rounds.get(f"{change[0]} {number}", [])
            if other[1] == change[1]
        ):
            number += 1
        rounds.setdefault(f"{change[0]} {number}", []).append(change)
    return rounds


@pytest.mark.parametrize("name", _rounds())
def test_values_that_would_run_or_read_something(
    case: Callable[[str], Case], name: str
) -> None:
    made = case(name.partition(" ")[0])
    for _, file, keys, value in _rounds()[name]:
        set_json(made.folder / file, keys, value)
    assert made.outcome(ask=True) is None
