"""Whatever stands in a file: only kbert's own errors come out, if any.

`KBERT_FUZZ=20 pytest tests/security/test_fuzzing.py` tries twenty times as many.
"""

import copy
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbert.config import ExportConfig, FinetuneConfig, config_to_toml, load_config
from kbert.data.corpus import open_corpus
from kbert.data.prepared_files import read_manifest, read_shards
from kbert.data.sources import Columns, open_source, read_plain_texts
from kbert.errors import UserError
from kbert.presets import resolve_preset
from kbert.pretrain_settings import PretrainConfig, VocabConfig
from kbert.runs import open_run
from kbert.tasks import MaskedLM, is_pretrained, task_from_dict
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import SPECIAL_TOKENS, read_vocabulary
from kbert.workflows.run_encoding import read_encoding
from tests.security.folders import LABELS

_TIMES = int(os.environ.get("KBERT_FUZZ", "1"))


def _fuzzed(num_examples: int) -> settings:
    return settings(
        max_examples=num_examples * _TIMES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=_TIMES == 1,
        database=None,
    )


CONFIGS = (FinetuneConfig, PretrainConfig, ExportConfig, VocabConfig)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**30, -1, 0, "", "\ud800", "a" * 300, "[PAD]", "sample"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    ),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """A JSON value in which a few values are others, or are missing."""
    value = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = None, None
        inner = value
        while isinstance(inner, dict | list) and inner and draw(st.integers(0, 3)):
            holder = inner
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            key = draw(st.sampled_from(keys))
            inner = inner[key]
        if holder is None:
            return draw(VALUES)
        if draw(st.booleans()):
            holder[key] = draw(VALUES)
        else:
            del holder[key]
    return value


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes of a good file, in which a few are others, gone or doubled."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        content[start:end] = draw(
            st.binary(max_size=40)
            | st.just(bytes(content[start:end]) * 2)
            | st.sampled_from(
                [b"", b"\0", b'"', b"\n", b"\xff", b"\xed\xa0\x80", b"\r"]
            )
        )
    return bytes(content)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


def only_own_errors(call: Callable[[], object]) -> None:
    try:
        call()
    except UserError as error:
        assert str(error)


# === configs ===


@_fuzzed(30)
@given(content=st.binary(max_size=200) | TEXTS.map(str.encode))
def test_bytes_as_a_config(place: Path, content: bytes) -> None:
    file = place / "config.toml"
    file.write_bytes(content)
    for config_class in CONFIGS:
        only_own_errors(lambda c=config_class: load_config(c, file=file))


_TOML = st.recursive(
    st.booleans() | st.integers() | st.floats() | TEXTS | st.dates() | st.times(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def tomls(draw: st.DrawFn) -> dict[str, Any]:
    config_class = draw(st.sampled_from(CONFIGS))
    names = {
        section: list(type(value).model_fields) for section, value in config_class()
    }
    sections = st.sampled_from([*names]) | TEXTS
    found: dict[str, Any] = {}
    for section in draw(st.lists(sections, max_size=3)):
        keys = st.sampled_from(names.get(section, ["x"])) | TEXTS
        found[section] = draw(st.dictionaries(keys, _TOML, max_size=4) | _TOML)
    return found


@_fuzzed(40)
@given(values=tomls())
def test_values_as_a_config(place: Path, values: dict[str, Any]) -> None:
    file = place / "config.toml"
    file.write_text(tomli_w.dumps(values), "utf-8")
    for config_class in CONFIGS:
        only_own_errors(lambda c=config_class: load_config(c, file=file))


@_fuzzed(30)
@given(content=damaged(config_to_toml(PretrainConfig(), comments=True).encode()))
def test_a_damaged_config(place: Path, content: bytes) -> None:
    file = place / "config.toml"
    file.write_bytes(content)
    only_own_errors(lambda: load_config(PretrainConfig, file=file))


_KEYS = st.sampled_from(
    ["train.epochs", "data.limit", "data.text", "train.class_weights", "model.preset",
     "train.learning_rate", "data.sources", "model.num_layers", "train.max_steps"]
) | st.text(max_size=12)  # fmt: skip


@_fuzzed(40)
@given(pairs=st.lists(st.tuples(_KEYS, st.text(max_size=30)), max_size=3))
def test_assignments(pairs: list[tuple[str, str]]) -> None:
    assignments = [f"{key}={value}" for key, value in pairs]
    for config_class in CONFIGS:
        only_own_errors(lambda c=config_class: load_config(c, assignments=assignments))


# === data ===

_CSV = 'text,label\n"a, ""good"" film",pos\nbad,neg\n"two\nlines",pos\n'
GOOD = {
    ".csv": _CSV.encode(),
    ".tsv": b"text\tlabel\na good film\tpos\nbad\tneg\n",
    ".jsonl": b'{"text": "a good film", "label": 1}\n{"text": "bad", "label": 0.0}\n',
    ".txt": "One sentence. Another。\n\nA second document.\n".encode(),
}


def _read_any(file: Path) -> None:
    """Reads a file in every way in which a command may."""
    for columns in (Columns(), Columns("text", None, "label")):
        for labelled in (True, False):
            source = open_source(str(file), columns=columns, labelled=labelled)
            for chunk in source.chunks(2):
                assert len(chunk.texts) == len(chunk)


def _read_corpus(file: Path) -> None:
    for part in open_corpus([str(file)]).files:
        assert all(piece.text for piece in part.pieces())


@pytest.mark.parametrize("ending", GOOD)
@_fuzzed(25)
@given(data=st.data())
def test_damaged_tables_and_texts(
    place: Path, ending: str, data: st.DataObject
) -> None:
    content = data.draw(damaged(GOOD[ending]) | st.binary(max_size=100))
    file = place / f"data{ending}"
    file.write_bytes(content)
    packed = place / f"packed{ending}.gz"
    packed.write_bytes(data.draw(damaged(gzip.compress(content))))
    for path in (file, packed):
        if ending != ".txt":
            only_own_errors(lambda p=path: _read_any(p))
        only_own_errors(lambda p=path: _read_corpus(p))
        only_own_errors(lambda p=path: list(read_plain_texts(p)))


@_fuzzed(30)
@given(rows=st.lists(changed({"text": "a", "label": 1, "text_pair": "b"}), max_size=4))
def test_objects_as_json_lines(place: Path, rows: list[Any]) -> None:
    file = place / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    only_own_errors(lambda: _read_any(file))
    only_own_errors(lambda: _read_corpus(file))


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    rows = {"text": ["a good film", "bad"] * 20, "label": ["pos", "neg"] * 20}
    pq.write_table(pa.table(rows), sink)
    return sink.getvalue().to_pybytes()


@_fuzzed(30)
@given(content=damaged(_parquet()))
def test_a_damaged_parquet_file(place: Path, content: bytes) -> None:
    file = place / "data.parquet"
    file.write_bytes(content)
    only_own_errors(lambda: _read_any(file))


_COLUMNS = st.sampled_from(
    [pa.string(), pa.binary(), pa.large_string(), pa.int64(), pa.float32(), pa.bool_(),
     pa.null(), pa.date32(), pa.timestamp("us"), pa.time64("ns"), pa.duration("s"),
     pa.decimal128(10, 2), pa.list_(pa.string()), pa.struct([("a", pa.int8())]),
     pa.dictionary(pa.int32(), pa.string()), pa.map_(pa.string(), pa.int32())]
)  # fmt: skip


@_fuzzed(20)
@given(kinds=st.tuples(_COLUMNS, _COLUMNS), num_rows=st.integers(0, 3))
def test_parquet_of_any_types(
    place: Path, kinds: tuple[Any, Any], num_rows: int
) -> None:
    schema = pa.schema(zip(("text", "label"), kinds, strict=True))
    columns = [pa.nulls(num_rows, kind) for kind in kinds]
    file = place / "typed.parquet"
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), file)
    only_own_errors(lambda: _read_any(file))


# === presets, runs and prepared folders ===

_WORDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=20)


@_fuzzed(20)
@given(words=_WORDS, content=st.binary(max_size=60))
def test_vocabularies(place: Path, words: list[str], content: bytes) -> None:
    file = place / "vocab.txt"
    file.write_bytes("\n".join([*SPECIAL_TOKENS, *words]).encode() + content)

    def use() -> None:
        vocabulary = read_vocabulary(file)
        tokenizer = WordPieceTokenizer(vocabulary, lowercase=True, strip_accents=True)
        tokenizer.tokenize(["a b", *vocabulary])

    only_own_errors(use)


@pytest.fixture(scope="module")
def folders(good: Path, place: Path) -> dict[str, Path]:
    return {
        kind.name: Path(shutil.copytree(kind, place / kind.name))
        for kind in good.iterdir()
    }


PRESET_FILES = [
    ("keras_hub", "config.json"),
    ("keras_hub", "tokenizer.json"),
    ("hugging_face", "config.json"),
    ("hugging_face", "tokenizer_config.json"),
]


@pytest.mark.parametrize(("kind", "name"), PRESET_FILES)
@_fuzzed(25)
@given(data=st.data())
def test_json_of_presets(
    folders: dict[str, Path], kind: str, name: str, data: st.DataObject
) -> None:
    file = folders[kind] / name
    good = file.read_bytes()
    try:
        value = data.draw(changed(json.loads(good)))
        file.write_text(json.dumps(value), "utf-8")
        only_own_errors(lambda: resolve_preset(str(folders[kind])))
        file.write_bytes(data.draw(damaged(good)))
        only_own_errors(lambda: resolve_preset(str(folders[kind])))
    finally:
        file.write_bytes(good)


@_fuzzed(30)
@given(value=changed({"model": {"type": "WordPiece", "vocab": {
    token: number for number, token in enumerate([*SPECIAL_TOKENS, "a", "##b"])
}}, "normalizer": {"lowercase": True}}))  # fmt: skip
def test_a_tokenizer_json(folders: dict[str, Path], value: Any) -> None:
    folder = folders["hugging_face"]
    vocabulary = (folder / "vocab.txt").read_bytes()
    (folder / "tokenizer.json").write_text(json.dumps(value), "utf-8")
    (folder / "vocab.txt").unlink()
    try:
        only_own_errors(lambda: resolve_preset(str(folder)))
    finally:
        (folder / "vocab.txt").write_bytes(vocabulary)
        (folder / "tokenizer.json").unlink()


WEIGHTS = [
    ("keras_hub", "model.weights.h5"),
    ("hugging_face", "model.safetensors"),
]


@pytest.mark.parametrize(("kind", "name"), WEIGHTS)
@_fuzzed(20)
@given(data=st.data())
def test_damaged_weights(
    folders: dict[str, Path], kind: str, name: str, data: st.DataObject
) -> None:
    file = folders[kind] / name
    good = file.read_bytes()
    try:
        file.write_bytes(data.draw(damaged(good)))
        only_own_errors(lambda: resolve_preset(str(folders[kind])))
    finally:
        file.write_bytes(good)


_TASK = {
    "task": "text_classification", "labels": list(LABELS), "is_paired": False,
    "columns": {"text": "text", "text_pair": None, "label": "label"},
    "max_length": 16, "truncation": "head", "lowercase": True, "strip_accents": True,
}  # fmt: skip


@_fuzzed(50)
@given(
    value=changed(_TASK) | changed(MaskedLM(16, True, True, True, 0.15, True).to_dict())
)
def test_task_json(folders: dict[str, Path], value: Any) -> None:
    file = folders["run"] / "task.json"
    good = file.read_bytes()
    file.write_text(json.dumps(value), "utf-8")

    def use() -> None:
        values = open_run(folders["run"]).read_task()
        if is_pretrained(values):
            MaskedLM.from_dict(values, str(file))
            return
        try:
            task_from_dict(values, str(file)).to_dict()
            read_encoding(values, str(file))
        except KeyError:
            pass  # Predictor names what is missing

    try:
        only_own_errors(use)
        only_own_errors(lambda: resolve_preset(str(folders["run"])))
    finally:
        file.write_bytes(good)


_INFO = {
    "status": "finished",
    "data": {
        "train": {"name": "a", "source": {"fingerprint": "f"}},
        "files": [{"fingerprint": 1}],
    },
}


@_fuzzed(30)
@given(value=changed(_INFO))
def test_kbert_json(folders: dict[str, Path], value: Any) -> None:
    file = folders["run"] / "kbert.json"
    file.write_text(json.dumps(value), "utf-8")
    only_own_errors(lambda: open_run(folders["run"]).read_info())


_MANIFEST = {
    "format": 1,
    "complete": True,
    "num_shards": 1,
    "settings": {
        "lengths": {"16": {"next_sentence": True, "short_rate": 0.1}},
        "vocabulary_sha256": "x",
        "lowercase": True,
        "strip_accents": True,
        "choices": {"document": "line"},
        "files": [{"name": "a.txt", "num_bytes": 5, "fingerprint": "f"}],
    },
}
_SHARD = {
    "file": "length-16/000000.tfrecord",
    "num_examples": 1,
    "num_tokens": 1,
    "num_bytes": 1,
}


@_fuzzed(30)
@given(
    manifest=changed(_MANIFEST),
    shards=st.lists(changed(_SHARD), max_size=3),
    rest=st.binary(max_size=20),
)
def test_prepared_folders(
    place: Path, manifest: Any, shards: list[Any], rest: bytes
) -> None:
    (place / "prepared.json").write_text(json.dumps(manifest), "utf-8")
    lines = "".join(json.dumps(shard) + "\n" for shard in shards)
    (place / "shards.jsonl").write_bytes(lines.encode() + rest)
    only_own_errors(lambda: read_manifest(place))
    only_own_errors(lambda: read_shards(place))
