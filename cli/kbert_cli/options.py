"""The options that the training commands share.

Every one of them is a setting with a short name; the other settings are given
with `--set section.key=value` or in a file.
"""

import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from kbert.settings import Settings

Config = TypeVar("Config", bound="Settings")
Command = TypeVar("Command", bound=Callable[..., Any])


class _Number(click.ParamType):
    """A number where it is one; the config says what is wrong with anything else."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        for number in (int, float):
            try:
                return number(value)
            except (TypeError, ValueError):
                continue
        return value


class _Option(NamedTuple):
    setting: str
    kind: click.ParamType
    metavar: str
    help: str


_NUMBER = _Number()
OPTIONS = {
    "--preset": _Option(
        "model.preset",
        click.STRING,
        "PRESET",
        "keras-hub preset name, folder, run, hf://USER/REPO or sample."
        "  [default: sample]",
    ),
    "--data": _Option(
        "data.source",
        click.STRING,
        "SPEC",
        "tfds:NAME[/CONFIG], a file (.csv .tsv .jsonl .parquet, each also .gz .bz2 .xz "
        ".zst), a folder with a sub-folder a class, or sample.  [default: sample]",
    ),
    "--epochs": _Option(
        "train.epochs",
        _NUMBER,
        "N",
        "Passes over the training data.  [default: 3; 12 from random weights]",
    ),
    "--batch-size": _Option(
        "train.batch_size", _NUMBER, "N", "Examples a batch.  [default: 32]"
    ),
    "--learning-rate": _Option(
        "train.learning_rate",
        _NUMBER,
        "RATE",
        "Peak learning rate, or auto.  [default: auto]",
    ),
    "--max-length": _Option(
        "data.max_length",
        _NUMBER,
        "TOKENS",
        "Tokens a text, [CLS] and [SEP] included.  "
        "[default: 256, or the preset's limit if smaller]",
    ),
    "--precision": _Option(
        "train.precision",
        click.STRING,
        "NAME",
        "auto, float32, mixed_bfloat16 or mixed_float16.  [default: auto]",
    ),
    "--seed": _Option(
        "train.seed",
        _NUMBER,
        "N",
        "Of shuffling, dropout, new weights and the held-out share.  [default: 42]",
    ),
}


PRETRAIN_OPTIONS = {
    "--preset": _Option(
        "model.preset",
        click.STRING,
        "PRESET",
        "Go on from these weights, with their vocabulary: keras-hub preset name, "
        "folder, run or hf://USER/REPO.  [default: a new model]",
    ),
    "--size": _Option(
        "model.size",
        click.STRING,
        "NAME",
        "Of a new model: tiny, mini, small, medium, base or large.  [default: mini]",
    ),
    "--vocabulary": _Option(
        "model.vocabulary",
        click.STRING,
        "FILE",
        "A token a line.  [default: one trained on the text]",
    ),
    "--max-steps": _Option(
        "train.max_steps", _NUMBER, "N", "Optimizer steps.  [default: 10000]"
    ),
    "--batch-size": OPTIONS["--batch-size"],
    "--learning-rate": OPTIONS["--learning-rate"],
    "--max-length": _Option(
        "data.max_length",
        _NUMBER,
        "TOKENS",
        "Tokens an example, [CLS] and [SEP] included.  [default: 128]",
    ),
    "--precision": OPTIONS["--precision"],
    "--seed": _Option(
        "train.seed",
        _NUMBER,
        "N",
        "Of masks, pairs, order, dropout and new weights.  [default: 42]",
    ),
}


OPTIONS_OF = {"finetune": OPTIONS, "pretrain": PRETRAIN_OPTIONS}


def options_of_all() -> dict[str, _Option]:
    """The short options of every training command; the help says whose they are."""
    merged: dict[str, _Option] = {}
    for name in dict.fromkeys(name for known in OPTIONS_OF.values() for name in known):
        having = {c: known[name] for c, known in OPTIONS_OF.items() if name in known}
        helps = {option.help for option in having.values()}
        if len(having) < len(OPTIONS_OF) or len(helps) > 1:
            helps = {"; ".join(f"{c}: {o.help}" for c, o in having.items())}
        (text,) = helps
        merged[name] = next(iter(having.values()))._replace(help=text)
    return merged


set_option = click.option(
    "--set",
    "assignments",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    help="Any other setting (repeatable); `kbert config show --help` lists them.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="Number format of the computation.",
)


class _Duration(click.ParamType):
    """A time such as 90s, 9m or 1.5h; a number alone is seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value).strip())
        seconds = 0.0
        if found:
            number, unit = found.groups()
            seconds = float(number) * {"": 1, "s": 1, "m": 60, "h": 3600}[unit]
        if not 0 < seconds < 10**8:
            self.fail(f"{value!r} must be a time above 0, such as 90s, 9m or 1.5h.")
        return seconds


resume_option = click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on with a run that was stopped, in its folder and with its settings. "
    "Without RUN: with that of --output, which is begun where there is none.",
)

deterministic_option = click.option(
    "--deterministic",
    is_flag=True,
    default=None,
    help="The same run each time on a GPU too, slower. A CPU always gives the same.",
)

stop_after_option = click.option(
    "--stop-after",
    type=_Duration(),
    metavar="TIME",
    help="Stop after so long (90s, 9m, 1.5h), with a checkpoint for --resume and exit "
    "code 143, as at a SIGTERM.",
)


def run_to_resume(resume: str | None, output: Path | None) -> Path | None:
    """The run that `--resume` and `--output` ask to go on with; None for a new one."""
    if resume is None:
        return None
    if resume:
        if output is not None:
            raise click.UsageError(
                "--resume RUN goes on in the folder of RUN. Leave --output out."
            )
        return Path(resume)
    if output is None:
        raise click.UsageError("--resume needs a run: --resume RUN, or --output RUN.")
    return output if (output / "config.toml").exists() else None


def set_alarm(seconds: float | None) -> None:
    """Has the kernel send this process a SIGALRM after so long."""
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def training_options(
    options: Mapping[str, _Option] = OPTIONS,
) -> Callable[[Command], Command]:
    """Add `--config`, `--set` and short options to a click command.

    The command receives `config_file`, `assignments` and one argument an option,
    and hands them to `load_from_options`.

    Args:
        options: the short ones, by name; those of `kbert finetune` by default.
    """
    config_file = click.option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Settings in TOML; options and --set win over it.",
    )
    decorators = [
        click.option(name, type=option.kind, metavar=option.metavar, help=option.help)
        for name, option in options.items()
    ]

    def add(command: Command) -> Command:
        for decorate in reversed([config_file, *decorators, set_option]):
            command = decorate(command)
        return command

    return add


def argument_name(option: str) -> str:
    """The argument in which click hands an option to the command."""
    return option.removeprefix("--").replace("-", "_")


def load_from_options(
    config_class: type[Config],
    config_file: Path | None,
    assignments: Sequence[str],
    *,
    known: Mapping[str, _Option] = OPTIONS,
    settings: Mapping[str, Any] | None = None,
    resume: Path | None = None,
    **options: Any,
) -> Config:
    """Settings from what `training_options` received; ConfigError lists mistakes.

    Args:
        known: the short options, as given to `training_options`.
        settings: `section.key` -> value of what the command takes in another way.
        resume: a run, whose settings lie below all these.
    """
    from kbert.config import load_config
    from kbert.runs import find_config

    values = {
        option.setting: options[argument_name(name)] for name, option in known.items()
    }
    return load_config(
        config_class,
        base=None if resume is None else find_config(resume, config_class),
        file=config_file,
        assignments=assignments,
        options={**values, **(settings or {})},
        option_names={option.setting: name for name, option in known.items()},
    )
