"""`kbert export` at the terminal."""

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
