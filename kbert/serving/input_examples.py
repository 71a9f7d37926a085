"""The tf.Examples of a Classify or Regress request (input.proto)."""

from collections.abc import Sequence
from typing import Any

from tensorflow_serving.apis import input_pb2

from kbert.serving.status import Code, StatusError


def serialized_examples(request_input: input_pb2.Input) -> list[bytes]:
    """The tf.Examples of a request, each with the features of its context.

    Raises:
        StatusError: INVALID_ARGUMENT, there are none.
    """
    kind = request_input.WhichOneof("kind")
    context = b""
    examples: Sequence[Any] = []
    if kind == "example_list":
        examples = request_input.example_list.examples
    elif kind == "example_list_with_context":
        listed = request_input.example_list_with_context
        # Messages one after the other are merged when they are parsed.
        context, examples = listed.context.SerializeToString(), listed.examples
    if not examples:
        raise StatusError(Code.INVALID_ARGUMENT, "Input is empty.")
    return [context + example.SerializeToString() for example in examples]
