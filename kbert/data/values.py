"""One value of a table: a label as a string, a text as valid Unicode."""

import math
import re

from kbert.data.examples import EncodingErrors
from kbert.errors import DataError

REPLACE_HINT = (
    "Write the file as UTF-8, or go on with --set data.encoding_errors=replace."
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode(data: bytes, errors: EncodingErrors, where: str) -> str:
    """Decodes UTF-8.

    Raises:
        DataError: `errors` is "strict" and a byte is invalid.
    """
    try:
        return data.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: invalid UTF-8 (byte 0x{data[error.start]:02x} at byte "
            f"{error.start + 1}). {REPLACE_HINT}"
        ) from None


def as_text(value: object, errors: EncodingErrors, column: str, where: str) -> str:
    """Returns the text of a cell; lone surrogates are treated as invalid UTF-8."""
    if isinstance(value, bytes):
        return decode(value, errors, f'{where}, column "{column}"')
    if not isinstance(value, str):
        received = "null" if value is None else f"{_kind(value)} {_shown(value)}"
        raise DataError(
            f'{where}: the text in column "{column}" must be a string. '
            f"Received: {received}. Mend or remove this row."
        )
    found = _SURROGATE.search(value)
    if found is None:
        return value
    if errors == "strict":
        raise DataError(
            f'{where}: the text in column "{column}" has the lone surrogate '
            f"\\u{ord(found[0]):04x}, which is no valid Unicode. {REPLACE_HINT}"
        )
    return _SURROGATE.sub("\ufffd" if errors == "replace" else "", value)


def as_label(value: object, column: str, where: str) -> str:
    """Returns a label as a string: 1 and 1.0 as "1", true as "true", " a " as "a".

    Raises:
        DataError: The label is missing, empty, not a number or not a scalar.
    """
    if isinstance(value, bytes):
        value = decode(value, "strict", f'{where}, column "{column}"')
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, str):
        label = value.strip()
        if label and label.casefold() != "nan" and not _SURROGATE.search(label):
            return label
    rule = (
        "must be a string, an integer, a number or a boolean"
        if isinstance(value, list | dict)
        else "is missing: each example needs one"
    )
    raise DataError(
        f'{where}: the label in column "{column}" {rule}. Received: {_shown(value)}. '
        "Mend or remove this row."
    )


def _kind(value: object) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", list: "list"}
    return kinds.get(type(value), "object" if isinstance(value, dict) else "value")


def _shown(value: object) -> str:
    shown = "null" if value is None else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
