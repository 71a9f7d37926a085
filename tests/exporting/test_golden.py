"""Golden texts: what counts as the same answer, and what does not."""

from pathlib import Path

import numpy as np
import pytest

from kbert.errors import ExportError
from kbert.exporting.golden import TEXTS, Golden, GoldenCall, golden_texts

_ODD = (
    '{"precision": "float32", "tolerance": 0, "signatures": '
    '{"a": {"inputs": {"x": {"float8": [1]}}, "outputs": {}}}}'
)


def golden(probabilities: list[list[float]]) -> GoldenCall:
    values = np.array(probabilities)
    labels = np.array([b"no", b"yes"], object)[values.argmax(axis=1)]
    texts = np.array([b"first", b"second"][: len(values)], object)
    return GoldenCall({"text": texts}, {"label": labels, "probabilities": values})


def difference(call: GoldenCall, received: dict) -> float:
    return call.difference(received, tolerance=1e-5)


def outputs(labels: list[bytes], probabilities: list[list[float]]) -> dict:
    return {
        "label": np.array(labels, object),
        "probabilities": np.array(probabilities, np.float32),
    }


def test_the_largest_difference_is_told():
    expected = golden([[0.9, 0.1], [0.25, 0.75]])
    received = outputs([b"no", b"yes"], [[0.9, 0.1], [0.250004, 0.749996]])
    assert difference(expected, received) == pytest.approx(4e-6, rel=0.02)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([b"no", b"yes"], [[0.9, 0.1], [0.2501, 0.7499]], r"second.*0\.2501.*0\.25"),
        ([b"no", b"yes"], [[0.9, 0.1], [np.nan, 0.75]], "probabilities.*second.*nan"),
        ([b"no", b"no"], [[0.9, 0.1], [0.25, 0.75]], "label.*second.*b'no'.*b'yes'"),
        ([b"no"], [[0.9, 0.1]], r"label has shape \(1,\) in place of \(2,\)"),
    ],
)
def test_another_answer_is_an_error(labels, probabilities, message):
    expected = golden([[0.9, 0.1], [0.25, 0.75]])
    with pytest.raises(ExportError, match=message):
        difference(expected, outputs(labels, probabilities))


def test_a_missing_output_is_an_error():
    received = outputs([b"no"], [[0.9, 0.1]])
    del received["label"]
    with pytest.raises(ExportError, match="no output 'label'"):
        difference(golden([[0.9, 0.1]]), received)


def test_of_two_equal_scores_either_label_is_right():
    expected = golden([[0.500004, 0.499996]])
    difference(expected, outputs([b"yes"], [[0.499999, 0.500001]]))
    with pytest.raises(ExportError, match="label"):
        difference(golden([[0.51, 0.49]]), outputs([b"yes"], [[0.51, 0.49]]))


def test_logits_may_differ_more_than_probabilities():
    call = GoldenCall({"text": np.array([b"a"], object)}, {"logits": np.array([[3.0]])})
    assert difference(call, {"logits": np.array([[3.00009]])}) == 0.0
    with pytest.raises(ExportError, match="logits"):
        difference(call, {"logits": np.array([[3.0002]])})


def test_names_of_all_labels_have_one_order():
    scores = np.array([[0.5, 0.5]])
    classes = np.array([[b"no", b"yes"]], object)
    inputs = {"inputs": np.array([b"x"], object)}
    call = GoldenCall(inputs, {"classes": classes, "scores": scores})
    assert difference(call, {"classes": classes, "scores": scores}) == 0.0
    with pytest.raises(ExportError, match="classes"):
        difference(call, {"classes": classes[:, ::-1], "scores": scores})


def test_every_signature_is_asked():
    calls = {"first": golden([[0.9, 0.1]]), "second": golden([[0.2, 0.8]])}
    expected = Golden("float32", 1e-5, calls)
    answers = {
        "first": outputs([b"no"], [[0.9, 0.1]]),
        "second": outputs([b"yes"], [[0.200003, 0.799997]]),
    }
    assert expected.difference(lambda name, _: answers[name]) == pytest.approx(
        3e-6, rel=0.02
    )
    answers["second"] = outputs([b"no"], [[0.8, 0.2]])
    with pytest.raises(ExportError, match="signature second: label"):
        expected.difference(lambda name, _: answers[name])


def test_written_and_read_again(tmp_path: Path):
    odd = GoldenCall(
        {
            "inputs": np.array([b"\x0a\xff", b""], object),
            "ids": np.array([[1, 2], [3, 0]], np.int32),
        },
        {
            "classes": np.array([[b"a", "ü".encode()]] * 2, object),
            "scores": np.array([[0.1, 0.9]] * 2, np.float32),
        },
    )
    calls = {"answer": golden([[0.9, 0.1], [0.25, 0.75]]), "odd": odd}
    Golden("bfloat16", 5e-2, calls).write(tmp_path)
    found = Golden.read(tmp_path / "golden.json")
    assert (found.precision, found.tolerance) == ("bfloat16", 5e-2)
    assert found.calls.keys() == calls.keys()
    for name, call in calls.items():
        for kind in ("inputs", "outputs"):
            rows, expected = getattr(found.calls[name], kind), getattr(call, kind)
            assert rows.keys() == expected.keys()
            for key, values in expected.items():
                assert rows[key].dtype == values.dtype
                np.testing.assert_array_equal(rows[key], values)


@pytest.mark.parametrize("content", ["", "[]", '{"precision": "float32"}', "{", _ODD])
def test_a_damaged_file_is_named(tmp_path: Path, content: str):
    file = tmp_path / "golden.json"
    file.write_text(content)
    with pytest.raises(ExportError, match=r"golden\.json is damaged"):
        Golden.read(file)


def test_the_texts_hold_the_hard_cases():
    assert {"", " "} <= set(TEXTS)
    assert max(map(len, TEXTS)) >= 9_900
    assert any("\0" in text for text in TEXTS)
    assert any("\u4e00" <= character <= "\u9fff" for character in "".join(TEXTS))
    assert any(ord(character) > 0x1F000 for character in "".join(TEXTS))
    pairs = golden_texts(is_paired=True)
    assert [first for first, _ in pairs] == list(TEXTS)
    assert all(first != second for first, second in pairs)
