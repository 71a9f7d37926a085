"""Which of Keras's backends can write a model for TensorFlow Serving."""

from kbert.errors import ExportError


def check_backend(name: str) -> None:
    """Checks the name of Keras's backend, before it is imported.

    Raises:
        ExportError: it is not TensorFlow's: the others need XLA on the server.
    """
    if name != "tensorflow":
        raise ExportError(
            f"Only Keras's TensorFlow backend exports. Received: KERAS_BACKEND={name}. "
            "A run is of no backend: run the same command with "
            "KERAS_BACKEND=tensorflow."
        )
