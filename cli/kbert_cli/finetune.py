"""`kbert finetune`: labelled texts in, a run out."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kbert_cli.compiled import keep_compiled
from kbert_cli.heap import share_one_heap
from kbert_cli.messages import show_messages
from kbert_cli.options import (
    deterministic_option,
    load_from_options,
    resume_option,
    run_to_resume,
    set_alarm,
    stop_after_option,
    training_options,
)

_SAMPLE_TEXT = "A wonderful film, I loved every minute of it."


@click.command()
@training_options()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run folder.  [default: a free one under runs/]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Build everything, run two steps, say time and memory of the whole.",
)
@resume_option
@deterministic_option
@stop_after_option
def finetune(
    config_file: Path | None,
    assignments: Sequence[str],
    output: Path | None,
    dry_run: bool,
    resume: str | None,
    deterministic: bool | None,
    stop_after: float | None,
    **options: Any,
) -> None:
    """Fine-tune a BERT on labelled texts.

    Without arguments it trains the embedded sample, in under a minute and
    without a network. For example:

    \b
    kbert finetune --preset bert_base_en --data tfds:imdb_reviews
    kbert finetune --preset bert_base_en --data reviews.csv \\
        --set data.text=review --set data.label=stars
    kbert finetune --resume runs/imdb_reviews-bert_base_en
    """
    if dry_run and resume is not None:
        raise click.UsageError("--dry-run and --resume exclude each other.")
    set_alarm(stop_after)
    run_before = run_to_resume(resume, output)
    from kbert.settings import FinetuneConfig

    config = load_from_options(
        FinetuneConfig,
        config_file,
        assignments,
        settings={"train.deterministic": deterministic},
        resume=run_before,
        **options,
    )
    share_one_heap()
    show_messages()
    keep_compiled()
    from kbert.workflows import finetune as workflow

    if dry_run:
        click.echo(workflow.estimate(config, output=output).summary())
        return
    run = workflow.finetune(
        config, output=output, progress=sys.stderr, resume=run_before
    )
    from kbert.tasks import task_from_dict

    values = run.read_task()
    task = task_from_dict(values, str(run.task_file))
    click.echo(task.format_splits(run.read_metrics()))
    click.echo(f"run: {run.path}")
    path = shlex.quote(str(run.path))
    texts = _SAMPLE_TEXT if config.data.source == "sample" else "YOUR TEXT"
    given = "--input YOUR_FILE.csv" if values["is_paired"] else shlex.quote(texts)
    click.echo("Try next:")
    click.echo(f"  kbert predict {path} {given}")
    click.echo(f"  kbert evaluate {path}")
    if config.model.preset == "sample":
        click.echo("  kbert finetune --preset bert_base_en --data YOUR_FILE.csv")
