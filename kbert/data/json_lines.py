"""Tables as JSON lines: one object a line."""

import json
from collections.abc import Generator, Iterator
from pathlib import Path

from kbert.bounded import MAX_JSON_CONTAINERS
from kbert.data.columns import choose_columns, missing_column
from kbert.data.examples import Columns, EncodingErrors, ReadOptions, Row, RowSource
from kbert.data.fingerprints import digest_of_file
from kbert.data.lines import read_lines
from kbert.data.values import as_label, as_text
from kbert.errors import DataError


def open_json_lines(path: Path, options: ReadOptions) -> RowSource:
    """Opens a JSON lines file; its columns are the keys of the first object.

    Raises:
        DataError: The file is empty or its columns do not fit; while iterating, a
            line is faulty.
    """
    _, first = next(numbered_objects(path, options.encoding_errors), (0, None))
    if first is None:
        raise DataError(f"{path} is empty; it needs one JSON object a line.")
    columns, notes = choose_columns(
        str(path),
        list(first),
        options.columns,
        labelled=options.labelled,
        strings=[name for name, value in first.items() if isinstance(value, str)],
    )
    return RowSource(
        name=path.name,
        columns=columns,
        rows=lambda: _examples(path, options.encoding_errors, columns),
        notes=notes,
        limit=options.limit,
        content=lambda: f"jsonl {digest_of_file(path)}",
    )


def numbered_objects(
    path: Path, errors: EncodingErrors
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields (line number, object) of each line that is not blank.

    Raises:
        DataError: A line is no JSON or no object, or as `read_lines`.
    """
    for number, line in enumerate(read_lines(path, errors), start=1):
        if line.isspace():
            continue
        where = f"{path}, line {number}"
        if line.count("[") + line.count("{") > MAX_JSON_CONTAINERS:
            raise DataError(
                f"{where}: JSON that cannot be read: more than "
                f"{MAX_JSON_CONTAINERS:,} lists and objects."
            )
        try:
            value = json.loads(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}, column {error.colno}: invalid JSON: {error.msg}. JSON lines "
                f"has one object a line, with no line end inside.{_hint(line)}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: JSON that cannot be read: {error}.") from None
        if not isinstance(value, dict):
            raise DataError(
                f'{where}: each line must be a JSON object, as {{"text": "...", '
                f'"label": "..."}}. Received: {_kind(value)} {line.strip()[:40]}'
                f"{_hint(line)}"
            )
        yield number, value


def _examples(path: Path, errors: EncodingErrors, columns: Columns) -> Generator[Row]:
    text, pair, label = columns.text, columns.text_pair, columns.label
    assert text is not None  # choose_columns always finds one
    used = [("text", text), ("text_pair", pair), ("label", label)]
    for number, value in numbered_objects(path, errors):
        where = f"{path}, line {number}"
        for setting, name in used:
            if name is not None and name not in value:
                raise missing_column(where, setting, name, list(value))
        yield (
            as_text(value[text], errors, text, where),
            None if pair is None else as_text(value[pair], errors, pair, where),
            None if label is None else as_label(value[label], errors, label, where),
        )


def _hint(line: str) -> str:
    if line.startswith("["):
        return " Unpack a JSON array with: jq -c '.[]' FILE.json > FILE.jsonl"
    return ""


def _kind(value: object) -> str:
    kinds = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
