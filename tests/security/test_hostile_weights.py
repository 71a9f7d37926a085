"""Weights and vocabularies that ask for memory, name other files, or are none."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.security.conftest import Case
from tests.security.folders import set_json

_TENSOR = "layers/dense/vars/0"  # of the pooler: [8, 8]
_GROUP = "layers/dense"


def _replace(**options: Any) -> Callable[[h5py.File, Path], None]:
    """A dataset of other options in place of a good one."""

    def damage(weights: h5py.File, outside: Path) -> None:
        del weights[_TENSOR]
        weights.create_dataset(_TENSOR, **options)

    return damage


def _link(name: str, link: Callable[[Path], Any]) -> Callable[[h5py.File, Path], None]:
    def damage(weights: h5py.File, outside: Path) -> None:
        with h5py.File(outside / "other.h5", "w") as other:
            weights.copy(name, other, name=name)
        del weights[name]
        weights[name] = link(outside)

    return damage


def _external_data(weights: h5py.File, outside: Path) -> None:
    (outside / "data.bin").write_bytes(bytes(256))
    del weights[_TENSOR]
    external = [(str(outside / "data.bin"), 0, 256)]
    weights.create_dataset(_TENSOR, (8, 8), "float32", external=external)


def _virtual_data(weights: h5py.File, outside: Path) -> None:
    with h5py.File(outside / "other.h5", "w") as other:
        other["x"] = np.zeros((8, 8), "float32")
    layout = h5py.VirtualLayout((8, 8), "float32")
    layout[:] = h5py.VirtualSource(str(outside / "other.h5"), "x", (8, 8))
    del weights[_TENSOR]
    weights.create_virtual_dataset(_TENSOR, layout)


def _cycle(weights: h5py.File, outside: Path) -> None:
    weights["layers/again"] = weights["layers"]


def _many_groups(weights: h5py.File, outside: Path) -> None:
    group = weights.create_group("many")
    group.attrs["note"] = "x" * 1000
    for number in range(300):
        group.create_group(f"g{number}")


def _references(weights: h5py.File, outside: Path) -> None:
    del weights[_TENSOR]
    data = weights.create_dataset(_TENSOR, (8, 8), h5py.ref_dtype)
    data[0, 0] = weights["layers"].ref


_TABLE = np.dtype([("a", "float32"), ("b", "float32")])
H5: dict[str, tuple[Callable[[h5py.File, Path], None], str | None]] = {
    "external link to a tensor": (
        _link(_TENSOR, lambda out: h5py.ExternalLink(str(out / "other.h5"), _TENSOR)),
        "a link to elsewhere",
    ),
    "external link to a group": (
        _link(_GROUP, lambda out: h5py.ExternalLink(str(out / "other.h5"), _GROUP)),
        "a link to elsewhere",
    ),
    "external link to all layers": (
        _link("layers", lambda out: h5py.ExternalLink("/dev/zero", "layers")),
        "a link to elsewhere",
    ),
    "soft link": (
        _link(_TENSOR, lambda out: h5py.SoftLink("/layers/embedding/vars/0")),
        "a link to elsewhere",
    ),
    "soft link to nothing": (
        _link(_TENSOR, lambda out: h5py.SoftLink("/nowhere")),
        "a link to elsewhere",
    ),
    "data of another file": (_external_data, "data of other files"),
    "virtual data": (_virtual_data, "data of other files"),
    "a gigabyte of zeros, compressed": (
        _replace(
            shape=(2**14, 2**14), dtype="float32", chunks=(2**10, 2**10),
            compression="gzip",
        ),
        "compressed data",
    ),
    "lzf": (_replace(data=np.zeros((8, 8), "f4"), compression="lzf"), "compressed"),
    "a terabyte that is not there": (
        _replace(shape=(2**19, 2**19), dtype="float32", chunks=(64, 64)),
        "bytes of",
    ),
    "a terabyte in one piece": (
        _replace(shape=(2**19, 2**19), dtype="float32"), "bytes of",
    ),
    "texts": (_replace(data=np.full((8, 8), b"x" * 9)), "data of type"),
    "texts of any length": (
        _replace(shape=(8, 8), dtype=h5py.string_dtype()), "data of type",
    ),
    "a table": (_replace(data=np.zeros((8, 8), _TABLE)), "data of type"),
    "references": (_references, "data of type"),
    "complex numbers": (_replace(data=np.zeros((8, 8), "c16")), "data of type"),
    "true and false": (_replace(data=np.zeros((8, 8), bool)), "data of type"),
    "no shape": (_replace(data=h5py.Empty("f4")), "without a shape"),
    "one number": (_replace(data=np.float32(1)), "cannot be loaded"),
    "another shape": (_replace(data=np.zeros((9, 8), "f4")), "cannot be loaded"),
    "no rows": (_replace(data=np.zeros((0, 8), "f4")), "cannot be loaded"),
    "a group in place of a tensor": (
        lambda weights, outside: (
            weights.__delitem__(_TENSOR), weights.create_group(_TENSOR)
        ) and None,
        "cannot be loaded",
    ),
    "a group that holds itself": (_cycle, "there twice"),
    "no tensor at all": (
        lambda weights, outside: weights.__delitem__("layers"), "numbers in",
    ),
    "many more groups": (_many_groups, None),
    "not a number": (_replace(data=np.full((8, 8), np.nan, "f4")), None),
    "whole numbers": (_replace(data=np.ones((8, 8), "int64")), None),
}  # fmt: skip


@pytest.mark.parametrize("name", H5)
def test_hdf5(case: Callable[[str], Case], name: str) -> None:
    made = case("keras_hub")
    damage, expected = H5[name]
    with h5py.File(made.folder / "model.weights.h5", "a") as weights:
        damage(weights, made.outside)
    if expected is None:
        assert made.outcome() is None
        return
    assert expected in made.refused()


# In a head's file, what Keras's own loader refuses needs no second look.
H5_OF_A_HEAD = [
    name
    for name, (_, message) in H5.items()
    if message not in (None, "cannot be loaded", "numbers in")
]


@pytest.mark.parametrize("name", H5_OF_A_HEAD)
def test_hdf5_of_a_head(case: Callable[[str], Case], name: str) -> None:
    """The same in the file of a run's head, where it is read."""
    made = case("run")
    damage, expected = H5[name]
    with h5py.File(made.folder / "model" / "task.weights.h5", "a") as weights:
        damage(weights, made.outside)
    message = made.refused()
    assert str(expected) in message
    assert "task.weights.h5" in message


def _container(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _tensors(**tensors: dict[str, Any]) -> bytes:
    return _container(json.dumps(tensors).encode(), bytes(64))


def _tensor(shape: Any, offsets: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS: dict[str, bytes] = {
    "a header of 2**63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header longer than the file": struct.pack("<Q", 10**6) + b"{}",
    "a header of 0 bytes": struct.pack("<Q", 0),
    "a header that is no JSON": _container(b"pickle"),
    "a header of lists": _container(b"[" * 100_000),
    "a header of objects": _container(b'{"a":' * 50_000),
    "no tensors": _container(b"{}"),
    "a shape of a terabyte": _tensors(x=_tensor([2**20, 2**18], [0, 64])),
    "a shape beyond 64 bits": _tensors(x=_tensor([2**63, 2**63], [0, 64])),
    "a negative shape": _tensors(x=_tensor([-4, -4], [0, 64])),
    "a shape of texts": _tensors(x=_tensor(["4", "4"], [0, 64])),
    "offsets that run back": _tensors(x=_tensor([4, 4], [64, 0])),
    "offsets beyond the end": _tensors(x=_tensor([4, 4], [64, 128])),
    "tensors on top of each other": _tensors(
        x=_tensor([4, 4], [0, 64]), y=_tensor([4, 4], [0, 64])
    ),
    "bytes that belong to none": _tensors(x=_tensor([2, 2], [0, 16])),
    "an unknown type": _tensors(x=_tensor([4, 4], [0, 64], "F31")),
    "a name of another file": _tensors(**{"../x": _tensor([4, 4], [0, 64])}),
    "a name that is no text": _container(b'{1: {"dtype": "F32"}}', bytes(64)),
    "only half the weights": b"",  # made of the good ones
}


@pytest.mark.parametrize("name", SAFETENSORS)
@pytest.mark.parametrize("sharded", [False, True], ids=["", "sharded"])
def test_safetensors(case: Callable[[str], Case], name: str, sharded: bool) -> None:
    made = case("hugging_face")
    file = made.folder / "model.safetensors"
    if not SAFETENSORS[name]:
        stored = load_file(file)
        save_file({key: stored[key] for key in list(stored)[:9]}, file)
    else:
        file.write_bytes(SAFETENSORS[name])
    if sharded:
        file.rename(made.folder / "model-1.safetensors")
        index = {"weight_map": {"x": "model-1.safetensors"}}
        (made.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    message = made.refused()
    assert "safetensors" in message or "hugging_face" in message


@pytest.mark.parametrize("dtype", ["BOOL", "U8", "I64", "F64", "F16", "BF16",
                                   "F8_E4M3", "F8_E5M2", "C64", "F4"])  # fmt: skip
def test_safetensors_of_other_types(case: Callable[[str], Case], dtype: str) -> None:
    """Each is converted or refused."""
    made = case("hugging_face")
    file = made.folder / "model.safetensors"
    sizes = {"BOOL": 1, "U8": 1, "F16": 2, "BF16": 2, "I64": 8, "F64": 8, "C64": 8,
             "F4": 0.5}  # fmt: skip
    tensors, end = {}, 0
    for name, value in load_file(file).items():
        start, end = end, end + int(value.size * sizes.get(dtype, 1))
        tensors[name] = _tensor(value.shape, [start, end], dtype)
    file.write_bytes(_container(json.dumps(tensors).encode(), bytes(end)))
    error = made.outcome()
    assert error is None or "model.safetensors" in str(error)


_INDICES: list[Any] = [
    {"weight_map": {"x": "../outside/model.safetensors"}},
    {"weight_map": {"x": "/etc/passwd"}},
    {"weight_map": {"x": "sub/model.safetensors"}},
    {"weight_map": {"x": ".."}},
    {"weight_map": {"x": ""}},
    {"weight_map": {"x": "a\0b"}},
    {"weight_map": {"x": 5}},
    {"weight_map": {"x": [["y"]]}},
    {"weight_map": {"x": "absent.safetensors"}},
    {"weight_map": ["model.safetensors"]},
    {"weight_map": {}},
    {},
]
INDEX_CASES = [
    (kind, index, number)
    for kind, index in (
        ("keras_hub", "model.weights.json"),
        ("hugging_face", "model.safetensors.index.json"),
    )
    for number in range(len(_INDICES))
]


@pytest.mark.parametrize(("kind", "name", "number"), INDEX_CASES)
def test_an_index(
    case: Callable[[str], Case], kind: str, name: str, number: int
) -> None:
    made = case(kind)
    single = {"keras_hub": "model.weights.h5", "hugging_face": "model.safetensors"}
    (made.folder / single[kind]).rename(made.outside / single[kind])
    (made.folder / name).write_text(json.dumps(_INDICES[number]))
    assert name in made.refused()


def test_the_first_of_several_files_is_checked_too(case: Callable[[str], Case]) -> None:
    """keras-hub's loader opens it whether or not the index names it."""
    made = case("keras_hub")
    weights = made.folder / "model.weights.h5"
    weights.rename(made.folder / "mine.weights.h5")
    index = {"weight_map": {"/layers/dense/vars": "mine.weights.h5"}}
    (made.folder / "model.weights.json").write_text(json.dumps(index))
    (made.folder / "model_00000.weights.h5").symlink_to(made.outside / "x.h5")
    assert "model_00000.weights.h5" in made.refused()


_SPECIAL = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
VOCABULARIES: dict[str, bytes] = {
    "three million lines": _SPECIAL + b"\n" * 3_000_000,
    "three million tokens": _SPECIAL + b"".join(b"%d\n" % n for n in range(3 * 10**6)),
    "a token of 20 MB": _SPECIAL + b"x" * 20_000_000,
    "no special token": b"a\nb\n",
    "every token a million times": _SPECIAL + b"a\nb\n" * 900_000,
    "NULs": bytes(10_000),
    "UTF-16": "[PAD]\n[UNK]\n".encode("utf-16"),
    "half a character": _SPECIAL + b"\xed\xa0\x80\n",
    "one line": _SPECIAL.replace(b"\n", b" "),
    "old line ends": _SPECIAL.replace(b"\n", b"\r"),
    "more tokens than embeddings": _SPECIAL + b"".join(b"%d\n" % n for n in range(99)),
}


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("keras_hub", "assets/tokenizer/vocabulary.txt"),
        ("hugging_face", "vocab.txt"),
    ],
)
def test_a_vocabulary(
    case: Callable[[str], Case], kind: str, file: str, name: str
) -> None:
    made = case(kind)
    (made.folder / file).write_bytes(VOCABULARIES[name])
    if name == "a token of 20 MB":  # it has an id, and meets no word
        assert made.outcome() is None
        return
    message = made.refused()
    assert Path(file).name in message
    assert len(message) < 2000


_IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
TOKENIZERS: dict[str, Any] = {
    "half a character": {**_IDS, "\ud800": 5},
    "an id left out": {**_IDS, "a": 6},
    "an id twice": {**_IDS, "a": 4},
    "an id of 10**12": {**_IDS, "a": 10**12},
    "a negative id": {**_IDS, "a": -1},
    "ids that are no numbers": {**_IDS, "a": "5"},
    "a list": list(_IDS),
    "nothing": None,
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_json(case: Callable[[str], Case], name: str) -> None:
    made = case("hugging_face")
    (made.folder / "vocab.txt").unlink()
    content = {"model": {"type": "WordPiece", "vocab": TOKENIZERS[name]}}
    (made.folder / "tokenizer.json").write_text(json.dumps(content))
    assert "tokenizer.json" in made.refused()


def test_a_pickle_is_not_read(case: Callable[[str], Case]) -> None:
    made = case("hugging_face")
    (made.folder / "model.safetensors").unlink()
    code = f"import_=__import__('{'kbert_canary'}')"
    pickle = b"cbuiltins\nexec\n(S'" + code.encode() + b"'\ntR."
    (made.folder / "pytorch_model.bin").write_bytes(pickle)
    assert "pytorch_model.bin is not read" in made.refused()


def test_a_model_for_which_there_are_no_weights(case: Callable[[str], Case]) -> None:
    """Nine billion parameters, which would be made before they are missed."""
    made = case("keras_hub")
    set_json(made.folder / "config.json", "config.intermediate_dim", 10**8)
    with h5py.File(made.folder / "model.weights.h5", "a") as weights:
        weights.move("layers", "floors")  # so that no shape is compared
    assert "numbers in" in made.refused()


NUM_CASES = (
    len(H5)
    + len(H5_OF_A_HEAD)
    + 2 * len(SAFETENSORS)
    + len(INDEX_CASES)
    + 2 * len(VOCABULARIES)
    + len(TOKENIZERS)
)
