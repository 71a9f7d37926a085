"""`kbert`: the command line. Parses, calls kbert, prints."""

import errno
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

import kbert
from kbert.errors import Interrupted, TrainingError, UserError
from kbert_cli.bench import bench
from kbert_cli.config import config
from kbert_cli.evaluate import evaluate
from kbert_cli.export import export
from kbert_cli.finetune import finetune
from kbert_cli.predict import predict
from kbert_cli.presets import presets
from kbert_cli.pretrain import pretrain
from kbert_cli.serve import serve
from kbert_cli.vocab import vocab

_MISTAKE, _FAILURE = 2, 1
# What a disk answers without always naming the file.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_ERRORS = (*_FULL, errno.EIO, errno.EROFS)


class _Terminated(KeyboardInterrupt):
    """A SIGTERM; like a Ctrl-C, so that whatever tidies up for one does for both."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kbert.__version__, package_name="kbert")
def cli() -> None:
    """From text to a served BERT, one command a step.

    \b
    Try it:  kbert finetune
    Then:    kbert finetune --preset bert_base_en --data mine.csv
    """


for _command in (
    finetune,
    pretrain,
    evaluate,
    predict,
    export,
    serve,
    bench,
    presets,
    vocab,
    config,
):
    cli.add_command(_command)


def main() -> None:
    """Runs a command; every foreseeable end is one message and an exit code.

    0 done, 2 a mistake in the command or its input, 1 anything else, 130 and 143
    for an interrupt and a termination.
    """
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGALRM, _terminate)  # of --stop-after
    try:
        cli.main(prog_name="kbert", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        _fail(str(error), _MISTAKE)
    except TrainingError as error:
        _fail(str(error), _FAILURE)
    except click.Abort as error:
        # Click has made one of a KeyboardInterrupt.
        reason = f": {error.__cause__}" if str(error.__cause__ or "") else ""
        click.echo(f"Interrupted{reason}", err=True)
        sys.exit(128 + _signal_behind(error.__cause__))
    except BrokenPipeError:
        # The reader of the output has gone; what is still buffered has no place.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_FAILURE)
    except OSError as error:
        if error.filename is None and error.errno not in _DISK_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        mend = ". Make room and try again." if error.errno in _FULL else ""
        _fail(f"{where}{error.strerror}{mend}", _FAILURE)


def _signal_behind(cause: BaseException | None) -> int:
    if isinstance(cause, Interrupted) and cause.signal_number != signal.SIGALRM:
        return cause.signal_number
    by_clock_or_signal = isinstance(cause, _Terminated | Interrupted)
    return signal.SIGTERM if by_clock_or_signal else signal.SIGINT


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    if number == signal.SIGALRM:
        # While it trains, the training itself says how far it was.
        raise _Terminated("the time of --stop-after is over")
    raise _Terminated


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
