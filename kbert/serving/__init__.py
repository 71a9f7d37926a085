"""The development server, and a client for it and for TF Serving.

    from kbert.serving import Client

Importing this is cheap, and using the client over REST needs no TensorFlow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbert.serving.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from kbert.serving.client import Client

        return Client
    raise AttributeError(f"module 'kbert.serving' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
