"""Points on answers, each on a model that answers wrong there."""

from pathlib import Path

import numpy as np
import pytest

from kbert.errors import ExportError
from kbert.exporting.checks import behaviour
from tests.exporting.toy_export import InProcess, edit_json, write_toy_export


def shifted(outputs, name: str = "probabilities"):
    return {**outputs, name: outputs[name] + np.float32(1e-3)}


def when_texts(condition):
    """Shifts the probabilities of those batches of texts."""

    def change(signature, inputs, outputs):
        if signature == "serving_default" and condition(inputs["text"]):
            return shifted(outputs)
        return outputs

    return change


def of_classify(**changes):
    """Replaces or adds outputs of `classify`."""

    def change(signature, inputs, outputs):
        return {**outputs, **changes} if signature == "classify" else outputs

    return change


def fails_on_bad_utf8(signature, inputs, outputs):
    for values in inputs.values():
        for text in values.ravel() if values.dtype == object else ():
            if text.startswith(b"\xff"):
                raise ExportError("invalid UTF-8")
    return outputs


def fixed_rows(signature, inputs, outputs):
    if signature != "encoded":
        return outputs
    return {name: np.zeros((2, 2), np.float32) for name in outputs}


NOT_TEXT = np.array([[b"\xff", b"\xfe"]] * 3, object)
TEXT = np.array([[b"neg", b"pos"]] * 3, object)

BROKEN = {
    "the same rows for any batch": (fixed_rows, {22, 26}, "[2, 2] for 1 texts"),
    "bytes as text": (of_classify(names=NOT_TEXT), {22, 23}, "not UTF-8"),
    "text as bytes": (of_classify(label_bytes=TEXT), {22, 23}, "base64"),
    "an error on bytes": (fails_on_bad_utf8, {27}, "invalid UTF-8"),
    "neighbours of an emoji": (
        when_texts(lambda t: len(t) == 2 and t[1].startswith(b"\xf0")),
        {27},
        "two texts at once",
    ),
    "neighbours": (when_texts(lambda t: len(t) == 4), {28}, "text twice"),
    "filler rows": (when_texts(lambda t: len(t) == 16), {29}, "copies of a row"),
    "not a number": (
        lambda s, i, o: {**o, "score": o["score"] * np.nan} if "score" in o else o,
        {14, 26, 27, 28, 29},
        "nan",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_answers_with(checked, what: str):
    checked.answers.change, numbers, message = BROKEN[what]
    failing = checked.failing()
    assert set(failing) == numbers
    assert any(message in failing[number] for number in numbers)


def test_no_answer(checked):
    def fail(signature, inputs, outputs):
        raise ExportError("callback pyfunc_0 is not found")

    checked.answers.change = fail
    points = checked.points()
    assert [n for n, p in points.items() if p.status == "fail"] == [15]
    assert "pyfunc_0" in points[15].detail
    # Whatever else asks for answers; the server of 30 is not given such a model.
    skipped = [n for n, p in points.items() if p.status == "skip"]
    assert skipped == [14, 22, 23, 26, 27, 28, 29, 30, 32, 33, 40]


def test_padding_that_counts(checked, tmp_path: Path):
    checked.folder = write_toy_export(tmp_path / "padded" / "1", masks_padding=False)
    checked.answers.real = InProcess(checked.folder)
    assert set(checked.failing()) == {27, 28}


class TestGolden:
    def test_other_answers(self, checked):
        def swap(values):
            outputs = values["signatures"]["serving_default"]["outputs"]
            outputs["probabilities"]["float32"][3].reverse()

        edit_json(checked.extra / "golden.json", swap)
        failing = checked.failing()
        assert set(failing) == {26}
        assert "Good." in failing[26]

    @pytest.mark.parametrize(
        ("signature", "output", "kind"),
        [("classify", "classes", "string"), ("encoded", "logits", "float32")],
    )
    def test_other_answers_of_other_signatures(self, checked, signature, output, kind):
        def swap(values):
            outputs = values["signatures"][signature]["outputs"]
            outputs[output][kind][1].reverse()

        edit_json(checked.extra / "golden.json", swap)
        failing = checked.failing()
        assert set(failing) == {26}
        assert f"signature {signature}: {output}" in failing[26]

    def test_a_signature_without_answers(self, checked):
        edit_json(
            checked.extra / "golden.json", lambda v: v["signatures"].pop("encoded")
        )
        assert "encoded" in checked.failing()[26]

    def test_generous_tolerance(self, checked):
        edit_json(checked.extra / "golden.json", lambda v: v.update(tolerance=1))
        assert set(checked.failing()) == {26}

    def test_damaged(self, checked):
        (checked.extra / "golden.json").write_text("{")
        assert "damaged" in checked.failing()[26]

    def test_lost(self, checked):
        (checked.extra / "golden.json").unlink()
        assert set(checked.failing()) == {26}

    def test_an_export_of_others_has_none(self, checked):
        (checked.extra / "golden.json").unlink()
        (checked.extra / "kbert.json").unlink()
        assert checked.points()[26].status == "skip"


def test_json_through_a_server(checked):
    asked = []

    def round_trip(folder: Path) -> str:
        asked.append(folder)
        return "label is null"

    checked.fields["round_trip"] = round_trip
    failing = checked.failing()
    assert set(failing) == {30}
    assert "label is null" in failing[30]
    assert asked == [checked.folder]
    checked.fields["round_trip"] = None
    assert checked.points()[30].status == "skip"


def test_largest_request_takes_too_long(checked, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def note(signature, inputs, outputs):
        asked.append(inputs.get("text", ()))
        return outputs

    checked.answers.change = note
    monkeypatch.setattr(behaviour, "_MOST_SECONDS", 0.0)
    failing = checked.failing()
    assert set(failing) == {40}
    # The toy's limits: four texts of 32 tokens, [CLS] and [SEP] included.
    assert any(
        len(texts) == 4 and all(len(text.split()) >= 30 for text in texts)
        for texts in asked
    )


def test_limits_that_are_none(checked):
    edit_json(checked.extra / "kbert.json", lambda card: card.pop("limits"))
    failing = checked.failing()
    assert set(failing) == {25, 32, 33, 40}
    assert "limits.max_length" in failing[40]
