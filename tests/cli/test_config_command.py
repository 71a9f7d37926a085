"""`kbert config show`, and the options that the training commands share."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kbert.config import FinetuneConfig, describe_settings, load_config
from kbert.errors import ConfigError
from kbert_cli.config import config
from kbert_cli.options import OPTIONS, PRETRAIN_OPTIONS


def show(*arguments: str) -> Result:
    return CliRunner().invoke(config, ["show", *arguments])


def test_the_output_is_a_config_file(tmp_path: Path) -> None:
    result = show()
    assert result.exit_code == 0
    file = tmp_path / "shown.toml"
    file.write_text(result.stdout, encoding="utf-8")
    assert load_config(FinetuneConfig, file=file) == FinetuneConfig()


def test_options_win_over_set_and_file(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[train]\nepochs = 5\nbatch_size = 8\nseed = 3\n")
    result = show(
        *("--config", str(file), "--set", "train.batch_size=16"),
        *("--epochs", "2", "--learning-rate", "1e-4", "--data", "123"),
    )
    shown = tomllib.loads(result.stdout)
    assert shown["train"]["epochs"] == 2
    assert shown["train"]["batch_size"] == 16
    assert shown["train"]["seed"] == 3
    assert shown["train"]["learning_rate"] == 1e-4
    assert shown["data"]["source"] == "123"


def test_every_option_reaches_its_setting() -> None:
    values: dict[str, Any] = {
        "--preset": "bert_base_en",
        "--data": "tfds:imdb_reviews",
        "--epochs": 7,
        "--batch-size": 8,
        "--learning-rate": 0.5,
        "--max-length": 64,
        "--precision": "float32",
        "--seed": 0,
    }
    assert values.keys() == OPTIONS.keys()
    arguments = [str(part) for pair in values.items() for part in pair]
    shown = tomllib.loads(show(*arguments).stdout)
    for name, value in values.items():
        section, _, key = OPTIONS[name].setting.partition(".")
        assert shown[section][key] == value


def test_the_options_of_a_pretraining_reach_their_settings() -> None:
    values: dict[str, Any] = {
        "--preset": "bert_base_en",
        "--size": "small",
        "--vocabulary": "v.txt",
        "--max-steps": 7,
        "--batch-size": 8,
        "--learning-rate": 0.5,
        "--max-length": 64,
        "--precision": "float32",
        "--seed": 0,
    }
    assert values.keys() == PRETRAIN_OPTIONS.keys()
    arguments = [str(part) for pair in values.items() for part in pair]
    shown = tomllib.loads(show("--for", "pretrain", *arguments).stdout)
    for name, value in values.items():
        section, _, key = PRETRAIN_OPTIONS[name].setting.partition(".")
        assert shown[section][key] == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--for", "pretrain", "--epochs", "3"),
            "--epochs is an option of kbert finetune, and kbert pretrain has none of "
            "that name. Use --max-steps, or use --for finetune.",
        ),
        (("--for", "pretrain", "--data", "x"), "Use --set data.sources="),
        (("--size", "tiny"), "--size is an option of kbert pretrain"),
        (("--max-steps", "3"), "Use --set train.max_steps=N, or use --for pretrain."),
    ],
)
def test_an_option_of_the_other_command(
    arguments: tuple[str, ...], message: str
) -> None:
    result = show(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("name", OPTIONS)
def test_the_help_tells_the_true_default(name: str) -> None:
    settings = {setting.key: setting for setting in describe_settings(FinetuneConfig)}
    default = settings[OPTIONS[name].setting].default
    # What "not set" and "auto" come to here is worth more than the word.
    told = {"data.max_length": 256, "train.epochs": 3}.get(
        OPTIONS[name].setting, default
    )
    assert f"[default: {told}" in OPTIONS[name].help


def test_all_mistakes_at_once_under_the_options_own_names() -> None:
    error = show(
        "--batch-size", "0", "--epochs", "x", "--learning-rate", "-1"
    ).exception
    assert isinstance(error, ConfigError)
    for line in [
        "--batch-size 0: must be a whole number, at least 1 (train.batch_size)",
        '--epochs x: must be "auto" or a whole number, at least 1 (train.epochs)',
        "--learning-rate -1: must be",
    ]:
        assert line in str(error)


def test_help_lists_every_setting() -> None:
    result = show("--help")
    assert result.exit_code == 0
    for setting in describe_settings(FinetuneConfig):
        assert setting.key in result.stdout


def test_the_command_line_starts_without_pydantic_and_keras() -> None:
    code = (
        "import sys, kbert_cli.config, kbert_cli.presets\n"
        "print({'pydantic', 'keras', 'tensorflow'} & sys.modules.keys())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_what_is_decided_later_is_listed() -> None:
    lines = show().stdout.splitlines()
    assert lines[-1] == (
        "# data.max_length, train.learning_rate, train.precision, train.jit_compile, "
        "train.epochs, train.best_metric"
    )
    given = ("--max-length", "8", "--epochs", "1", "--learning-rate", "1e-3")
    given += ("--precision", "float32", "--set", "train.best_metric=loss")
    assert show(*given).stdout.splitlines()[-1] == "# train.jit_compile"
    closed = show(*given, "--set", "train.jit_compile=false").stdout
    assert "Decided when" not in closed
