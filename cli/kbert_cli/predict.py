"""`kbert predict`: a run and texts in, JSON lines out."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from kbert_cli.messages import show_messages
from kbert_cli.options import precision_option, set_option


class _TakesTexts(click.Command):
    """A command whose arguments may begin with a dash, and then look like options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = (
                "Before texts that begin with a dash put --, as in: "
                'kbert predict RUN -- "-5 stars"'
            )
            raise click.NoSuchOption(
                error.option_name,
                f"{error.format_message()} {hint}",
                ctx=ctx,
            ) from None


@click.command(cls=_TakesTexts)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1)
@click.option(
    "--input",
    "input_file",
    metavar="FILE|-",
    help="A text a line (.txt, or - for standard input), or a table with the run's "
    "columns (.csv .tsv .jsonl .parquet); also .gz.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write.  [default: standard output]",
)
@set_option
@precision_option
def predict(
    run: Path,
    texts: Sequence[str],
    input_file: str | None,
    output: Path | None,
    assignments: Sequence[str],
    precision: str,
) -> None:
    """Predict with RUN; print a JSON object for each text, in order.

    For example:

    \b
    kbert predict runs/sample "A wonderful film." "Never again."
    kbert predict runs/sample --input reviews.txt --output answers.jsonl
    kbert predict runs/sample -- "-5 stars" "-- never again"

    Before texts that begin with a dash stands --, as in the last line.
    """
    if bool(texts) == bool(input_file):
        raise click.UsageError("Give texts, or --input FILE, and not both.")
    if texts and assignments:
        raise click.UsageError("--set says how --input is read; texts need none.")
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no such folder.")
    from kbert.runs import open_run

    folder = open_run(run)
    if input_file not in (None, "-") and not Path(str(input_file)).exists():
        raise click.UsageError(f"--input {input_file}: there is no such file.")
    show_messages()
    from kbert.files import write_atomically
    from kbert.workflows.predict import read_texts
    from kbert.workflows.predictor import Predictor

    predictor = Predictor(folder, precision=precision)
    if input_file is not None:
        source = sys.stdin.buffer if input_file == "-" else Path(input_file)
        texts = read_texts(source, predictor, assignments=assignments)  # type: ignore[assignment]
    answers = predictor.answers(texts)
    if output is None:
        _write(answers, sys.stdout.buffer)
        return
    with write_atomically(output) as temporary, temporary.open("wb") as file:
        _write(answers, file)


def _write(answers: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
    for answer in answers:
        line = json.dumps(answer, ensure_ascii=False) + "\n"
        # UTF-8 has no lone surrogates; Python's escape for one is also JSON's.
        stream.write(line.encode("utf-8", "backslashreplace"))
    stream.flush()
