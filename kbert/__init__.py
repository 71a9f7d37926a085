"""kbert: from text to a served BERT, on Keras and TensorFlow.

    import kbert

    run = kbert.finetune(preset="bert_base_en", data="tfds:imdb_reviews", epochs=1)
    run.predict(["A wonderful film."])

Importing kbert is cheap: TensorFlow and Keras are imported at the first use.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kbert.workflows.api import Run, finetune, load, pretrain

__all__ = ["Run", "__version__", "finetune", "load", "pretrain"]


def __getattr__(name: str) -> Any:
    if name in ("Run", "finetune", "load", "pretrain"):
        from kbert.workflows import api

        return getattr(api, name)
    raise AttributeError(f"module 'kbert' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
