"""Read TOML files that people write by hand."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

from kbert.errors import ConfigError

MAX_FILE_BYTES = 1_000_000


def read_toml(file: Path) -> dict[str, Any]:
    """Parse a TOML file of at most 1 MB.

    Raises:
        ConfigError: names the file and what is wrong with it, with line and column.
    """
    try:
        return tomllib.loads(_read_text(file))
    except (ValueError, RecursionError) as error:
        # ValueError: TOMLDecodeError, and whole numbers of thousands of digits.
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def _read_text(file: Path) -> str:
    if file.is_dir():
        inside = file / "config.toml"
        hint = f"; did you mean {inside}?" if inside.is_file() else ""
        raise ConfigError(f"config file {file} is a folder{hint}")
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"config file {file} does not exist{_similar(file)}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise ConfigError(f"config file {file} cannot be read: {error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(
            f"config file {file} is larger than {MAX_FILE_BYTES:,} bytes: "
            "is it a config file?"
        )
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
