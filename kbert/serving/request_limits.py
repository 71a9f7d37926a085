"""How much one request may ask for, beside the size of its body.

A body of a few megabytes can hold a million short texts, each of which becomes a row of
every layer's activations; and tokenizing takes time with the length of a text, though
all but its ends is cut off.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kbert.serving.status import Code, StatusError


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """Limits of one request.

    Attributes:
        max_rows: of each input: texts, examples.
        max_text_bytes: of each text or serialized example.
    """

    max_rows: int = 1024
    max_text_bytes: int = 1 << 20

    def check(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Checks inputs, each [B, ...].

        Raises:
            StatusError: INVALID_ARGUMENT, there are more rows or longer texts.
        """
        for name, array in inputs.items():
            if array.ndim and len(array) > self.max_rows:
                raise StatusError(
                    Code.INVALID_ARGUMENT,
                    f"Input {name} has {len(array)} rows, more than this server's "
                    f"limit of {self.max_rows}; send fewer a request",
                )
            if array.dtype == object:
                longest = max(map(_num_bytes, array.flat), default=0)
                if longest > self.max_text_bytes:
                    raise StatusError(
                        Code.INVALID_ARGUMENT,
                        f"Input {name} has a text of {longest} bytes, more than this "
                        f"server's limit of {self.max_text_bytes}; send its beginning",
                    )


DEFAULT_LIMITS = RequestLimits()


def _num_bytes(text: object) -> int:
    return len(text) if isinstance(text, bytes | str) else 0
