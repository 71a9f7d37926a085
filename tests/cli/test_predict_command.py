"""`kbert predict`: odd texts and odd places."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Kbert


def test_bytes_that_are_no_utf_8(kbert: Kbert, trained: Path) -> None:
    odd = os.fsdecode(b"a b\xe9")  # as Python gives it in sys.argv
    outcome = kbert("predict", trained, odd, "a b", "\ud800")
    assert outcome.code == 0
    first, second, third = map(json.loads, outcome.out.splitlines())
    assert first["text"] == odd
    assert first["probabilities"] == second["probabilities"]
    assert third["text"] == "\ud800"


def test_the_output_is_utf_8(
    kbert: Kbert, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["a b", "\ud800", "ä 好"]
    outcome = kbert("predict", trained, *texts, "--output", "out.jsonl")
    assert outcome.code == 0
    lines = Path("out.jsonl").read_bytes().decode("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts
    assert "ä 好" in lines[2]
    # Whatever the terminal says its encoding is.
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", latin)
    assert kbert("predict", trained, *texts).code == 0
    assert latin.buffer.getvalue().decode("utf-8").splitlines() == lines


def test_a_run_called_sample(
    kbert: Kbert, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, "runs/sample")
    monkeypatch.chdir("runs")
    outcome = kbert("predict", "sample", "a b")
    assert outcome.code == 0
    assert json.loads(outcome.out)["label"] in ("yes", "no")


def test_a_text_that_begins_with_a_dash(kbert: Kbert, trained: Path) -> None:
    outcome = kbert("predict", trained, "-5 stars")
    assert outcome.code == 2
    assert "No such option" in outcome.message
    assert "kbert predict RUN -- " in outcome.message
    outcome = kbert("predict", trained, "--", "-5 stars", "--inptu")
    assert outcome.code == 0
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [answer["text"] for answer in answers] == ["-5 stars", "--inptu"]


def test_a_misspelt_option_is_still_one(kbert: Kbert, trained: Path) -> None:
    outcome = kbert("predict", trained, "--inptu", "a.txt")
    assert outcome.code == 2
    assert "Did you mean" in outcome.message
    assert "--input" in outcome.message
