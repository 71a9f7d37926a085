"""Named presets: cached ones without a network, the others with a clear answer."""

import shutil
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import pytest

from kbert import preset_cache
from kbert.errors import PresetError
from kbert.preset_files import read_architecture
from kbert.presets import PresetInfo, list_presets, load_backbone, resolve_preset
from tests.preset_folders import (
    seed_hugging_face_cache,
    seed_kaggle_cache,
    write_hugging_face_preset,
    write_keras_hub_preset,
)

NAME = "bert_tiny_en_uncased"
HANDLE = keras_hub.models.BertBackbone.presets[NAME]["kaggle_handle"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keras_hub_preset(tmp_path_factory.mktemp("presets") / "tiny")


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Makes every attempt to reach something fail, and records it."""
    attempts: list[Any] = []

    def refuse(*address: Any, **_: Any) -> None:
        attempts.append(address)
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return attempts


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host answers the question whether it is there."""

    def answer(request: urllib.request.Request, **_: Any) -> None:
        raise urllib.error.HTTPError(request.full_url, 405, "no HEAD", {}, None)

    monkeypatch.setattr(urllib.request, "urlopen", answer)


# === keras-hub's names ===


@pytest.mark.parametrize(
    "name", [NAME, "bert_base_zh", "bert_tiny_en_uncased_sst2", "bge_small_v1.5_en"]
)
def test_a_cached_name_needs_no_network(
    tiny: Path, no_network: list[Any], name: str
) -> None:
    handle = keras_hub.models.BertBackbone.presets[name]["kaggle_handle"]
    folder = seed_kaggle_cache(tiny, handle)
    preset = resolve_preset(name)
    assert (preset.name, preset.folder) == (name, folder)
    backbone = load_backbone(preset)
    expected = keras_hub.models.BertBackbone.from_preset(str(tiny))
    np.testing.assert_array_equal(
        backbone.token_embedding.embeddings, expected.token_embedding.embeddings
    )
    assert not no_network


def without_weights(folder: Path) -> None:
    (folder / "model.weights.h5").unlink()


def without_vocabulary(folder: Path) -> None:
    shutil.rmtree(folder / "assets")


def unfinished(folder: Path) -> None:
    marks = folder.parent / ".complete" / folder.name
    (marks / "model.weights.h5.complete").unlink()


@pytest.mark.parametrize("damage", [without_weights, without_vocabulary, unfinished])
def test_a_part_of_a_preset_is_not_a_cached_preset(
    tiny: Path, no_network: list[Any], damage: Callable[[Path], None]
) -> None:
    folder = seed_kaggle_cache(tiny, HANDLE)
    assert preset_cache.find_cached(HANDLE) == folder
    damage(folder)
    assert preset_cache.find_cached(HANDLE) is None
    with pytest.raises(PresetError, match="is not on this machine"):
        resolve_preset(NAME)
    assert no_network


def test_a_preset_downloaded_as_a_whole(tiny: Path, no_network: list[Any]) -> None:
    folder = seed_kaggle_cache(tiny, HANDLE)
    shutil.rmtree(folder.parent / ".complete")
    assert preset_cache.find_cached(HANDLE) is None
    (folder.parent / f"{folder.name}.complete").touch()
    assert resolve_preset(NAME).folder == folder
    assert not no_network


def test_no_cache_and_no_network(own_caches: Path, no_network: list[Any]) -> None:
    with pytest.raises(PresetError) as raised:
        resolve_preset(NAME)
    text = str(raised.value)
    assert f"The preset {NAME} is not on this machine" in text
    assert str(own_caches / "kagglehub") in text
    assert "kaggle.com" in text
    assert "network is unreachable" in text
    assert "Run once with a network" in text
    assert "KAGGLEHUB_CACHE" in text


def test_a_host_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        released.wait()
        raise OSError("too late")

    monkeypatch.setattr(preset_cache, "REACH_SECONDS", -0.9)  # waits a second more
    monkeypatch.setattr(urllib.request, "urlopen", hang)
    with pytest.raises(PresetError, match="no answer within"):
        resolve_preset(NAME)
    released.set()


@pytest.mark.usefixtures("network")
def test_a_download_is_kept(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(path: str, file: str) -> str:
        asked.append((path, file))
        return str(seed_kaggle_cache(tiny, path) / file)

    monkeypatch.setattr("kagglehub.model_download", download)
    folder = resolve_preset(NAME).folder
    path = HANDLE.removeprefix("kaggle://")
    assert asked == [
        (path, "config.json"),
        (path, "tokenizer.json"),
        (path, "assets/tokenizer/vocabulary.txt"),
        (path, "model.weights.h5"),
    ]
    assert (folder / "config.json").is_file()
    assert resolve_preset(NAME).folder == folder
    assert len(asked) == 4


@pytest.mark.usefixtures("network")
def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(path: str, file: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kagglehub.model_download", download)
    with pytest.raises(PresetError, match="No space left on device"):
        resolve_preset(NAME)


def test_unknown_names(no_network: list[Any]) -> None:
    with pytest.raises(PresetError, match="Nearest: bert_base_en, ") as raised:
        resolve_preset("bert_base_e")
    assert "`kbert presets`" in str(raised.value)
    with pytest.raises(PresetError, match="There is no preset 'qqqqqqqq'"):
        resolve_preset("qqqqqqqq")
    with pytest.raises(PresetError, match=r"There is no folder \.?/?none/bert"):
        resolve_preset("./none/bert_base_en")
    with pytest.raises(PresetError, match="SentencePiece"):
        resolve_preset("multilingual_e5_small")
    assert not no_network


def test_a_folder_with_a_model_goes_before_a_name(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    cached = seed_kaggle_cache(tiny, HANDLE)
    (tmp_path / NAME).mkdir()
    assert resolve_preset(NAME).folder == cached  # an empty folder is no preset
    shutil.copytree(tiny, tmp_path / NAME, dirs_exist_ok=True)
    assert resolve_preset(NAME).folder == Path(NAME)
    # `sample` is always kbert's own.
    shutil.copytree(tiny, tmp_path / "sample")
    assert resolve_preset("sample").folder.is_absolute()


def test_a_folder_without_a_model_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="holds no model"):
        resolve_preset(str(tmp_path))
    (tmp_path / "model.h5").touch()
    with pytest.raises(PresetError, match="is a file; a preset is a folder"):
        resolve_preset(str(tmp_path / "model.h5"))


# === hf:// ===


def test_a_cached_repository_needs_no_network(
    tmp_path: Path, no_network: list[Any]
) -> None:
    source = write_hugging_face_preset(tmp_path / "source")
    folder = seed_hugging_face_cache(source, tmp_path / "hub", "someone/bert")
    assert resolve_preset("hf://someone/bert").folder == folder
    assert not no_network
    (folder / "model.safetensors").unlink()
    with pytest.raises(PresetError, match="hf://someone/bert is not on this machine"):
        resolve_preset("hf://someone/bert")


@pytest.mark.usefixtures("network")
def test_a_repository_is_downloaded_without_what_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_hugging_face_preset(tmp_path / "source")
    asked = []

    def download(
        repository: str, *, allow_patterns: list[str], local_files_only: bool = False
    ) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        asked.append((repository, allow_patterns))
        return str(source)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_preset("hf://someone/bert").folder == source
    [(repository, patterns)] = asked
    assert repository == "someone/bert"
    assert {"config.json", "model.safetensors", "vocab.txt"} <= set(patterns)
    assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in patterns)


def test_huggingface_hub_may_be_told_to_stay_offline(
    monkeypatch: pytest.MonkeyPatch, no_network: list[Any]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PresetError, match="HF_HUB_OFFLINE forbids"):
        resolve_preset("hf://someone/bert")
    assert not no_network


def test_a_misspelt_repository() -> None:
    with pytest.raises(PresetError, match="named hf://USER/REPO"):
        resolve_preset("hf://a b")


# === the list ===


def listed() -> dict[str, PresetInfo]:
    return {info.name: info for info in list_presets()}


def test_the_list(tiny: Path, no_network: list[Any]) -> None:
    seed_kaggle_cache(tiny, HANDLE)
    infos = listed()
    assert infos.keys() == {"sample", *keras_hub.models.BertBackbone.presets}
    here = {name for name, info in infos.items() if info.on_this_machine}
    assert here == {"sample", NAME}
    assert infos["bert_base_en"].parameters == 108_310_272
    assert not no_network


@pytest.mark.parametrize(
    ("name", "language", "cased"),
    [
        ("bert_base_en", "en", True),
        ("bert_base_en_uncased", "en", False),
        ("bert_base_zh", "zh", True),
        ("bert_base_multi", "multi", True),
        ("all_minilm_l6_v2_en", "en", False),
        ("multi_qa_minilm_l6_cos_v1_en", "en", False),
        ("multilingual_e5_small", "multi", True),
        ("bge_llm_embedder", "en", False),
        ("bge_small_v1.5_zh", "zh", False),
    ],
)
def test_language_and_case(name: str, language: str, cased: bool) -> None:
    assert (listed()[name].language, listed()[name].cased) == (language, cased)


def test_parameters_are_counted_as_keras_counts_them(
    tiny: Path, shared_dir: Path
) -> None:
    backbone = keras_hub.models.BertBackbone.from_preset(str(tiny))
    trainable = sum(int(np.prod(v.shape)) for v in backbone.trainable_variables)
    assert read_architecture(tiny)[1].num_parameters == trainable
    real = shared_dir / "data" / "presets" / "all_minilm_l6_v2_en"
    published = keras_hub.models.BertBackbone.presets["all_minilm_l6_v2_en"]
    assert read_architecture(real)[1].num_parameters == published["metadata"]["params"]
