"""Preparing: resumable to the byte, refusing what differs, bounded by no disk."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from kbert.data.prepared import open_prepared
from kbert.data.preparing import Plan, prepare
from kbert.data.pretraining import Purpose, random_generator
from kbert.data.pretraining_examples import ExampleRecipe, Examples, build_examples
from kbert.data.windows import WindowTokenizer, read_pieces_of, windows
from kbert.errors import DataError
from tests.data.pretraining_texts import (
    FakeCorpus,
    FakeFile,
    random_corpus,
    recipe,
    rows_of,
    tiny_tokenizer,
)

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = tiny_tokenizer()
WINDOW_BYTES = 4000


def keep(file: int, document: int) -> bool:
    return document % 10 != 0


def held_out(recipe: ExampleRecipe) -> Examples:
    pieces = read_pieces_of(random_corpus(), lambda *document: not keep(*document))
    (window,) = windows(pieces, need_two_documents=True)
    documents = WindowTokenizer(TOKENIZER)(window)
    return build_examples(documents, recipe, random_generator(Purpose.BUILDING, 0))


def plan_of(*lengths: int, **changes) -> Plan:
    values = {
        "recipes": [recipe(length, short_rate=0.1) for length in lengths or (16, 32)],
        "seed": 7,
        "keep": keep,
        "validation": held_out,
        "choices": {"document": "blank_line"},
        "window_bytes": WINDOW_BYTES,
    }
    return Plan(**values | changes)


def prepare_into(folder: Path, **changes):
    return prepare(random_corpus(), TOKENIZER, folder, plan_of(), **changes)


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file but the list, whose order of lines may differ after a failure."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "shards.jsonl"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder prepared without a break."""
    folder = tmp_path_factory.mktemp("whole") / "prepared"
    prepare_into(folder)
    return folder


def test_shards_hold_the_examples_of_each_window(whole):
    prepared = open_prepared(whole)
    pieces = read_pieces_of(random_corpus(), keep)
    expected = list(windows(pieces, WINDOW_BYTES, need_two_documents=True))
    assert len(expected) > 3
    tokenize = WindowTokenizer(TOKENIZER)
    for length in (16, 32):
        shards = prepared.training_shards(length)
        assert len(shards) == len(expected)
        for shard, window in zip(shards, expected, strict=True):
            rng = random_generator(Purpose.PREPARING, 7, length, window.number)
            examples = build_examples(
                tokenize(window), recipe(length, short_rate=0.1), rng
            )
            records = tf.data.TFRecordDataset(str(whole / shard.file))
            features = [
                tf.train.Example.FromString(record).features.feature
                for record in records.as_numpy_iterator()
            ]
            found = [
                (
                    list(feature["token_ids"].int64_list.value),
                    *feature["first_length"].int64_list.value,
                    *feature["next_sentence_label"].int64_list.value,
                )
                for feature in features
            ]
            assert found == rows_of(examples)
            assert shard.num_examples == len(found)
            assert shard.num_tokens == len(examples.token_ids)


def test_folder_says_how_it_was_prepared(whole):
    manifest = json.loads((whole / "prepared.json").read_text())
    prepared = open_prepared(whole)
    training = [s for n in prepared.lengths for s in prepared.training_shards(n)]
    assert manifest["complete"] is True
    assert manifest["num_shards"] == len(training) + 2
    assert manifest["num_examples"] == sum(shard.num_examples for shard in training)
    assert manifest["num_tokens"] == sum(shard.num_tokens for shard in training)
    assert manifest["settings"]["choices"] == {"document": "blank_line"}
    assert prepared.lengths == [16, 32]
    assert prepared.vocabulary == TOKENIZER.vocabulary
    for length in prepared.lengths:
        assert rows_of(prepared.validation_examples(length)) == rows_of(
            held_out(recipe(length, short_rate=0.1))
        )


def test_number_of_threads_changes_nothing(whole, tmp_path):
    sizes = []
    prepare_into(tmp_path / "a", num_threads=5, on_window=sizes.append)
    assert content_of(tmp_path / "a") == content_of(whole)
    pieces = read_pieces_of(random_corpus(), keep)
    assert sizes == [
        window.num_bytes
        for window in windows(pieces, WINDOW_BYTES, need_two_documents=True)
    ]


def stop_after(num_windows: int):
    done = []

    def on_window(num_bytes: int) -> None:
        done.append(num_bytes)
        if len(done) == num_windows:
            raise KeyboardInterrupt

    return on_window


def test_goes_on_where_it_was_stopped(whole, tmp_path, monkeypatch):
    folder = tmp_path / "prepared"
    with pytest.raises(KeyboardInterrupt):
        prepare_into(folder, num_threads=1, on_window=stop_after(2))
    with pytest.raises(DataError, match=r"not complete: .* stopped after 6 shards"):
        open_prepared(folder)

    tokenized = []
    original = WindowTokenizer.__call__

    def counting(self, window):
        tokenized.append(window.number)
        return original(self, window)

    monkeypatch.setattr(WindowTokenizer, "__call__", counting)
    sizes = []
    prepare_into(folder, on_window=sizes.append)
    assert min(tokenized) == 2
    assert len(sizes) == max(tokenized) + 1
    assert content_of(folder) == content_of(whole)

    tokenized.clear()
    prepare_into(folder)
    assert tokenized == []


KILLED = """
import os, signal, sys
from tests.data.test_preparing import prepare_into

prepare_into(sys.argv[1], on_window=lambda n: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_goes_on_where_it_was_killed(whole, tmp_path):
    folder = tmp_path / "prepared"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL
    with open(folder / "shards.jsonl", "a") as listed:
        listed.write('{"file": "length-16/0000')  # as a kill in the middle leaves it
    prepare_into(folder)
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    leftovers = {name for name in names if name.startswith(".")}
    content = content_of(folder)
    assert {k: v for k, v in content.items() if Path(k).name not in leftovers} == (
        content_of(whole)
    )


@pytest.mark.parametrize("refusing", ["tensorflow", "system", "list"])
def test_full_disk_leaves_what_is_done_valid(whole, tmp_path, monkeypatch, refusing):
    folder = tmp_path / "prepared"
    number_left = [200 if refusing == "tensorflow" else 5]

    def refuse() -> None:
        number_left[0] -= 1
        if number_left[0] < 0:
            if refusing == "tensorflow":
                raise tf.errors.ResourceExhaustedError(None, None, "No space left")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target, name = {
        "tensorflow": (tf.io.TFRecordWriter, "write"),
        "system": (os, "replace"),
        "list": (os, "write"),
    }[refusing]
    original = getattr(target, name)

    def writing(*arguments):
        refuse()
        return original(*arguments)

    with monkeypatch.context() as context:
        context.setattr(target, name, writing)
        with pytest.raises(OSError, match="stays valid; make room") as caught:
            prepare_into(folder, num_threads=1)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(folder)
    assert not [path for path in folder.rglob(".*") if path.is_file()]
    listed = [json.loads(x) for x in (folder / "shards.jsonl").read_text().splitlines()]
    assert listed
    for line in listed:
        assert (folder / line["file"]).read_bytes() == (
            whole / line["file"]
        ).read_bytes()
    prepare_into(folder)
    assert content_of(folder) == content_of(whole)


def test_other_errors_of_the_disk_are_as_they_are(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file is a file"):
        prepare_into(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        prepare_into(tmp_path / "file" / "below")


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A folder whose preparation was stopped."""
    folder = tmp_path_factory.mktemp("begun") / "prepared"
    with pytest.raises(KeyboardInterrupt):
        prepare_into(folder, num_threads=1, on_window=stop_after(1))
    return folder


def changed_corpus() -> FakeCorpus:
    files = random_corpus().files
    return FakeCorpus((*files[:2], FakeFile("2.txt", [], fingerprint="other")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": plan_of(seed=8)}, "seed was 7 and is 8"),
        (
            {"plan": plan_of(16, 64)},
            r"lengths\.32\.next_sentence was True and is not set",
        ),
        (
            {"plan": plan_of(recipes=[recipe(16), recipe(32, short_rate=0.1)])},
            r"lengths\.16\.short_rate was 0\.1 and is 0\.0",
        ),
        (
            {"plan": plan_of(choices={"document": "line"})},
            "document was blank_line and is line",
        ),
        ({"plan": plan_of(choices={})}, "document was blank_line and is not set"),
        ({"plan": plan_of(window_bytes=10)}, "window_bytes was 4000 and is 10"),
        (
            {"tokenizer": tiny_tokenizer(extra=["more"])},
            "vocabulary_sha256 was .* and is ",
        ),
        ({"tokenizer": tiny_tokenizer(lowercase=False)}, "lowercase was True and is"),
        ({"corpus": changed_corpus()}, r"2\.txt has changed"),
        ({"corpus": random_corpus(2)}, "the text was in 3 files and is in 2"),
    ],
)
def test_other_settings_are_refused(begun, changes, message):
    before = content_of(begun)
    values = {"corpus": random_corpus(), "tokenizer": TOKENIZER, "plan": plan_of()}
    with pytest.raises(DataError, match=message):
        prepare(folder=begun, **values | changes)
    assert content_of(begun) == before


def test_files_may_have_been_moved(begun, whole, tmp_path):
    corpus = random_corpus()
    for file in corpus.files:
        file.name = f"elsewhere/{file.name}"
    prepare(corpus, TOKENIZER, begun, plan_of())
    assert content_of(begun) == content_of(whole)


def test_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / ".hidden").write_text("")
    with pytest.raises(DataError, match=r"holds thesis\.txt\. Choose another folder"):
        prepare_into(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "thesis.txt"]


def test_corpus_without_text_is_refused(tmp_path):
    corpus = FakeCorpus((FakeFile("a.txt", [["\u200b"]]),))
    for _ in range(2):
        with pytest.raises(DataError, match="reviews has no text"):
            prepare(corpus, TOKENIZER, tmp_path / "a", plan_of())


def test_lost_shard_is_made_again(whole, tmp_path):
    prepare_into(tmp_path)
    lost = open_prepared(tmp_path).training_shards(16)[1]
    (tmp_path / lost.file).unlink()
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(DataError, match=rf"damaged: {lost.file} is missing or cut"):
        open_prepared(tmp_path)
    prepare_into(tmp_path)
    assert content_of(tmp_path) == content_of(whole)
