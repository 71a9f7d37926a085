"""`kbert vocab`: text in, a WordPiece vocabulary out."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kbert_cli.messages import show_messages


@click.command()
@click.argument("sources", nargs=-1)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default=Path("vocab.txt"),
    show_default=True,
    help="The file to write, one token a line.",
)
@click.option(
    "--size",
    type=click.IntRange(6, 1_000_000),
    metavar="N",
    default=30_000,
    show_default=True,
    help="Most tokens, special tokens and characters included.",
)
@click.option("--cased", is_flag=True, help="Keep upper case, and accents.")
@click.option("--keep-accents", is_flag=True, help="Lower-case, but keep accents.")
@click.option(
    "--min-frequency",
    type=click.IntRange(min=1),
    metavar="N",
    default=2,
    show_default=True,
    help="Leave out characters and pieces that occur less often.",
)
@click.option(
    "--set",
    "assignments",
    metavar="data.KEY=VALUE",
    multiple=True,
    help="How SOURCES are read (repeatable): data.document (blank_line, line or file "
    "is what ends one), data.text, data.train_split, data.data_dir, "
    "data.encoding_errors, data.limit.",
)
def vocab(
    sources: Sequence[str],
    output: Path,
    size: int,
    cased: bool,
    keep_accents: bool,
    min_frequency: int,
    assignments: Sequence[str],
) -> None:
    """Train a WordPiece vocabulary on SOURCES.

    SOURCES are text files, tables (.csv .tsv .jsonl .parquet), each also compressed
    (.gz .bz2 .xz .zst), globs, folders, tfds:NAME[/CONFIG], or sample, the default.
    The same text always gives the same file. For example:

    \b
    kbert vocab corpus/*.txt --size 8000
    kbert vocab dump.jsonl.gz --set data.text=body --cased --output cased.txt
    kbert vocab tfds:imdb_reviews --set data.train_split=unsupervised

    `kbert pretrain` trains one by itself where none is given.
    """
    if cased and keep_accents:
        raise click.UsageError("--cased keeps accents too: leave --keep-accents out.")
    from kbert.config import load_config
    from kbert.pretrain_settings import VocabConfig

    config = load_config(
        VocabConfig,
        assignments=assignments,
        options={"data.sources": list(sources) or None},
        option_names={"data.sources": "SOURCES"},
    )
    show_messages()
    from kbert.workflows.vocab import make_vocabulary

    vocabulary = make_vocabulary(
        config.data,
        output,
        size=size,
        lowercase=not cased,
        strip_accents=not (cased or keep_accents),
        min_frequency=min_frequency,
        progress=sys.stderr,
    )
    click.echo(f"vocabulary: {output} ({len(vocabulary):,} tokens)")
    settings = list(assignments)
    if cased:
        settings.append("model.lowercase=false")
    if keep_accents:
        settings.append("model.strip_accents=false")
    click.echo("Try next:")
    click.echo(f"  {_next_command(sources, output, settings)}")


def _next_command(sources: Sequence[str], output: Path, settings: Sequence[str]) -> str:
    """The training that reads the same text and uses the vocabulary."""
    command = ["kbert", "pretrain", *sources, "--vocabulary", str(output)]
    for setting in settings:
        command += ["--set", setting]
    return shlex.join(command)
