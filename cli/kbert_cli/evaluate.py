"""`kbert evaluate`: a run and labelled texts in, metrics out."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kbert_cli.messages import show_messages
from kbert_cli.options import precision_option, set_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="SPEC",
    help="What to evaluate on.  [default: the run's test data, else its validation "
    "part]",
)
@click.option(
    "--split",
    metavar="NAME",
    help="A split of the data.  [default: the first of test, validation, train]",
)
@set_option
@precision_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    run: Path,
    data: str | None,
    split: str | None,
    assignments: Sequence[str],
    precision: str,
    as_json: bool,
) -> None:
    """Evaluate RUN on labelled texts; a pretrained one on text.

    For example:

    \b
    kbert evaluate runs/sample
    kbert evaluate runs/mine --data tfds:imdb_reviews --split test --json
    kbert evaluate runs/pretrained --data more_text.txt
    """
    from kbert.runs import open_run

    folder = open_run(run)
    show_messages()
    from kbert.workflows.evaluate import evaluate_run

    metrics, text = evaluate_run(
        folder,
        data=data,
        split=split,
        assignments=assignments,
        precision=precision,
        progress=sys.stderr,
    )
    click.echo(json.dumps(metrics, ensure_ascii=False) if as_json else text)
