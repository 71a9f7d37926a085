"""One value of a table: a label as a string, a text as valid Unicode."""

import math
import re
from types import NoneType

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
        raise DataError(
            f'{where}: the text in column "{column}" must be a string. '
            f"Received: {_shown(value)}. Mend or remove this row."
        )
    found = _SURROGATE.search(value)
    if found is None:
        return value
    if errors == "strict":
        raise DataError(
            f'{where}: the string in column "{column}" has the lone surrogate '
            f"\\u{ord(found[0]):04x}, which is no valid Unicode. {REPLACE_HINT}"
        )
    return _SURROGATE.sub("\ufffd" if errors == "replace" else "", value)


def as_label(value: object, errors: EncodingErrors, column: str, where: str) -> str:
    """Returns a label as a string: 1 and 1.0 as "1", true as "true", " a " as "a".

    Raises:
        DataError: The label is missing, empty, NaN or not a scalar.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, str | bytes):
        label = as_text(value, errors, column, where).strip()
        if label and label.casefold() != "nan":
            return label
    if isinstance(value, NoneType | str | bytes | float):
        rule = "is missing: each example needs one"
    else:
        rule = "must be a string, a number or a boolean"
    raise DataError(
        f'{where}: the label in column "{column}" {rule}. '
        f"Received: {_shown(value)}. Mend or remove this row."
    )


def _shown(value: object) -> str:
    """Returns a value for a message: its type, and as much of it as fits."""
    if value is None:
        return "null"
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return shown if isinstance(value, str) else f"{type(value).__name__} {shown}"


def to_bytes(text: str) -> bytes:
    """UTF-8; of what is no Unicode, bytes that the tokenizer passes over.

    Python holds bytes of a command line that are no UTF-8 as lone surrogates.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
