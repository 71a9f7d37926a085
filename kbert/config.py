"""Settings from the command line and from TOML files, and back to TOML.

Precedence: an option, then `--set section.key=value`, then the config file, then
the default; nothing else. All mistakes are collected and raised at once.
Relative paths in a setting, in a config file too, count from the working
directory, as they do on the command line.
"""

import contextlib
import difflib
import json
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from kbert.errors import ConfigError
from kbert.settings import (
    DataSettings,
    ExportConfig,
    ExportSettings,
    FinetuneConfig,
    ModelSettings,
    Setting,
    Settings,
    TrainSettings,
    describe_settings,
    sections,
)
from kbert.toml_files import read_toml

__all__ = [
    "DataSettings",
    "ExportConfig",
    "ExportSettings",
    "FinetuneConfig",
    "ModelSettings",
    "Setting",
    "Settings",
    "TrainSettings",
    "config_to_toml",
    "describe_settings",
    "load_config",
    "sections",
]

MAX_SHOWN = 100  # characters of a wrong value that a message repeats
MAX_WHOLE = 2**63 - 1  # as in TOML, NumPy and TensorFlow
MAX_GIVEN = 500  # settings of one file; there are about 60

Config = TypeVar("Config", bound=Settings)


@dataclass(frozen=True)
class _Given:
    """One value that somebody wrote for one setting."""

    key: str  # section.key
    value: Any
    origin: str  # as it was written, for messages
    level: int  # 0 base, 1 file, 2 --set, 3 option
    raw: str | None = None  # `--set` only: the value before it was read as TOML


def load_config(
    config_class: type[Config],
    *,
    base: Path | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    option_names: Mapping[str, str] | None = None,
) -> Config:
    """Merge the sources of settings into one checked config.

    Args:
        config_class: `FinetuneConfig` or another class of sections.
        base: a TOML file below all others: that of a run which goes on.
        file: a TOML file of at most 1 MB.
        assignments: `section.key=value`; the value is read as TOML, and as plain
            text or as a number of Python's where it is no TOML or does not fit.
        options: `section.key` -> value; None means "not given".
        option_names: `section.key` -> how messages call the option (`--epochs`).

    Raises:
        ConfigError: lists every mistake with its place, value and rule.
    """
    problems: list[str] = []
    given = [
        *_from_file(base, config_class, problems, level=0),
        *_from_file(file, config_class, problems, level=1),
        *_from_assignments(assignments, problems),
        *_from_options(options or {}, option_names or {}),
    ]
    accepted: dict[str, _Given] = {}
    for item in given:
        if problem := _check(item, config_class):
            problems.append(problem)
        else:
            accepted[item.key] = item
    _settle_warmup(accepted, problems)
    if problems:
        title = "a setting is wrong" if len(problems) == 1 else "settings are wrong"
        raise ConfigError("\n  ".join([f"{title}:", *problems]))
    values: dict[str, dict[str, Any]] = {name: {} for name in sections(config_class)}
    for key, item in accepted.items():
        section, _, name = key.partition(".")
        values[section][name] = _fitting_value(item, config_class)
    return config_class.model_validate(values)


def _from_file(
    file: Path | None,
    config_class: type[Settings],
    problems: list[str],
    *,
    level: int,
) -> Iterator[_Given]:
    if file is None:
        return
    try:
        content = read_toml(file)
    except ConfigError as error:
        problems.append(str(error))
        return
    known = sections(config_class)
    tables = (table for table in content.values() if isinstance(table, dict))
    count = len(content) + sum(map(len, tables))
    if count > MAX_GIVEN:
        problems.append(
            f"{file}: holds {count:,} settings, more than {MAX_GIVEN}: is it a config "
            "file?"
        )
        return
    for section, table in content.items():
        if isinstance(table, dict) and section in known:
            for name, value in table.items():
                key = f"{section}.{name}"
                yield _Given(key, value, f"{file}: {key} = {_shown(value)}", level)
        elif isinstance(table, dict):
            hint = _nearest(section, list(known)) or f"sections: {', '.join(known)}"
            problems.append(f"{file}: unknown section [{section}]; {hint}")
        elif section in known:
            problems.append(
                f"{file}: {section} = {_shown(table)}: must be a section, [{section}]"
            )
        else:
            problems.append(
                f"{file}: {section} = {_shown(table)}: stands outside of the sections; "
                + _setting_hint(section, config_class)
            )


def _from_assignments(
    assignments: Sequence[str], problems: list[str]
) -> Iterator[_Given]:
    for assignment in assignments:
        key, equals, raw = (part.strip() for part in assignment.partition("="))
        if not equals:
            problems.append(
                f"--set {assignment}: must be SECTION.KEY=VALUE, "
                "for example train.epochs=2"
            )
            continue
        yield _Given(key, _parse_value(raw), f"--set {key}={raw}", level=2, raw=raw)


def _parse_value(raw: str) -> Any:
    """Read a value as TOML, else as the text that it is."""
    try:
        content = tomllib.loads(f"value = {raw}")
    except (ValueError, RecursionError):
        return raw
    return content["value"] if content.keys() == {"value"} else raw


def _from_options(
    options: Mapping[str, Any], option_names: Mapping[str, str]
) -> Iterator[_Given]:
    for key, value in options.items():
        if value is not None:
            name = option_names.get(key)
            origin = f"{name} {value}" if name else f"{key} = {_shown(value)}"
            yield _Given(key, value, origin, level=3)


def _check(item: _Given, config_class: type[Settings]) -> str | None:
    """What is wrong with one given value, by itself; None where nothing is."""
    described = {setting.key: setting for setting in describe_settings(config_class)}
    if item.key not in described:
        hint = _setting_hint(item.key, config_class)
        return f"{item.origin}: unknown setting {item.key}; {hint}"
    try:
        value = _fitting_value(item, config_class)
        if isinstance(value, int) and value > MAX_WHOLE:
            return f"{item.origin}: a whole number is at most {MAX_WHOLE} ({item.key})"
    except ValidationError:
        problem = f"{item.origin}: must be {described[item.key].type}"
        if item.key not in item.origin:  # An option's name is not the setting's.
            problem += f" ({item.key})"
        near = _nearest(_as_text(item.value), _choices(item, config_class))
        return f"{problem}; {near}" if near else problem
    return None


def _as_text(value: Any) -> str:
    """A value as it may have been meant for a name; cut, for comparing takes time."""
    return value[:MAX_SHOWN] if isinstance(value, str) else _shown(value)


def _choices(item: _Given, config_class: type[Settings]) -> list[str]:
    """The names among which the setting chooses; none for most."""
    section, _, name = item.key.partition(".")
    annotation = sections(config_class)[section].model_fields[name].annotation
    kinds = [annotation, *typing.get_args(annotation)]
    literals = [kind for kind in kinds if typing.get_origin(kind) is typing.Literal]
    return [str(choice) for kind in literals for choice in typing.get_args(kind)]


def _fitting_value(item: _Given, config_class: type[Settings]) -> Any:
    """The value in the type that the setting takes; pydantic's error if none does."""
    section, _, name = item.key.partition(".")
    section_class = sections(config_class)[section]
    # A column may be called 123 or true, and .1 is a number though not in TOML.
    others = [] if item.raw is None else [item.raw, _number(item.raw)]
    try:
        return getattr(section_class.model_validate({name: item.value}), name)
    except ValidationError:
        for value in others:
            with contextlib.suppress(ValidationError):
                return getattr(section_class.model_validate({name: value}), name)
        raise


def _number(text: str) -> int | float | str:
    """A number in any of Python's spellings, `.1` and `1.` too; else the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _settle_warmup(accepted: dict[str, _Given], problems: list[str]) -> None:
    """Keep one of `warmup_steps` and `warmup_ratio`: that of the higher precedence."""
    steps = accepted.get("train.warmup_steps")
    ratio = accepted.get("train.warmup_ratio")
    if steps is None or ratio is None:
        return
    if steps.level == ratio.level:
        problems.append(
            f"{steps.origin} and {ratio.origin} exclude each other: give one of them"
        )
    del accepted[min(steps, ratio, key=lambda item: item.level).key]


def _setting_hint(key: str, config_class: type[Settings]) -> str:
    """The nearest setting's name; the same key in another section comes first."""
    names = [setting.key for setting in describe_settings(config_class)]
    last = key.rpartition(".")[2]
    for name in names:
        if name.rpartition(".")[2] == last:
            return f"did you mean {name}?"
    by_last = {name.rpartition(".")[2]: name for name in names}
    if near := difflib.get_close_matches(last, by_last, n=1):
        return f"did you mean {by_last[near[0]]}?"
    return _nearest(key, names) or "`kbert config show --help` lists the settings"


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else ""


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # a number of thousands of digits; deep lists
        return f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def config_to_toml(config: Settings, *, comments: bool = False) -> str:
    """Write a config as TOML that loads back to an equal config.

    Settings that are not set are left out, and so is `train.warmup_ratio` where
    `train.warmup_steps` takes its place. `comments=True` adds what each setting
    means, and names those that are not set.
    """
    lines = []
    for section, settings in config:
        values = settings.model_dump(exclude_none=True)
        if "warmup_steps" in values:
            del values["warmup_ratio"]
        lines.append(f"[{section}]")
        for name, field in type(settings).model_fields.items():
            if type(values.get(name)) is dict:
                continue
            if name in values:
                line = tomli_w.dumps({name: values[name]}).strip()
            elif comments:
                line = f"# {name}: not set"
            else:
                continue
            lines.append(f"{line:<31} # {field.description}" if comments else line)
        tables = {
            key: value for key, value in values.items() if isinstance(value, dict)
        }
        if tables:  # TOML's order: a section's own values, then its sub-tables
            lines.append("\n" + tomli_w.dumps({section: tables}).strip())
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"
