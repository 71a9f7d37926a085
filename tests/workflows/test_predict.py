"""Prediction: the right texts of a file, in order, as a stream."""

import gzip
import io
import itertools
import json
import shutil
from pathlib import Path

import pytest

import kbert
from kbert.data.encoded import encode_texts
from kbert.errors import ConfigError, DataError, RunError
from kbert.workflows.predict import read_texts
from tests.tiny import VOCABULARY


def test_lines_of_a_stream_in_order(tiny_run):
    stream = io.BytesIO("a film is good\r\n\nbäd\u2028film\n".encode())
    texts = list(read_texts(stream, tiny_run.predictor))
    assert texts == ["a film is good", "", "bäd\u2028film"]
    answers = tiny_run.predict(texts)
    assert [answer["text"] for answer in answers] == texts


def test_the_first_answers_come_before_the_last_texts(tiny_run):
    endless = (f"{'very ' * (n % 7)}good" for n in itertools.count())
    answers = list(itertools.islice(tiny_run.predictor.answers(endless), 5000))
    for number in (0, 1, 2047, 2048, 4999):
        assert answers[number]["text"] == f"{'very ' * (number % 7)}good"
    same = tiny_run.predict([answers[4999]["text"]])[0]
    assert answers[4999]["score"] == pytest.approx(same["score"], abs=1e-5)


def test_the_columns_of_the_training_are_read_where_a_guess_would_fail(
    tiny_run, tmp_path
):
    table = tmp_path / "many.csv"
    table.write_text("text,review,comment\nbad,good,bad\n")
    assert list(read_texts(table, tiny_run.predictor)) == ["good"]


def test_other_columns_may_be_named(tiny_run, tmp_path):
    table = tmp_path / "many.jsonl"
    table.write_text('{"text": "bad", "review": "good"}\n')
    texts = read_texts(table, tiny_run.predictor, assignments=["data.text=text"])
    assert list(texts) == ["bad"]


def test_a_limit_applies_where_it_is_asked_for(tiny_run, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("one\ntwo\nthree\n")
    texts = read_texts(lines, tiny_run.predictor, assignments=["data.limit=2"])
    assert list(texts) == ["one", "two"]
    with pytest.raises(ConfigError, match=r"data\.text has no effect here"):
        read_texts(lines, tiny_run.predictor, assignments=["data.text=x"])


def test_the_first_column_may_be_named_alone(tmp_path, pair_run):
    table = tmp_path / "other.csv"
    table.write_text("first,hypothesis,third\ngood,bad,film\n")
    texts = read_texts(table, pair_run.predictor, assignments=["data.text=first"])
    assert list(texts) == [("good", "bad")]


@pytest.mark.parametrize("name", ["in.TXT", "in.txt.gz", "in.gz", "in"])
def test_plain_texts_by_any_ending(tiny_run, tmp_path, name):
    file = tmp_path / name
    content = b"a film\n\nis good"
    file.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list(read_texts(file, tiny_run.predictor)) == ["a film", "", "is good"]


def test_a_run_called_sample_is_not_the_embedded_preset(
    tiny_run, tmp_path, monkeypatch
):
    shutil.copytree(tiny_run.path, tmp_path / "sample")
    monkeypatch.chdir(tmp_path)
    answers = kbert.load("sample").predict(["a film is good"])
    assert answers[0]["label"] == "pos"


@pytest.mark.parametrize("odd", ["\ud800", "\udce9", "\ud800\udce9"])
def test_what_is_no_unicode_counts_for_nothing(tiny_run, odd):
    answer, expected = tiny_run.predict([f"a film{odd} is good", "a film is good"])
    assert answer["probabilities"] == expected["probabilities"]
    assert answer["text"] == f"a film{odd} is good"


@pytest.mark.parametrize("odd", [None, float("nan"), 3, b"good", ("a", 3), ("a",) * 3])
def test_what_is_no_text_is_named(tiny_run, pair_run, odd):
    with pytest.raises(TypeError, match=r"texts\[2049\] = ") as caught:
        tiny_run.predict(["good"] * 2049 + [odd])
    assert repr(odd) in str(caught.value)
    with pytest.raises(TypeError, match=r"texts\[1\] = "):
        pair_run.predict([("good", "bad"), odd])


def test_a_precision_is_checked_and_used(tiny_run):
    run = kbert.load(tiny_run.path, precision="mixed_bfloat16")
    assert run.predict(["a film is good"])[0]["label"] == "pos"
    dtypes = {layer.compute_dtype for layer in run.predictor._model.layers}
    assert "bfloat16" in dtypes
    with pytest.raises(ConfigError, match=r"precision must be .*: float64"):
        kbert.load(tiny_run.path, precision="float64")


def test_a_pair_for_a_run_of_single_texts(tiny_run):
    with pytest.raises(RunError, match="single texts"):
        tiny_run.predict([("good", "film")])
    with pytest.raises(TypeError, match="several texts"):
        tiny_run.predict("good")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    rows = [
        {"premise": first, "hypothesis": second, "label": str(first == second)}
        for first in ("good", "bad", "film")
        for second in ("good", "bad", "film")
    ] * 4
    data = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    return data


@pytest.fixture(scope="module")
def pair_run(pairs, tiny_preset) -> kbert.Run:
    output = pairs.parent / "run"
    return kbert.finetune(tiny_preset, pairs, output=output, epochs=1, max_length=8)


def test_pairs(pairs, pair_run):
    run = pair_run
    texts = list(read_texts(pairs, run.predictor))
    assert texts[:2] == [("good", "good"), ("good", "bad")]
    answer = run.predict(texts[1:2])[0]
    assert (answer["text"], answer["text_pair"]) == ("good", "bad")
    assert set(answer["probabilities"]) == {"False", "True"}
    encoded = encode_texts(run.predictor.encoder, ["good"], ["bad"])
    words = [VOCABULARY[token_id] for token_id in encoded.token_ids]
    assert words == ["[CLS]", "good", "[SEP]", "bad", "[SEP]"]
    assert list(encoded.segment_ids) == [0, 0, 0, 1, 1]
    with pytest.raises(DataError, match="pairs of texts"):
        read_texts(Path("lines.txt"), run.predictor)
