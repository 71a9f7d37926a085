"""Finding a TFDS data set: prepared on this machine, else downloaded."""

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import tensorflow_datasets as tfds

from kbert.bounded import read_json, shown
from kbert.errors import DataError

_log = logging.getLogger(__name__)
_SPEC = re.compile(
    r"tfds:(?P<name>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?"
)
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# What TFDS puts before the message of an error while a builder is made.
_CONSTRUCTING = re.compile(
    r'^Failed to construct dataset "\w+", builder_kwargs ".*?}": '
)
_OWN_CLASS = re.compile(r"tensorflow_datasets\.core\.features\.\w+(\.\w+)*$")
_PROBE_SECONDS = 4
_ROUTES = (
    "Point --set data.data_dir=... to a folder where it is prepared, or name a file or "
    "folder in its place, such as reviews.csv."
)


class TfdsName(NamedTuple):
    """The parts of `tfds:NAME[/CONFIG][:VERSION]`."""

    name: str
    config: str | None
    version: str | None


def parse_spec(spec: str) -> TfdsName:
    """Splits `tfds:NAME[/CONFIG][:VERSION]` into its parts."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise DataError(
            "A TFDS data set is written tfds:NAME[/CONFIG][:VERSION], as "
            f"tfds:imdb_reviews or tfds:glue/mrpc:2.0.0. Received: {spec}"
        )
    return TfdsName(match["name"], match["config"], match["version"])


def find_builder(spec: str, data_dir: str | None) -> Any:
    """Returns the builder of a data set that is prepared when this returns.

    Where it is prepared already, the network is not touched.

    Raises:
        DataError: It is neither prepared nor can it be downloaded.
    """
    wanted = parse_spec(spec)
    root = data_root(data_dir)
    folder = prepared_folder(root, wanted)
    if folder is not None:
        _check_features(spec, folder / "features.json")
        try:
            return tfds.builder_from_directory(folder)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"{spec}: {folder} holds no readable TFDS data set: {error}"
            ) from error
    return _download(spec, wanted, root)


def data_root(data_dir: str | None) -> Path:
    """Returns the folder where TFDS keeps prepared data sets."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()


def prepared_folder(root: Path, wanted: TfdsName) -> Path | None:
    """Returns the folder of the newest prepared version that fits, if there is one.

    Raises:
        DataError: Several configs are prepared and none is the default.
    """
    base = root / wanted.name
    configs = [wanted.config] if wanted.config else _prepared_configs(base)
    if len(configs) > 1:
        default = _default_config(base)
        if default not in configs:
            raise DataError(
                f"tfds:{wanted.name} has several configs prepared in {base}: "
                f"{', '.join(configs)}. Choose one: tfds:{wanted.name}/"
                f"{configs[0]}"
            )
        configs = [default]
    versions = _versions(base / configs[0] if configs else base)
    if wanted.version is not None:
        versions = [v for v in versions if v.name == wanted.version]
    return versions[-1] if versions else None


def _versions(folder: Path) -> list[Path]:
    """Returns the prepared versions in `folder`, the newest last."""
    found = [p.parent for p in folder.glob("*/dataset_info.json")]
    return sorted(
        (p for p in found if _VERSION.fullmatch(p.name)),
        key=lambda p: [int(n) for n in p.name.split(".")],
    )


def _prepared_configs(base: Path) -> list[str]:
    return sorted({p.parents[1].name for p in base.glob("*/*/dataset_info.json")})


def _default_config(base: Path) -> str | None:
    try:
        metadata = read_json(base / ".config" / "metadata.json", DataError)
    except DataError:
        return None
    return metadata.get("default_config_name")


def _check_features(spec: str, file: Path) -> None:
    """Refuses a data set for which TFDS would import modules that are not its own.

    Raises:
        DataError: `features.json` names another one, or is damaged.
    """
    if not file.exists():
        return
    waiting: list[Any] = [read_json(file, DataError)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        if not isinstance(value, dict):
            continue
        waiting += value.values()
        for key in ("type", "pythonClassName"):
            name = value.get(key)
            if isinstance(name, str) and "." in name and not _OWN_CLASS.match(name):
                raise DataError(
                    f"{spec}: the features of {file} must be tensorflow-datasets' own. "
                    f"Received: {shown(name)}, for which code would be imported."
                )


def _download(spec: str, wanted: TfdsName, root: Path) -> Any:
    tried = f"It is not prepared in {root / wanted.name}"
    try:
        configs = list(tfds.builder_cls(wanted.name).builder_configs)
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(spec, wanted.name, root) from error
    _check_config(spec, wanted, configs)
    try:
        builder = tfds.builder(spec.removeprefix("tfds:"), data_dir=root)
    except (ValueError, ImportError, OSError, AssertionError) as error:
        raise DataError(f"{spec}: {_first_line(error)} {tried}. {_ROUTES}") from error
    hosts = _hosts(builder)
    if hosts and not any(map(_answers, hosts.values())):
        raise DataError(
            f"{spec} cannot be downloaded: no answer from {', '.join(hosts)}. {tried}. "
            f"{_ROUTES}"
        )
    _log.info("Downloading and preparing %s in %s; this can take minutes", spec, root)
    try:
        with quiet():
            builder.download_and_prepare()
    except (
        OSError, ValueError, ImportError, AssertionError, RuntimeError,
        tfds.core.download.DownloadError,
    ) as error:  # fmt: skip
        raise DataError(
            f"{spec} could not be downloaded and prepared: {_first_line(error)} "
            f"{tried}. {_ROUTES}"
        ) from error
    return builder


def _unknown(spec: str, name: str, root: Path) -> DataError:
    here = [p.parents[1].name for p in root.glob("*/*/dataset_info.json")]
    here += [p.parents[2].name for p in root.glob("*/*/*/dataset_info.json")]
    near = get_close_matches(name, {*tfds.list_builders(), *here}, n=3)
    return DataError(
        f'{spec}: tensorflow-datasets knows no data set "{name}", and none is prepared '
        f"in {root}."
        + (f" Nearest: {', '.join(near)}." if near else "")
        + f" {_ROUTES}"
    )


def _check_config(spec: str, wanted: TfdsName, configs: list[str]) -> None:
    if wanted.config is not None and wanted.config not in configs:
        near = get_close_matches(wanted.config, configs, n=10, cutoff=0.3)
        raise DataError(
            f'{spec}: {wanted.name} has no config "{wanted.config}". '
            f"Configs: {', '.join(near or configs[:10]) or 'none'}"
            + ("." if len(configs) <= 10 else f" and more, {len(configs)} in all.")
        )


def _hosts(builder: Any) -> dict[str, str]:
    """Returns the first few hosts that a download may need, with an address each."""
    hosts: dict[str, str] = {}
    for url in builder.url_infos:
        if url.startswith(("http://", "https://")):
            hosts.setdefault(urlsplit(url).netloc, url)
    return dict(list(hosts.items())[:3])


def _answers(url: str) -> bool:
    """Tells whether a host answers at all.

    Asked beforehand, since TFDS tries each address ten times, for more than three
    minutes, and leaves an unfinished folder behind.
    """
    try:
        requests.head(url, timeout=_PROBE_SECONDS)
    except requests.exceptions.RequestException:
        return False
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TFDS from printing to stdout, where results go, and from its bars."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _CONSTRUCTING.sub("", lines[0]).rstrip(".:") + "."
