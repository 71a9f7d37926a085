"""`kbert pretrain`: text in, a run with a preset out."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbert_cli.compiled import keep_compiled
from kbert_cli.heap import share_one_heap
from kbert_cli.messages import show_messages
from kbert_cli.options import (
    PRETRAIN_OPTIONS,
    deterministic_option,
    load_from_options,
    resume_option,
    run_to_resume,
    set_alarm,
    stop_after_option,
    training_options,
)

if TYPE_CHECKING:
    from kbert.pretrain_settings import PretrainConfig

_SHOWN = (
    "masked_lm_loss",
    "masked_lm_accuracy",
    "perplexity",
    "next_sentence_accuracy",
)


@click.command()
@click.argument("sources", nargs=-1)
@training_options(PRETRAIN_OPTIONS)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run folder, or with --prepare-only the prepared one.  [default: a free "
    "one under runs/, or prepared/TEXT]",
)
@click.option(
    "--prepare-only",
    is_flag=True,
    help="Make the examples once, into a folder to train on later; the same command "
    "goes on where it was stopped.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Build everything, run two steps, say time and memory of the whole.",
)
@resume_option
@deterministic_option
@stop_after_option
def pretrain(
    sources: Sequence[str],
    config_file: Path | None,
    assignments: Sequence[str],
    output: Path | None,
    prepare_only: bool,
    dry_run: bool,
    resume: str | None,
    deterministic: bool | None,
    stop_after: float | None,
    **options: Any,
) -> None:
    """Train a BERT on the text of SOURCES, or adapt one to it with --preset.

    SOURCES are text files, tables (.csv .tsv .jsonl .parquet), each also compressed
    (.gz .bz2 .xz .zst), globs, folders, tfds:NAME[/CONFIG], a folder that
    --prepare-only wrote, or sample, the default. In plain text a blank line ends a
    document. For example:

    \b
    kbert pretrain corpus/*.txt --size small --max-steps 20000
    kbert pretrain corpus/*.txt --preset bert_base_en --max-steps 5000
    kbert pretrain corpus/*.txt --prepare-only --output prepared/corpus
    kbert pretrain prepared/corpus --size base
    kbert pretrain --resume runs/corpus-base
    """
    if prepare_only and dry_run:
        raise click.UsageError("--prepare-only and --dry-run exclude each other.")
    if resume is not None and (dry_run or prepare_only):
        which = "--dry-run" if dry_run else "--prepare-only"
        raise click.UsageError(f"{which} and --resume exclude each other.")
    set_alarm(stop_after)
    run_before = run_to_resume(resume, output)
    from kbert.pretrain_settings import PretrainConfig

    config = load_from_options(
        PretrainConfig,
        config_file,
        assignments,
        known=PRETRAIN_OPTIONS,
        settings={
            "data.sources": list(sources) or None,
            "train.deterministic": deterministic,
        },
        resume=run_before,
        **options,
    )
    share_one_heap()
    show_messages()
    keep_compiled()
    from kbert.workflows import pretrain as workflow

    if prepare_only:
        _prepare(config, output)
    elif dry_run:
        click.echo(workflow.estimate(config, output=output).summary())
    else:
        run = workflow.pretrain(
            config, output=output, progress=sys.stderr, resume=run_before
        )
        metrics = run.read_metrics()["validation"]
        for name in _SHOWN:
            if name in metrics:
                click.echo(f"{name.replace('_', ' '):<24}{metrics[name]:.4f}")
        click.echo(f"run: {run.path}")
        path = shlex.quote(str(run.path))
        click.echo("Try next:")
        click.echo(f"  kbert predict {path} 'YOUR TEXT with a [MASK] in it.'")
        click.echo(f"  kbert finetune --preset {path} --data YOUR_FILE.csv")


def _prepare(config: "PretrainConfig", output: Path | None) -> None:
    from kbert.workflows.pretraining.preparing import prepare_only

    prepared = prepare_only(config, output, sys.stderr)
    lengths = " and ".join(map(str, prepared.lengths))
    click.echo(
        f"prepared: {prepared.folder} ({prepared.num_examples:,} examples of at most "
        f"{lengths} tokens)"
    )
    click.echo("Try next:")
    click.echo(f"  kbert pretrain {shlex.quote(str(prepared.folder))}")
