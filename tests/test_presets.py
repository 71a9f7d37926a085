"""Presets: what is accepted, what is refused and how, and what is loaded."""

import json
import logging
import shutil
from pathlib import Path

import h5py
import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from kbert.errors import PresetError
from kbert.presets import load_backbone, resolve_preset
from tests.preset_folders import (
    SIZES,
    WORDS,
    edit_json,
    hugging_face_weights,
    write_hugging_face_preset,
    write_json,
    write_keras_hub_preset,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keras_hub_preset(tmp_path_factory.mktemp("presets") / "tiny")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def outputs(backbone: keras.Model) -> np.ndarray:
    token_ids = np.array([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]])
    result = backbone(
        {
            "token_ids": token_ids,
            "segment_ids": np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]),
            "padding_mask": (token_ids != 0).astype("int32"),
        }
    )
    sequence = keras.ops.convert_to_numpy(result["sequence_output"])
    pooled = keras.ops.convert_to_numpy(result["pooled_output"])
    return np.concatenate([sequence.reshape(2, -1), pooled], axis=1)


# === keras-hub's format ===


def test_a_keras_hub_folder(folder: Path) -> None:
    preset = resolve_preset(str(folder))
    assert preset.folder == folder
    assert preset.format == "keras_hub"
    assert preset.vocabulary == tuple(WORDS)
    assert preset.max_sequence_length == 16
    assert (preset.num_layers, preset.num_heads, preset.hidden_dim) == (2, 2, 8)
    assert preset.has_weights
    backbone = load_backbone(preset)
    expected = keras_hub.models.BertBackbone.from_preset(str(folder))
    np.testing.assert_array_equal(outputs(backbone), outputs(expected))
    assert backbone.dropout == 0.2


def test_the_real_preset_loads_as_keras_hub_loads_it(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "presets" / "all_minilm_l6_v2_en"
    preset = resolve_preset(str(folder))
    assert len(preset.vocabulary) == 30522
    # Its tokenizer.json says strip_accents: false; it was trained with them off.
    assert preset.lowercase
    assert preset.strip_accents
    expected = keras_hub.models.BertBackbone.from_preset(str(folder))
    np.testing.assert_array_equal(outputs(load_backbone(preset)), outputs(expected))


def test_precision_and_dropout_are_the_callers(folder: Path) -> None:
    preset = resolve_preset(str(folder))
    backbone = load_backbone(preset, dtype="mixed_bfloat16", dropout=0.0)
    assert backbone.dropout == 0.0
    assert backbone.transformer_layers[0].compute_dtype == "bfloat16"
    assert backbone.token_embedding.embeddings.dtype == "float32"


def test_weights_in_several_files(pristine: Path, tmp_path: Path) -> None:
    backbone = keras_hub.models.BertBackbone.from_preset(str(pristine))
    folder = tmp_path / "sharded"
    backbone.save_to_preset(str(folder), max_shard_size=3e-6)
    assert len(list(folder.glob("model_*.weights.h5"))) > 1
    shutil.copy(pristine / "tokenizer.json", folder)
    shutil.copytree(pristine / "assets", folder / "assets")
    loaded = load_backbone(resolve_preset(str(folder)))
    np.testing.assert_array_equal(outputs(loaded), outputs(backbone))

    (folder / "model_00001.weights.h5").unlink()
    with pytest.raises(PresetError, match=r"has no model_00001\.weights\.h5"):
        resolve_preset(str(folder))


def test_an_index_cannot_name_files_elsewhere(folder: Path) -> None:
    (folder / "model.weights.h5").unlink()
    index = {"weight_map": {"/layers": "../other.weights.h5"}}
    write_json(folder / "model.weights.json", index)
    with pytest.raises(PresetError, match="must name files of the same folder"):
        resolve_preset(str(folder))


def test_a_preset_with_a_task_head_gives_its_backbone(tmp_path: Path) -> None:
    folder = write_keras_hub_preset(tmp_path / "task")
    backbone = keras_hub.models.BertBackbone.from_preset(str(folder))
    tokenizer = keras_hub.models.BertTokenizer.from_preset(str(folder))
    task = keras_hub.models.BertTextClassifier(
        backbone,
        num_classes=2,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(tokenizer),
    )
    task.save_to_preset(str(folder))
    assert (folder / "task.json").is_file()
    loaded = load_backbone(resolve_preset(str(folder)))
    np.testing.assert_array_equal(outputs(loaded), outputs(backbone))


# === who decides about case and accents ===


@pytest.mark.parametrize("of_preset", [True, False])
@pytest.mark.parametrize("lowercase", [None, True, False])
@pytest.mark.parametrize("strip_accents", [None, True, False])
def test_the_users_decisions_come_first(
    folder: Path, of_preset: bool, lowercase: bool | None, strip_accents: bool | None
) -> None:
    edit_json(folder / "tokenizer.json", lowercase=of_preset)
    preset = resolve_preset(
        str(folder), lowercase=lowercase, strip_accents=strip_accents
    )
    lowered = of_preset if lowercase is None else lowercase
    assert preset.lowercase == lowered
    assert preset.strip_accents == (lowered if strip_accents is None else strip_accents)


def test_a_run_remembers_its_decisions(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run / "model")
    write_json(run / "task.json", {"lowercase": True, "strip_accents": False})
    preset = resolve_preset(str(run))
    assert preset.folder == run / "model"
    assert (preset.lowercase, preset.strip_accents) == (True, False)
    assert resolve_preset(str(run), strip_accents=True).strip_accents
    cased = resolve_preset(str(run), lowercase=False)
    assert (cased.lowercase, cased.strip_accents) == (False, False)

    write_json(run / "task.json", {"lowercase": "yes"})
    with pytest.raises(PresetError, match="'yes'"):
        resolve_preset(str(run))


# === Hugging Face's format ===


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("old_norm", [False, True])
def test_a_hugging_face_folder(tmp_path: Path, prefix: str, old_norm: bool) -> None:
    weights = hugging_face_weights(prefix=prefix, old_norm=old_norm)
    folder = write_hugging_face_preset(tmp_path / "hf", weights)
    preset = resolve_preset(str(folder))
    assert preset.format == "hugging_face"
    assert preset.vocabulary == tuple(WORDS)
    assert not preset.lowercase
    backbone = load_backbone(preset)
    table = keras.ops.convert_to_numpy(backbone.token_embedding.embeddings)
    np.testing.assert_array_equal(
        table, weights[f"{prefix}embeddings.word_embeddings.weight"]
    )
    # The reference: keras-hub's own converter.
    expected = keras_hub.models.BertBackbone.from_preset(str(folder))
    np.testing.assert_array_equal(outputs(backbone), outputs(expected))


def test_kernels_are_transposed(tmp_path: Path) -> None:
    weights = hugging_face_weights()
    backbone = load_backbone(
        resolve_preset(str(write_hugging_face_preset(tmp_path / "hf", weights)))
    )
    values = {
        variable.path: keras.ops.convert_to_numpy(variable)
        for variable in backbone.variables
    }
    layer = "transformer_layer_1"
    np.testing.assert_array_equal(
        values[f"{layer}/feedforward_intermediate_dense/kernel"],
        weights["encoder.layer.1.intermediate.dense.weight"].T,
    )
    query = weights["encoder.layer.1.attention.self.query.weight"]  # (N * H, D)
    for head in range(2):
        np.testing.assert_array_equal(
            values[f"{layer}/self_attention_layer/query/kernel"][:, head],
            query[4 * head : 4 * head + 4].T,
        )


def test_hugging_face_weights_in_several_files(tmp_path: Path) -> None:
    weights = hugging_face_weights()
    folder = write_hugging_face_preset(tmp_path / "hf", weights)
    whole = load_backbone(resolve_preset(str(folder)))
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    index = {}
    for number, part in enumerate([names[:15], names[15:]]):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    write_json(folder / "model.safetensors.index.json", {"weight_map": index})
    loaded = load_backbone(resolve_preset(str(folder)))
    np.testing.assert_array_equal(outputs(loaded), outputs(whole))


def test_a_model_without_a_pooler_starts_with_a_random_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = hugging_face_weights()
    del weights["pooler.dense.weight"], weights["pooler.dense.bias"]
    folder = write_hugging_face_preset(tmp_path / "hf", weights)
    with caplog.at_level(logging.WARNING, logger="kbert"):
        load_backbone(resolve_preset(str(folder)))
    assert "no pooler.dense.weight, pooler.dense.bias: they start random" in caplog.text


def test_bfloat16_weights(tmp_path: Path) -> None:
    import ml_dtypes

    weights = hugging_face_weights()
    halves = {k: v.astype(ml_dtypes.bfloat16) for k, v in weights.items()}
    folder = write_hugging_face_preset(tmp_path / "hf", halves)
    backbone = load_backbone(resolve_preset(str(folder)))
    table = keras.ops.convert_to_numpy(backbone.token_embedding.embeddings)
    expected = halves["embeddings.word_embeddings.weight"].astype("float32")
    np.testing.assert_array_equal(table, expected)


def test_the_vocabulary_of_a_tokenizer_json(tmp_path: Path) -> None:
    folder = write_hugging_face_preset(tmp_path / "hf")
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").unlink()
    ids = {word: number for number, word in reversed(list(enumerate(WORDS)))}
    tokenizer = {
        "normalizer": {"type": "BertNormalizer", "lowercase": True},
        "model": {"type": "WordPiece", "vocab": ids},
    }
    write_json(folder / "tokenizer.json", tokenizer)
    preset = resolve_preset(str(folder))
    assert preset.vocabulary == tuple(WORDS)
    assert preset.lowercase

    ids["j"] = 99
    write_json(folder / "tokenizer.json", tokenizer)
    with pytest.raises(PresetError, match="ids of its vocabulary must be 0, 1, 2"):
        resolve_preset(str(folder))
    write_json(folder / "tokenizer.json", {"model": {"type": "BPE", "vocab": {}}})
    with pytest.raises(PresetError, match="Received: 'BPE'"):
        resolve_preset(str(folder))


@pytest.mark.parametrize(("word", "lowercase"), [("Word", False), ("word", True)])
def test_case_is_read_off_the_vocabulary_where_nothing_else_says(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    word: str,
    lowercase: bool,
) -> None:
    folder = write_hugging_face_preset(tmp_path / "hf")
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join([*WORDS, word]))
    with caplog.at_level(logging.WARNING, logger="kbert"):
        assert resolve_preset(str(folder)).lowercase == lowercase
    assert "does not say whether its text is lowercased" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "Received: 'roberta'"),
        ({"hidden_act": "relu"}, "Received: 'relu'"),
        ({"position_embedding_type": "relative_key"}, "Received: 'relative_key'"),
        ({"num_attention_heads": 3}, "Received: 8 and 3"),
        ({"vocab_size": 21}, r"\(20, 8\) in .*model.safetensors, \(21, 8\)"),
        ({"num_hidden_layers": 1}, r"encoder.layer.1.\* in .*, 1 layers"),
        ({"num_hidden_layers": 3}, "lack encoder.layer.2.attention.self.query"),
    ],
)
def test_a_hugging_face_folder_that_does_not_fit(
    tmp_path: Path, changes: dict, message: str
) -> None:
    folder = write_hugging_face_preset(tmp_path / "hf", **changes)
    with pytest.raises(PresetError, match=message):
        resolve_preset(str(folder))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = write_hugging_face_preset(tmp_path / "hf")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PresetError, match="save the model as safetensors"):
        resolve_preset(str(folder))


# === what is refused ===


@pytest.mark.parametrize(
    "file",
    [
        "tokenizer.json",
        "assets/tokenizer/vocabulary.txt",
        "model.weights.h5",
    ],
)
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(PresetError, match=Path(file).name):
        resolve_preset(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary_size": 10}, "17 tokens in .*vocabulary.txt for 10 embeddings"),
        ({"vocabulary_size": 21}, r"shape \(20, 8\) in .*h5, \(21, 8\) by config"),
        ({"max_sequence_length": 32}, r"shape \(16, 8\) in .*h5, \(32, 8\)"),
        ({"intermediate_dim": 16}, r"shape \(8, 12\) in .*h5, \(8, 16\)"),
        ({"num_heads": 4}, r"shape \(8, 2, 4\) in .*h5, \(8, 4, 2\)"),
        ({"num_segments": 3}, r"shape \(2, 8\) in .*h5, \(3, 8\)"),
        ({"num_layers": 1}, "2 encoder layers in .*h5, 1 in config.json"),
        ({"num_layers": 3}, "2 encoder layers in .*h5, 3 in config.json"),
        ({"num_heads": 3}, "Received: 8 and 3"),
        ({"hidden_dim": -8}, '"hidden_dim" must be a whole number.*Received: -8'),
        ({"hidden_dim": 8.0}, "Received: 8.0"),
        ({"hidden_dim": True}, "Received: True"),
        ({"hidden_dim": None}, "Received: nothing"),
        ({"num_layers": 10**400}, "must be a whole number from 1 to"),
        ({"vocabulary_size": 10**9, "hidden_dim": 10**6}, "at most 10,000,000,000"),
        ({"dropout": 1.5}, "dropout rate.*Received: 1.5"),
    ],
)
def test_a_config_that_does_not_fit(folder: Path, changes: dict, message: str) -> None:
    edit_json(folder / "config.json", **changes)
    with pytest.raises(PresetError, match=message):
        resolve_preset(str(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be a JSON file"),
        ("[" * 100_000, "must be a JSON file"),
        ("[]", "must hold a JSON object"),
        ("{}", "is no BERT config"),
        ('{"class_name": "GPT2Backbone", "config": {}}', "Received: 'GPT2Backbone'"),
        ('{"class_name": "BertBackbone"}', 'must hold an object under "config"'),
    ],
)
def test_a_config_that_is_none(folder: Path, content: str, message: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(PresetError, match=message):
        resolve_preset(str(folder))


def test_damaged_weights(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(PresetError, match=r"model\.weights\.h5 is damaged"):
        resolve_preset(str(folder))

    other = write_hugging_face_preset(tmp_path / "hf")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(PresetError, match=r"model\.safetensors is damaged"):
        resolve_preset(str(other))


def test_weights_that_only_loading_finds_wrong(folder: Path) -> None:
    with h5py.File(folder / "model.weights.h5", "a") as weights:
        del weights["layers/dense/vars/0"]
        weights["layers/dense/vars/0"] = np.zeros((8, 9), "float32")
    preset = resolve_preset(str(folder))
    with pytest.raises(PresetError, match=r"model\.weights\.h5 cannot be loaded"):
        load_backbone(preset)


@pytest.mark.parametrize("token", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
def test_a_vocabulary_without_a_special_token(folder: Path, token: str) -> None:
    words = [word for word in WORDS if word != token]
    vocabulary = folder / "assets" / "tokenizer" / "vocabulary.txt"
    vocabulary.write_text("\n".join(words))
    with pytest.raises(PresetError, match=rf"lacks \{token}"):
        resolve_preset(str(folder))


def test_another_tokenizer_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["class_name"] = "XLMRobertaTokenizer"
    write_json(folder / "tokenizer.json", content)
    with pytest.raises(PresetError, match="Received: 'XLMRobertaTokenizer'"):
        resolve_preset(str(folder))


def test_nothing_in_a_config_is_deserialized(folder: Path) -> None:
    """What keras-hub would import and call is not even looked at."""
    file = folder / "config.json"
    content = json.loads(file.read_text())
    content["module"], content["registered_name"] = "builtins", "no>Such"
    content["config"]["dtype"] = {"module": "builtins", "class_name": "exec"}
    write_json(file, content)
    assert load_backbone(resolve_preset(str(folder))).num_layers == SIZES["num_layers"]


# === the embedded one ===


def test_the_sample_preset_has_random_weights() -> None:
    preset = resolve_preset("sample")
    assert not preset.has_weights
    keras.utils.set_random_seed(3)
    first = load_backbone(preset)
    keras.utils.set_random_seed(3)
    second = load_backbone(preset)
    np.testing.assert_array_equal(outputs(first), outputs(second))
    assert first.vocabulary_size >= len(preset.vocabulary)


def test_a_folder_like_the_sample_needs_weights(tmp_path: Path) -> None:
    copied = shutil.copytree(resolve_preset("sample").folder, tmp_path / "mine")
    with pytest.raises(PresetError, match="has no weights: neither model"):
        resolve_preset(str(copied))
