"""`kbert export` at the terminal."""

import logging
import os
from pathlib import Path

import pytest


def test_export_prints_where_and_what_next(kbert, trained: Path):
    done = kbert("export", trained, "saved_models/letters")
    assert done.code == 0, done.err
    assert "export: saved_models/letters/1\n" in done.out
    assert "signature serving_default(text)" in done.out
    assert "kbert serve saved_models/letters" in done.out
    assert "largest difference" in done.out
    assert os.listdir("saved_models/letters") == ["1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "Give a run and the folder"),
        (["RUN", "saved_models/12"], "named like a version"),
        (["RUN", "out", "--version", "0"], "Received: 0"),
        (["RUN", "out", "--set", "export.max_batch=3"], "export.max_batch_size"),
        (["RUN", "out", "--set", "export.max_batch_size=0"], "at least 1"),
        (["RUN", "out", "--set", "train.epochs=3"], "unknown setting train.epochs"),
        (["RUN", "file.txt/out"], "file.txt is a file"),
        (["nowhere", "out"], "no such folder"),
        (["--check", "nowhere"], "nowhere"),
        (["RUN", "out", "--check", "out"], "stands alone"),
    ],
)
def test_a_mistake_is_one_message(kbert, trained: Path, arguments, message):
    Path("file.txt").write_text("")
    done = kbert("export", *(trained if item == "RUN" else item for item in arguments))
    assert done.code == 2
    assert message in done.message
    assert not Path("out").exists()


def test_another_backend_is_refused_before_it_is_imported(kbert, trained, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    done = kbert("export", trained, "out")
    assert done.code == 2
    assert "KERAS_BACKEND=jax" in done.message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda run: Path("empty").mkdir(), "the folder is empty"),
        (lambda run: Path("empty").symlink_to(run), "is a run"),
        (lambda run: Path("empty").write_text(""), "is a file"),
    ],
)
def test_what_is_no_export_is_told_at_once(kbert, trained: Path, make, message):
    make(trained)
    done = kbert("export", "--check", "empty")
    assert done.code == 2
    assert message in done.message


def test_check_prints_a_line_a_point(kbert, trained: Path):
    assert kbert("export", trained, "saved_models/letters").code == 0
    # A version may be written with zeros before it.
    os.rename("saved_models/letters/1", "saved_models/letters/001")
    done = kbert("export", "--check", "saved_models/letters")
    assert done.code == 0, done.out
    assert [int(line[4:].split()[0]) for line in done.out.splitlines()[:40]] == list(
        range(1, 41)
    )
    assert {line[:4] for line in done.out.splitlines()[:40]} == {"ok  "}
    assert "40 of 40 points hold" in done.out
    assert "Loaded" not in done.err
    assert logging.getLogger("kbert.serving").level == logging.NOTSET

    Path("saved_models/letters/001/assets.extra/golden.json").unlink()
    done = kbert("export", "--check", "saved_models/letters/001")
    assert done.code == 1
    assert "FAIL  26" in done.out
