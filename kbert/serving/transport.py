"""What the client asks of REST and gRPC alike."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kbert.serving.addresses import GRPC_FORM, REST_FORM, Address

# By input or output name, a row a text.
Inputs = Mapping[str, Sequence[bytes]]
Outputs = Mapping[str, Sequence[Any]]


class Transport(Protocol):
    """Sends one request at a time, once; it may be used from several threads.

    Every method that sends raises:
        TransientError: the same request may succeed later.
        TooLargeError: a smaller one may succeed.
        ServingError: neither.
    """

    def metadata(self, timeout: float) -> dict[str, Any]:
        """The model's metadata, in the form of REST."""

    def status(self, timeout: float) -> list[dict[str, Any]]:
        """Number, state and error of each version, as REST gives them."""

    def predict(
        self, signature_name: str, inputs: Inputs, timeout: float
    ) -> dict[str, Any]:
        """The outputs of a signature, strings as str; not checked any further."""

    def class_names(
        self, signature_name: str, example: Mapping[str, bytes], timeout: float
    ) -> list[str]:
        """The classes in the order of a signature that classifies."""

    def close(self) -> None:
        """Ends what is under way and closes the connections."""


def no_server(address: Address, reason: str) -> str:
    """The message about an address where nothing listens."""
    return (
        f"No server answers at {address.origin}: {reason}. Start one with "
        "`kbert serve saved_models/NAME`, which opens its ports when the model is "
        "loaded, or mend the host and port of the URL."
    )


def no_model(address: Address, said: str) -> str:
    """The message about a model that the server does not have."""
    form = GRPC_FORM if address.is_grpc else REST_FORM
    return (
        f"{address} is not found on the server, which says: {said}. The URL of a "
        f"model is {form}."
    )
