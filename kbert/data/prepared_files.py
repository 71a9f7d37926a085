"""The two files that say what a prepared folder holds: read, bounded and checked."""

import os
import re
from pathlib import Path
from typing import Any

from kbert.bounded import (
    MAX_JSON_BYTES,
    is_unicode,
    parse_json,
    read_bounded,
    resolve_inside,
    shown,
)
from kbert.data.shards import Shard
from kbert.errors import DataError

MANIFEST, SHARDS = "prepared.json", "shards.jsonl"
FORMAT = 1
MAX_SHARDS_BYTES = 500_000_000
"""A line has 120 bytes and stands for some 16 MB of text."""

_LENGTH = re.compile(r"[1-9]\d{0,5}")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `prepared.json` says; None if there is none.

    Raises:
        DataError: it cannot be read, or a later kbert wrote it.
    """
    path = resolve_inside(folder, MANIFEST, DataError)
    if not os.path.lexists(path):
        return None
    try:
        content = read_bounded(path, MAX_JSON_BYTES, DataError)
        manifest = parse_json(content)
    except DataError as error:
        raise DataError(f"{error} Prepare into another folder.") from None
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read: {error}. Prepare into another folder."
        ) from None
    known = isinstance(manifest, dict) and {"complete", "settings"} <= manifest.keys()
    if not known or manifest.get("format") != FORMAT:
        raise DataError(
            f"{path} is not of format {FORMAT}, the one that this kbert knows. Use the "
            "kbert that wrote it, or prepare into another folder."
        )
    _check_settings(path, manifest["settings"])
    if type(manifest.get("num_shards", 0)) is not int:
        raise _damaged(path, "num_shards", manifest["num_shards"])
    return manifest


def read_shards(folder: Path) -> dict[str, Shard]:
    """The shards that `shards.jsonl` lists, by file; a line cut off is none.

    Raises:
        DataError: the file is damaged.
    """
    path = resolve_inside(folder, SHARDS, DataError)
    if not os.path.lexists(path):
        return {}
    content = read_bounded(path, MAX_SHARDS_BYTES, DataError)
    whole_lines = content.rpartition(b"\n")[0].splitlines()
    try:
        shards = [Shard(**parse_json(line)) for line in whole_lines]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged: {error}. Delete it and run the command that prepared "
            "the folder again."
        ) from error
    return {shard.file: shard for shard in shards}


def _check_settings(path: Path, settings: Any) -> None:
    """Checks what is used of the settings; what a preparation compares may be any."""
    if not isinstance(settings, dict):
        raise _damaged(path, "settings", settings)
    lengths = settings.get("lengths")
    if lengths is None and not settings:
        return
    if (
        not isinstance(lengths, dict)
        or not lengths
        or not all(_LENGTH.fullmatch(length) for length in lengths)
        or not all(_is_recipe(recipe) for recipe in lengths.values())
    ):
        raise _damaged(path, "settings.lengths", lengths)
    for name in ("lowercase", "strip_accents"):
        if type(settings.get(name)) is not bool:
            raise _damaged(path, f"settings.{name}", settings.get(name))
    if not isinstance(settings.get("vocabulary_sha256"), str):
        raise _damaged(path, "settings.vocabulary_sha256", None)
    if not isinstance(settings.get("choices"), dict):
        raise _damaged(path, "settings.choices", settings.get("choices"))
    files = settings.get("files")
    if not isinstance(files, list) or not all(
        isinstance(file, dict)
        and all(isinstance(file.get(key), str) for key in ("name", "fingerprint"))
        and is_unicode(file["name"])
        for file in files
    ):
        raise _damaged(path, "settings.files", files)


def _is_recipe(recipe: Any) -> bool:
    return (
        isinstance(recipe, dict)
        and type(recipe.get("next_sentence")) is bool
        and type(recipe.get("short_rate")) in (int, float)
    )


def _damaged(path: Path, key: str, received: Any) -> DataError:
    return DataError(
        f'{path} is damaged: "{key}" is none that kbert writes. Received: '
        f"{shown(received)}. Prepare into another folder."
    )
