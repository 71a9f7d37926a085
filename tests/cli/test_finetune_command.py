"""`kbert finetune`: what it prints where, and where it writes."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import GOOD, Kbert, write_csv


def test_results_go_to_stdout_and_all_else_to_stderr(finetune: Kbert) -> None:
    outcome = finetune()
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].split()[:3] == ["split", "examples", "loss"]
    metrics = json.loads(Path("run/metrics.json").read_text())["validation"]
    assert lines[1].split()[:2] == ["validation", str(metrics["num_examples"])]
    assert lines[2:] == [
        "run: run",
        "Try next:",
        "  kbert predict run 'YOUR TEXT'",
        "  kbert evaluate run",
    ]
    assert "18 examples" in outcome.err
    assert "split  examples" not in outcome.err


def test_the_estimate_of_a_dry_run_is_a_result(finetune: Kbert) -> None:
    outcome = finetune("--dry-run")
    assert outcome.code == 0
    (line,) = outcome.out.splitlines()
    assert "2 steps" in line
    assert not Path("run").exists()


def test_messages_name_files_as_they_were_given_and_the_run_from_the_root(
    finetune: Kbert, kbert: Kbert, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = write_csv("data.csv")
    write_csv("validation.csv", GOOD[:4])
    validation = "data.validation=validation.csv"
    outcome = finetune("--data", data, "--set", validation)
    assert outcome.code == 0
    assert str(tmp_path) not in outcome.out + outcome.err
    config = Path("run/config.toml").read_text("utf-8")
    for name in ("data.csv", "validation.csv"):
        assert f'"{tmp_path / name}"' in config
    again = finetune("--data", data, "--set", validation)
    assert again.code == 2
    assert "is a finished run with this config" in again.message
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    outcome = kbert("evaluate", tmp_path / "run", "--json")
    assert json.loads(outcome.out)["num_examples"] == 4


def test_a_number_without_effect_is_said(finetune: Kbert) -> None:
    outcome = finetune("--set", "train.eval_steps=5", "--dry-run")
    assert "Warning: train.eval_steps = 5 has no effect: the training has 2 steps" in (
        outcome.err
    )


def test_runs_without_a_name_get_one_each(
    finetune: Kbert, kbert: Kbert, tiny_preset: Path
) -> None:
    arguments = ("--preset", tiny_preset, "--data", write_csv("data.csv"))
    for name in ("data-tiny", "data-tiny-2"):
        outcome = kbert("finetune", *arguments, "--set", "train.max_steps=1")
        assert outcome.code == 0
        assert f"run: {os.path.join('runs', name)}" in outcome.out.splitlines()
