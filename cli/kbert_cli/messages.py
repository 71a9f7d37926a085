"""What the person at the terminal sees of what goes on inside."""

import logging
import os
import sys
import tempfile

import click

from kbert_cli.hidden_modules import hidden

# Keras imports them for a wrapper and for plots that no command uses: a quarter of its
# time to import, and 60 MB. Where kbert itself needs them, it does so later.
_UNUSED = ("sklearn", "matplotlib")


class _ToStderr(logging.Handler):
    """Information as it is; from a warning up, with its level in front."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.capitalize()}: {text}"
        click.echo(text, err=True)


def show_messages() -> None:
    """Sends kbert's log to stderr; called once by each command that works.

    It also imports TensorFlow, whose start-up notes about CPU instructions and
    missing GPU drivers are not for the user of a finished program.
    """
    import_tensorflow_quietly()
    show_log()


def show_log() -> None:
    """Sends kbert's log to stderr, for a command that needs no TensorFlow."""
    logger = logging.getLogger("kbert")
    if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
        logger.addHandler(_ToStderr())
    logger.setLevel(logging.INFO)
    # Other packages install handlers of their own on the root logger.
    logger.propagate = False


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow and finds its devices, stderr put aside meanwhile.

    It writes there before it can be told not to. What it wrote is shown only if
    the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            with hidden(*_UNUSED):
                import tensorflow as tf  # and Keras with it

            tf.config.list_physical_devices()
        except BaseException:
            aside.seek(0)
            os.write(original, aside.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
