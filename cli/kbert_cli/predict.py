"""`kbert predict`: a run, or a server, and texts in, JSON lines out."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from kbert_cli.messages import show_log, show_messages
from kbert_cli.options import precision_option, set_option

if TYPE_CHECKING:
    from kbert.serving import Client


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
@click.argument("run_and_texts", nargs=-1, metavar="RUN [TEXTS]...")
@click.option(
    "--url",
    metavar="URL",
    help="Ask a server in place of a run, whose argument is then left out: "
    "http://HOST:8501/v1/models/NAME[/versions/N|/labels/LABEL], or "
    "grpc://HOST:8500/NAME.",
)
@click.option(
    "--input",
    "input_file",
    metavar="FILE|-",
    help="A text a line (.txt, or - for standard input), or a table with the run's "
    "columns (.csv .tsv .jsonl .parquet); each also .gz .bz2 .xz .zst.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write.  [default: standard output]",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    metavar="N",
    help="With a pretrained run: tokens to propose for each [MASK].  [default: 5]",
)
@set_option
@precision_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="With --url: for a request, its repetitions included.  [default: 60]",
)
@click.option(
    "--timings",
    is_flag=True,
    help="With --url: print how long requests took, on standard error.",
)
@click.pass_context
def predict(
    context: click.Context,
    run_and_texts: Sequence[str],
    url: str | None,
    input_file: str | None,
    output: Path | None,
    top_k: int | None,
    assignments: Sequence[str],
    precision: str,
    timeout: float | None,
    timings: bool,
) -> None:
    """Predict with RUN, or a server; print a JSON object for each text, in order.

    For example:

    \b
    kbert predict runs/sample "A wonderful film." "Never again."
    kbert predict runs/sample --input reviews.txt --output answers.jsonl
    kbert predict runs/sample -- "-5 stars" "-- never again"
    kbert predict --url http://localhost:8501/v1/models/imdb "A wonderful film."
    kbert predict runs/pretrained "Paris is the [MASK] of France." --top-k 3

    Before texts that begin with a dash stands --, as in the third line.
    """
    _check_belongs_to_url(context, url)
    texts = run_and_texts if url else run_and_texts[1:]
    if not url and not run_and_texts:
        raise click.UsageError("Missing argument 'RUN', or --url URL in its place.")
    if bool(texts) == bool(input_file):
        raise click.UsageError("Give texts, or --input FILE, and not both.")
    if texts and assignments:
        raise click.UsageError("--set says how --input is read; texts need none.")
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no such folder.")
    source = _input_source(input_file)
    if url:
        with _open_client(url, timeout) as client:
            _write_all(_ask(client, source, texts, assignments), output)
            if timings:
                click.echo(client.latencies.summary(), err=True)
    else:
        run = Path(run_and_texts[0])
        answers = _apply(run, source, texts, assignments, precision, top_k)
        _write_all(answers, output)


def _check_belongs_to_url(context: click.Context, url: str | None) -> None:
    """Refuses the options that would have no effect."""
    without_effect = {
        "precision": "--precision has no effect with --url: an export has its own.",
        "top_k": "--top-k has no effect with --url: it is for pretrained runs.",
    }
    of_url = {
        "timeout": "--timeout has an effect with --url only.",
        "timings": "--timings has an effect with --url only.",
    }
    for name, message in (without_effect if url else of_url).items():
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(message)


def _input_source(input_file: str | None) -> Path | BinaryIO | None:
    if input_file is None:
        return None
    if input_file == "-":
        return sys.stdin.buffer
    if not Path(input_file).exists():
        raise click.UsageError(f"--input {input_file}: there is no such file.")
    return Path(input_file)


def _apply(
    run: Path,
    source: Path | BinaryIO | None,
    texts: Iterable[Any],
    assignments: Sequence[str],
    precision: str,
    top_k: int | None,
) -> Iterator[dict[str, Any]]:
    """The answers of a run."""
    from kbert.runs import open_run

    folder = open_run(run)
    show_messages()
    from kbert.workflows.predict import read_texts, read_texts_to_fill
    from kbert.workflows.predictor import Predictor, open_predictor

    predictor = open_predictor(folder, precision=precision, top_k=top_k)
    if source is not None:
        if isinstance(predictor, Predictor):
            texts = read_texts(source, predictor, assignments=assignments)
        else:
            texts = read_texts_to_fill(source, predictor, assignments=assignments)
    return predictor.answers(texts)


def _open_client(url: str, timeout: float | None) -> "Client":
    if url.startswith("grpc"):
        show_messages()  # gRPC's messages import TensorFlow
    else:
        show_log()
    from kbert.serving import Client

    return Client(url) if timeout is None else Client(url, timeout=timeout)


def _ask(
    client: "Client",
    source: Path | BinaryIO | None,
    texts: Iterable[Any],
    assignments: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """The answers of a server."""
    from kbert.workflows.predict import read_texts_to_send

    if source is not None:
        texts = read_texts_to_send(
            source, is_paired=client.is_paired, assignments=assignments
        )
    return client.answers(texts)


def _write_all(answers: Iterable[dict[str, Any]], output: Path | None) -> None:
    from kbert.files import write_atomically

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
