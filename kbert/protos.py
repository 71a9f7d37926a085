"""Protobuf messages of TensorFlow Serving that its Python package leaves out.

They are declared here at run time with the names and field numbers of TensorFlow
Serving's own .proto files (session_bundle_config.proto, ssl_config.proto,
monitoring_config.proto), so that the files a server reads can be written and checked.
"""

from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf import wrappers_pb2 as _wrappers  # registers Int64Value and so on
from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString, Parse, ParseError

from kbert.errors import ConfigError

SomeMessage = TypeVar("SomeMessage", bound=Message)

_INT64 = _wrappers.Int64Value.DESCRIPTOR.full_name
_STRING = _wrappers.StringValue.DESCRIPTOR.full_name
_BOOL = _wrappers.BoolValue.DESCRIPTOR.full_name

_PACKAGE = "tensorflow.serving"
# message -> field -> (number, type); a type with a dot is a message's full name.
_FIELDS = {
    "BatchingParameters": {
        "max_batch_size": (1, _INT64),
        "batch_timeout_micros": (2, _INT64),
        "max_enqueued_batches": (3, _INT64),
        "num_batch_threads": (4, _INT64),
        "thread_pool_name": (5, _STRING),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, _BOOL),
        "max_execution_batch_size": (9, _INT64),
    },
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, f"{_PACKAGE}.PrometheusConfig")},
}


def _declare() -> dict[str, Any]:
    field_type = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "int64": field_type.TYPE_INT64,
        "bool": field_type.TYPE_BOOL,
        "string": field_type.TYPE_STRING,
    }
    file = descriptor_pb2.FileDescriptorProto(
        name="kbert/tensorflow_serving_configs.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[_wrappers.DESCRIPTOR.name],
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            is_repeated = kind.startswith("repeated ")
            field.label = (
                field_type.LABEL_REPEATED if is_repeated else field_type.LABEL_OPTIONAL
            )
            kind = kind.removeprefix("repeated ")
            field.type = scalars.get(kind, field_type.TYPE_MESSAGE)
            if kind not in scalars:
                field.type_name = f".{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_wrappers.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
        )
        for name in _FIELDS
    }


_messages = _declare()
BatchingParameters: Any = _messages["BatchingParameters"]
SSLConfig: Any = _messages["SSLConfig"]
MonitoringConfig: Any = _messages["MonitoringConfig"]


def parse_text(text: str, message_class: type[SomeMessage], source: str) -> SomeMessage:
    """A message from protobuf's text format.

    Args:
        text: the text.
        message_class: what it is to be.
        source: where the text comes from, for the error.

    Raises:
        ConfigError: the text is no such message; it says the line.
    """
    try:
        return Parse(text, message_class())
    except ParseError as error:
        raise ConfigError(
            f"{source} is no {message_class.DESCRIPTOR.full_name} in protobuf's text "
            f"format, at line:column {error}"
        ) from None


def to_text(message: Message) -> str:
    """A message in protobuf's text format, as a server reads it from a file."""
    return MessageToString(message)
