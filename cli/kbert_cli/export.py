"""`kbert export`: a run in, a version of a served model out."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kbert_cli.messages import show_messages
from kbert_cli.options import set_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.argument("output", type=click.Path(path_type=Path), required=False)
@click.option(
    "--version",
    type=int,
    metavar="N",
    help="The version's number.  [default: the next free one]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    help="Number format of the computation; outputs are float32.  [default: float32]",
)
@set_option
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Check an export, of a version or a model's latest, in place of writing one.",
)
def export(
    run: Path | None,
    output: Path | None,
    version: int | None,
    precision: str | None,
    assignments: Sequence[str],
    check: Path | None,
) -> None:
    """Export RUN to OUTPUT/VERSION for TensorFlow Serving.

    The model takes plain strings. Before it is published it is loaded again without
    Keras and kbert, and has to answer as the run does. For example:

    \b
    kbert export runs/sample saved_models/sample
    kbert export runs/mine saved_models/mine --version 7 --precision bfloat16
    kbert export runs/mine saved_models/mine --set export.max_batch_size=64
    kbert export --check saved_models/mine
    """
    if check is not None:
        if run or version is not None or precision or assignments:
            raise click.UsageError("--check DIR stands alone: it writes nothing.")
        _check(check)
        return
    if run is None or output is None:
        raise click.UsageError(
            "Give a run and the folder of a model, as in: "
            "kbert export runs/sample saved_models/sample"
        )
    from kbert.config import ExportConfig, load_config
    from kbert.exporting.backend import check_backend
    from kbert.exporting.versions import check_target
    from kbert.runs import open_run

    config = load_config(
        ExportConfig,
        assignments=assignments,
        options={"export.precision": precision},
        option_names={"export.precision": "--precision"},
    )
    check_backend(os.environ.get("KERAS_BACKEND", "tensorflow"))
    folder = open_run(run)
    check_target(output, version)
    show_messages()
    from kbert.workflows import export as workflow

    written = workflow.export(folder, output, version=version, settings=config.export)
    click.echo(
        f"the same answers as the run on {written.num_texts} texts: "
        f"largest difference {written.difference:.1e}"
    )
    for name, signature in written.signatures.items():
        inputs = ", ".join(spec.name for spec in signature.inputs)
        click.echo(f"signature {name}({inputs})")
    click.echo(f"export: {written.path}")
    click.echo("Try next:")
    click.echo(f"  kbert serve {shlex.quote(str(output))}")
    click.echo(f"  kbert export --check {shlex.quote(str(written.path))}")


def _check(folder: Path) -> None:
    show_messages()
    from kbert.workflows.export_check import check, format_points

    points = check(folder)
    click.echo(format_points(points))
    if any(point.status == "fail" for point in points):
        sys.exit(1)
