"""`kbert presets`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kbert.presets import list_presets
from kbert_cli.presets import presets


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))


def test_the_table_has_a_line_for_every_preset() -> None:
    result = CliRunner().invoke(presets)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        *("preset", "language", "case", "here", "parameters", "description")
    ]
    infos = list_presets()
    assert [line.split()[0] for line in lines[1:]] == [info.name for info in infos]
    base = next(line for line in lines if line.startswith("bert_base_en "))
    assert base.split()[1:6] == ["en", "cased", "no", "108.3", "M"]


def test_json_is_the_list() -> None:
    result = CliRunner().invoke(presets, ["--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [info._asdict() for info in list_presets()]


def test_nothing_but_the_table_is_shown() -> None:
    """TensorFlow writes past Python's stderr, so this takes a process."""
    command = "from kbert_cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "presets"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("preset ")
