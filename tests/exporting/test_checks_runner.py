"""The check list over a good export, and over what is none."""

from kbert.exporting.checks.runner import CHECKS


def test_there_are_forty():
    assert [check.number for check in CHECKS] == list(range(1, 41))


def test_the_toy_export_holds_without_a_process(checked):
    points = checked.points().values()
    assert [p for p in points if p.status != "pass"] == []
