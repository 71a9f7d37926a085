"""`kbert evaluate`: a run and labelled texts in, metrics out."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kbert_cli.messages import show_messages
from kbert_cli.options import precision_option, set_option

if TYPE_CHECKING:
    from kbert.runs import RunFolder


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
    metrics, text = _evaluate(folder, data, split, assignments, precision)
    click.echo(json.dumps(metrics, ensure_ascii=False) if as_json else text)


def _evaluate(
    run: "RunFolder",
    data: str | None,
    split: str | None,
    assignments: Sequence[str],
    precision: str,
) -> tuple[dict[str, Any], str]:
    """The metrics, and the same as text for people."""
    from kbert.tasks import is_pretrained
    from kbert.workflows.evaluate import evaluate as workflow
    from kbert.workflows.predictor import Predictor
    from kbert.workflows.pretraining.evaluation import (
        evaluate_pretrained,
        format_pretraining_metrics,
    )

    reading: dict[str, Any] = {"data": data, "split": split, "assignments": assignments}
    if is_pretrained(run.read_task()):
        metrics = evaluate_pretrained(
            run, **reading, precision=precision, progress=sys.stderr
        )
        return metrics, format_pretraining_metrics(metrics)
    predictor = Predictor(run, precision=precision)
    metrics = workflow(predictor, **reading, progress=sys.stderr)
    return metrics, predictor.task.format_metrics(metrics)
