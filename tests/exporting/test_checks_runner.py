"""The check list as a whole: over a good export, a bad one, and what is none."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from kbert.errors import ExportError
from kbert.exporting.checks import Point, format_points, run_checks
from kbert.exporting.checks.runner import CHECKS
from tests.exporting.toy_export import write_toy_export


def by_status(points: list[Point]) -> dict[str, list[int]]:
    statuses = {point.status: [] for point in points}
    for point in points:
        statuses[point.status].append(point.number)
    return statuses


def test_there_are_forty():
    assert [check.number for check in CHECKS] == list(range(1, 41))


def test_a_good_export_without_a_process(checked):
    assert [p for p in checked.points().values() if p.status != "pass"] == []


def test_a_good_export(toy: Path):
    points = run_checks(toy, round_trip=lambda folder: None)
    assert [point for point in points if point.status != "pass"] == []
    assert format_points(points).endswith("\n40 of 40 points hold")


def test_an_export_that_needs_python_and_more_ops(tmp_path: Path):
    def change(texts: tf.Tensor) -> tf.Tensor:
        words = tf_text.WhitespaceTokenizer().tokenize(texts)
        joined = tf.strings.reduce_join(words, separator=" ", axis=-1)
        same = tf.numpy_function(lambda items: np.array(items), [joined], tf.string)
        return tf.ensure_shape(same, [None])

    folder = write_toy_export(tmp_path / "toy" / "1", change=change)
    points = run_checks(folder, round_trip=lambda folder: None)
    statuses = by_status(points)
    assert statuses["fail"] == [5, 9, 15, 17]
    assert statuses["skip"] == [14, 18, 22, 23, 26, 27, 28, 29, 30, 32, 33, 40]
    assert "pyfunc" in points[14].detail
    assert "WhitespaceTokenizeWithOffsets" in points[16].detail


def test_an_empty_folder(tmp_path: Path):
    statuses = by_status(run_checks(tmp_path))
    assert statuses["fail"] == [1, 2, 16, 36]
    assert "pass" not in statuses


def test_a_folder_of_rubbish(checked):
    for file in sorted(checked.folder.rglob("*")):
        if file.is_file():
            file.write_bytes(b"\x08\xff\x00{]\x1b[31m" * 50)
    failing = checked.failing()
    assert {2, 26, 31, 34, 35, 36} <= set(failing)
    assert all(detail.isprintable() for detail in failing.values())


def test_no_folder(tmp_path: Path):
    with pytest.raises(ExportError, match="no folder"):
        run_checks(tmp_path / "none")


def test_format():
    points = [
        Point(1, "named", "pass", "version 1"),
        Point(7, "no later op", "pass", ""),
        Point(12, "no path", "fail", "/home/me. Leave it out."),
        Point(30, "JSON", "skip", "no server"),
    ]
    assert format_points(points).splitlines() == [
        "ok     1  named: version 1",
        "ok     7  no later op",
        "FAIL  12  no path: /home/me. Leave it out.",
        "skip  30  JSON: no server",
        "2 of 4 points hold, 1 do not apply or could not be looked at, 1 FAIL",
    ]
