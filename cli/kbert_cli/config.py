"""`kbert config`: look at the settings before running."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kbert_cli.options import load_from_options, training_options


class _ListsSettings(click.Command):
    """A command whose help ends with a list of all settings."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from kbert.settings import FinetuneConfig, describe_settings

        rows = []
        for setting in describe_settings(FinetuneConfig):
            default = "not set" if setting.default is None else str(setting.default)
            rows.append(
                (setting.key, f"{setting.description}: {setting.type} [{default}]")
            )
        with formatter.section("Settings [default]"):
            formatter.write_dl(rows)


@click.group("config")
def config() -> None:
    """Show the settings that a command would use."""


@config.command("show", cls=_ListsSettings)
@training_options
def show(config_file: Path | None, assignments: Sequence[str], **options: Any) -> None:
    """Print the resolved settings of `kbert finetune` as TOML.

    Takes the options of the training commands, for example:
    kbert config show --config my.toml --set train.epochs=1
    """
    from kbert.config import config_to_toml
    from kbert.settings import FinetuneConfig

    settings = load_from_options(FinetuneConfig, config_file, assignments, **options)
    click.echo(config_to_toml(settings, comments=True), nl=False)
