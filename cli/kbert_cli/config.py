"""`kbert config`: look at the settings before running."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbert_cli.options import (
    OPTIONS_OF,
    argument_name,
    load_from_options,
    options_of_all,
    training_options,
)

if TYPE_CHECKING:
    from kbert.settings import Settings


# What a command has in place of an option of the other.
_MENDS = {
    ("pretrain", "--epochs"): "Use --max-steps",
    ("pretrain", "--data"): "Use --set data.sources='[\"FILE\"]'",
    ("finetune", "--max-steps"): "Use --set train.max_steps=N",
}


class _ListsSettings(click.Command):
    """A command whose help ends with lists of all settings."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from kbert.settings import describe_settings

        for name, config_class in _config_classes().items():
            rows = []
            for setting in describe_settings(config_class):
                default = "not set" if setting.default is None else str(setting.default)
                rows.append(
                    (setting.key, f"{setting.description}: {setting.type} [{default}]")
                )
            with formatter.section(f"Settings of kbert {name} [default]"):
                formatter.write_dl(rows)


def _config_classes() -> dict[str, type["Settings"]]:
    from kbert.pretrain_settings import PretrainConfig
    from kbert.settings import FinetuneConfig

    return {"finetune": FinetuneConfig, "pretrain": PretrainConfig}


@click.group("config")
def config() -> None:
    """Show the settings that a command would use."""


@config.command("show", cls=_ListsSettings)
@click.option(
    "--for",
    "command",
    type=click.Choice(list(OPTIONS_OF)),
    default="finetune",
    show_default=True,
    help="Whose settings.",
)
@training_options(options_of_all())
def show(
    command: str,
    config_file: Path | None,
    assignments: Sequence[str],
    **options: Any,
) -> None:
    """Print the settings of a training command as TOML.

    As they come out of options, --set, file and defaults. What only the preset and
    the machine decide stays open here (`auto`, `not set`), and is listed at the end;
    a run's config.toml holds what was decided. Takes the options of the training
    commands, for example:

    \b
    kbert config show --config my.toml --set train.epochs=1
    kbert config show --for pretrain --size small --set data.short_length=64
    """
    from kbert.config import config_to_toml

    config_class = _config_classes()[command]
    _refuse_others(command, options)
    settings = load_from_options(
        config_class, config_file, assignments, known=OPTIONS_OF[command], **options
    )
    click.echo(config_to_toml(settings, comments=True), nl=False)
    if still_open := list(_still_open(settings)):
        click.echo(
            "\n# Decided when the preset and the machine are known; a run's "
            f"config.toml holds the values:\n# {', '.join(still_open)}"
        )


def _refuse_others(command: str, options: Mapping[str, Any]) -> None:
    """Refuses the options that are another command's alone."""
    for name in options_of_all():
        if name in OPTIONS_OF[command] or options[argument_name(name)] is None:
            continue
        other = next(c for c, known in OPTIONS_OF.items() if name in known)
        mend = _MENDS.get((command, name), "Leave it out")
        raise click.UsageError(
            f"{name} is an option of kbert {other}, and kbert {command} has none of "
            f"that name. {mend}, or use --for {other}."
        )


def _still_open(config: "Settings") -> Iterator[str]:
    """The settings that a training decides by preset and machine."""
    sections = dict(config)
    if sections["data"].max_length is None:
        yield "data.max_length"
    for name, value in sections["train"]:
        if value == "auto":
            yield f"train.{name}"
