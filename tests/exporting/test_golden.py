"""Golden texts: what counts as the same answer, and what does not."""

from pathlib import Path

import numpy as np
import pytest

from kbert.errors import ExportError
from kbert.exporting.golden import TEXTS, Golden, golden_texts


def golden(probabilities: list[list[float]], tolerance: float = 1e-5) -> Golden:
    values = np.array(probabilities)
    labels = np.array([b"no", b"yes"], object)[values.argmax(axis=1)]
    return Golden(
        precision="float32",
        tolerance=tolerance,
        inputs={"text": ["first", "second"][: len(values)]},
        outputs={"label": labels, "probabilities": values},
    )


def outputs(labels: list[bytes], probabilities: list[list[float]]) -> dict:
    return {
        "label": np.array(labels, object),
        "probabilities": np.array(probabilities, np.float32),
    }


def test_the_largest_difference_is_told():
    expected = golden([[0.9, 0.1], [0.25, 0.75]])
    received = outputs([b"no", b"yes"], [[0.9, 0.1], [0.250004, 0.749996]])
    assert expected.difference(received) == pytest.approx(4e-6, rel=0.02)


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
        expected.difference(outputs(labels, probabilities))


def test_a_missing_output_is_an_error():
    received = outputs([b"no"], [[0.9, 0.1]])
    del received["label"]
    with pytest.raises(ExportError, match="no output 'label'"):
        golden([[0.9, 0.1]]).difference(received)


def test_of_two_equal_scores_either_label_is_right():
    expected = golden([[0.500004, 0.499996]])
    expected.difference(outputs([b"yes"], [[0.499999, 0.500001]]))
    with pytest.raises(ExportError, match="label"):
        golden([[0.51, 0.49]]).difference(outputs([b"yes"], [[0.51, 0.49]]))


def test_written_and_read_again(tmp_path: Path):
    expected = golden([[0.9, 0.1], [0.25, 0.75]])
    expected.write(tmp_path)
    found = Golden.read(tmp_path / "golden.json")
    assert found.inputs == expected.inputs
    assert (found.precision, found.tolerance) == ("float32", 1e-5)
    for name, values in expected.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], values)


@pytest.mark.parametrize("content", ["", "[]", '{"precision": "float32"}', "{"])
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
