"""`kbert bench`: how fast kbert is on this machine, beside the machine's own limit."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from kbert_cli.messages import show_log, show_messages
from kbert_cli.options import (
    OPTIONS,
    PRETRAIN_OPTIONS,
    load_from_options,
    precision_option,
)

Command = TypeVar("Command", bound=Callable[..., Any])

_LENGTH = OPTIONS["--max-length"]._replace(
    help="Tokens a row, [CLS] and [SEP] included; no padding.  "
    "[default: 128, or the preset's limit if smaller]"
)
_PRESET = {"--preset": OPTIONS["--preset"]}
_SHAPE = {"--batch-size": OPTIONS["--batch-size"], "--length": _LENGTH}
_PRECISION = {"--precision": OPTIONS["--precision"]}
_FINETUNE = _PRESET | _SHAPE | _PRECISION
_PRETRAIN = {
    "--preset": PRETRAIN_OPTIONS["--preset"],
    "--size": PRETRAIN_OPTIONS["--size"],
    **_SHAPE,
    **_PRECISION,
}
_TOKENIZE = _PRESET | {
    "--data": OPTIONS["--data"]._replace(
        help="Texts: a table (.csv .tsv .jsonl .parquet), lines (.txt), a folder, "
        "tfds:NAME[/CONFIG] or sample; of a large one the first 4 MB.  "
        "[default: sample]"
    )
}

_MAKE_AN_EXPORT = (
    "`kbert bench serve` takes an export, or --url URL of a server that runs. Make one "
    "with: kbert finetune --output runs/sample && kbert export runs/sample "
    "saved_models/sample"
)


class Speed(Protocol):
    """What a measurement gives."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""

    def rows(self) -> Sequence[tuple[str, str]]:
        """For people."""


def _options(known: Mapping[str, Any]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for name, option in reversed([*known.items()]):
            decorate = click.option(
                name, type=option.kind, metavar=option.metavar, help=option.help
            )
            command = decorate(command)
        return command

    return add


def _steps_option(default: int, counted: str) -> Callable[[Command], Command]:
    return click.option(
        "--steps",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        metavar="N",
        help=f"{counted} that count; others go before them, to warm up.",
    )


_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object."
)


@click.group()
def bench() -> None:
    """Measure kbert's speed on this machine."""


@bench.command("finetune")
@_options(_FINETUNE)
@_steps_option(20, "Steps")
@_json_option
def bench_finetune(steps: int, as_json: bool, **options: Any) -> None:
    """Measure training steps of `kbert finetune` on random tokens.

    Says how many tokens it trains on a second, and which share that is of the matrix
    products that this machine can compute. For example:

    \b
    kbert bench finetune
    kbert bench finetune --preset bert_base_en --batch-size 16 --length 256
    """
    from kbert.settings import FinetuneConfig

    config = load_from_options(FinetuneConfig, None, (), known=_FINETUNE, **options)
    show_messages()
    from kbert.workflows.benching.models import finetuning
    from kbert.workflows.benching.speed import WARM_UP_STEPS, measure

    workload = finetuning(config, num_steps=WARM_UP_STEPS + steps)
    _show(measure(workload, steps, sys.stderr), as_json)


@bench.command("pretrain")
@_options(_PRETRAIN)
@_steps_option(20, "Steps")
@_json_option
def bench_pretrain(steps: int, as_json: bool, **options: Any) -> None:
    """Measure training steps of `kbert pretrain` on random tokens.

    Masking is part of a step. For example:

    \b
    kbert bench pretrain --size base --batch-size 16
    kbert bench pretrain --preset bert_base_en --precision float32
    """
    from kbert.pretrain_settings import PretrainConfig

    config = load_from_options(PretrainConfig, None, (), known=_PRETRAIN, **options)
    show_messages()
    from kbert.workflows.benching.pretraining import pretraining
    from kbert.workflows.benching.speed import WARM_UP_STEPS, measure

    workload = pretraining(config, num_steps=WARM_UP_STEPS + steps)
    _show(measure(workload, steps, sys.stderr), as_json)


@bench.command("predict")
@_options(_PRESET | _SHAPE)
@precision_option
@_steps_option(20, "Steps")
@_json_option
def bench_predict(steps: int, as_json: bool, **options: Any) -> None:
    """Measure forward passes of `kbert predict` on random tokens.

    Tokenizing is left out: `kbert bench tokenize`. For example:

    \b
    kbert bench predict --preset bert_base_en --batch-size 1
    """
    from kbert.settings import FinetuneConfig

    config = load_from_options(FinetuneConfig, None, (), known=_FINETUNE, **options)
    show_messages()
    from kbert.workflows.benching.models import predicting
    from kbert.workflows.benching.speed import measure

    _show(measure(predicting(config), steps, sys.stderr), as_json)


@bench.command("tokenize")
@_options(_TOKENIZE)
@click.option(
    "--set",
    "assignments",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    help="How to read and tokenize (repeatable), as data.text=COLUMN, data.limit=N, "
    "data.max_length=N, model.lowercase=false.",
)
@_steps_option(5, "Passes over the texts")
@_json_option
def bench_tokenize(
    assignments: Sequence[str], steps: int, as_json: bool, **options: Any
) -> None:
    """Measure the tokenizer as the reading of training data has it.

    For example:

    \b
    kbert bench tokenize
    kbert bench tokenize --preset bert_base_en --data reviews.csv
    """
    from kbert.settings import FinetuneConfig

    config = load_from_options(
        FinetuneConfig, None, assignments, known=_TOKENIZE, **options
    )
    show_messages()
    from kbert.workflows.benching.tokenizing import check_effect, measure_tokenizer

    check_effect(assignments)
    _show(measure_tokenizer(config, num_passes=steps, progress=sys.stderr), as_json)


@bench.command("serve")
@click.argument("export", required=False, type=click.Path(path_type=Path))
@click.option("--url", metavar="URL", help="Ask a server that runs, as kbert predict.")
@click.option(
    "--length",
    type=int,
    metavar="TOKENS",
    help="Tokens a request, [CLS] and [SEP] included.  [default: 128, or what the "
    "export cuts at if smaller]",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Requests at the same time.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="S",
    help="How long to ask.",
)
@_json_option
def bench_serve(
    export: Path | None,
    url: str | None,
    length: int | None,
    connections: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure requests to the server of EXPORT, one text each.

    It is started for the time of the measurement, as `kbert serve` would, unless --url
    names one that runs, TensorFlow Serving too. For example:

    \b
    kbert bench serve saved_models/reviews --connections 8
    kbert bench serve --url http://localhost:8501/v1/models/reviews --length 64
    """
    from kbert.errors import ConfigError

    if export is not None and url is not None:
        raise ConfigError("Give an export or --url, not both.")
    if export is None and url is None:
        raise ConfigError(_MAKE_AN_EXPORT)
    if url is not None and url.startswith("grpc"):
        show_messages()  # gRPC's messages import TensorFlow
    else:
        show_log()
    from kbert.workflows.benching import serving

    load: dict[str, Any] = {"connections": connections, "seconds": seconds}
    load["progress"] = sys.stderr
    if url is None:
        assert export is not None
        _show(serving.measure_export(export, length=length, **load), as_json)
    else:
        length = serving.DEFAULT_LENGTH if length is None else length
        _show(serving.measure_url(url, length=length, **load), as_json)


def _show(speed: Speed, as_json: bool) -> None:
    from kbert.display import align_columns

    if as_json:
        click.echo(json.dumps(speed.to_dict(), ensure_ascii=False))
        return
    for line in align_columns(speed.rows(), num_left=2):
        click.echo(line)
