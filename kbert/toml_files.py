"""Read TOML files that people write by hand."""

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from kbert.bounded import read_bounded
from kbert.errors import ConfigError

MAX_FILE_BYTES = 1_000_000
MAX_KEY_PARTS = 20
"""Of `a.b.c`; kbert's keys have three. tomllib takes minutes for one of 100,000."""

# Possessive (++), and not begun within a word: the search must not be slow itself.
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(
    rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}"
)


def read_toml(file: Path) -> dict[str, Any]:
    """Parse a TOML file of at most 1 MB.

    Raises:
        ConfigError: names the file and what is wrong with it, with line and column.
    """
    text = _read_text(file)
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigError(
            f"{file} is no config: a key has at most {MAX_KEY_PARTS} parts with dots "
            f"between (at line {line})"
        )
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # ValueError: TOMLDecodeError, and whole numbers of thousands of digits.
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def _read_text(file: Path) -> str:
    if os.path.isdir(file):
        inside = file / "config.toml"
        hint = f"; did you mean {inside}?" if inside.is_file() else ""
        raise ConfigError(f"config file {file} is a folder{hint}")
    if not os.path.lexists(file):
        raise ConfigError(f"config file {file} does not exist{_similar(file)}")
    try:
        content = read_bounded(file, MAX_FILE_BYTES, ConfigError)
    except ConfigError as error:
        raise ConfigError(f"config file {error}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"config file {file} is not UTF-8 text: line {line}"
        ) from None


def _similar(file: Path) -> str:
    try:
        names = [path.name for path in file.parent.iterdir()]
    except OSError:
        return f": there is no folder {file.parent}"
    near = difflib.get_close_matches(file.name, names, n=3, cutoff=0.5)
    tomls = near or sorted(name for name in names if name.endswith(".toml"))[:3]
    found = ", ".join(str(file.parent / name) for name in tomls)
    return f"; near it: {found}" if found else ""
