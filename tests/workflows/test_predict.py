"""Prediction: the right texts of a file, in order, as a stream."""

import io
import itertools
import json
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


def test_a_pair_for_a_run_of_single_texts(tiny_run):
    with pytest.raises(RunError, match="single texts"):
        tiny_run.predict([("good", "film")])
    with pytest.raises(TypeError, match="several texts"):
        tiny_run.predict("good")


def test_pairs(tmp_path, tiny_preset):
    rows = [
        {"premise": first, "hypothesis": second, "label": str(first == second)}
        for first in ("good", "bad", "film")
        for second in ("good", "bad", "film")
    ] * 4
    data = tmp_path / "pairs.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    run = kbert.finetune(
        str(tiny_preset), str(data), output=tmp_path / "run", epochs=1, max_length=8
    )
    texts = list(read_texts(data, run.predictor))
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
