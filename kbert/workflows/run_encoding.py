"""How a run's texts are read and cut, as its `task.json` says; checked."""

import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from kbert.bounded import is_unicode, shown
from kbert.data.examples import ROLES
from kbert.data.sources import Columns
from kbert.errors import RunError
from kbert.tokenization import Truncation

# [CLS], a token of each text and a [SEP] behind each.
_MIN_LENGTH, _MIN_LENGTH_OF_PAIRS = 3, 5


class RunEncoding(NamedTuple):
    """What all fine-tuned runs keep beside their task."""

    max_length: int
    truncation: Truncation
    is_paired: bool
    columns: Columns


def read_encoding(values: Mapping[str, Any], source: str) -> RunEncoding:
    """Reads it from what `task.json` holds.

    Args:
        source: what messages call the file.

    Raises:
        KeyError: a value is missing.
        RunError: a value is none that kbert writes.
    """
    is_paired, columns = values["is_paired"], values["columns"]
    if type(is_paired) is not bool:
        raise _damaged(source, "is_paired", "true or false", is_paired)
    if not isinstance(columns, dict):
        raise _damaged(source, "columns", "an object", columns)
    names = [columns[role] for role in ROLES]
    if not all(n is None or (isinstance(n, str) and is_unicode(n)) for n in names):
        raise _damaged(source, "columns", "an object of texts or null", columns)
    max_length, truncation = values["max_length"], values["truncation"]
    least = _MIN_LENGTH_OF_PAIRS if is_paired else _MIN_LENGTH
    if type(max_length) is not int or max_length < least:
        rule = f"a whole number of at least {least}"
        raise _damaged(source, "max_length", rule, max_length)
    choices = typing.get_args(Truncation)
    if truncation not in choices:
        raise _damaged(source, "truncation", f"one of {choices}", truncation)
    return RunEncoding(max_length, truncation, is_paired, Columns(*names))


def _damaged(source: str, key: str, rule: str, received: Any) -> RunError:
    return RunError(
        f'{source} is damaged: "{key}" must be {rule}. Received: {shown(received)}.'
    )
