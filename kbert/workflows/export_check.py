"""Checking an export: the check list, and a round trip through the server."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import urllib3

from kbert.exporting.checks import Point, format_points, run_checks
from kbert.exporting.versions import version_number, versions_in
from kbert.serving.gate import Gate
from kbert.serving.manager import ManagerOptions, ModelManager
from kbert.serving.metrics import Metrics
from kbert.serving.model_config import single_model_config
from kbert.serving.model_folder import check_model_folder
from kbert.serving.ports import bind
from kbert.serving.rest import RestApp, RestOptions
from kbert.serving.rest_server import RestServer
from kbert.serving.servable import LoadOptions, Servable
from kbert.serving.status import StatusError

__all__ = ["check", "format_points"]

_SIGNATURE = "serving_default"
_HOST = "127.0.0.1"
_NAME = "checked"
_TEXTS = ("A wonderful film.", "", 'quoted " and \\ and \u20ac', "电影 👍🏽")
_LOAD_SECONDS = 300.0
_ANSWER_SECONDS = 30.0


def check(folder: Path) -> list[Point]:
    """Runs the check list on an export; nothing in its folder is touched.

    Args:
        folder: a version's folder, or a model's, of which the latest is taken.

    Raises:
        ServingError: there is no such folder, or no version in it.
    """
    if not (folder / "saved_model.pb").exists():
        model = check_model_folder(folder)
        versions = versions_in(model)
        folder = versions[max(versions)]
    return run_checks(folder, round_trip=round_trip)


def round_trip(folder: Path) -> str | None:
    """Asks the development server over REST and compares with a direct call.

    Returns:
        What is wrong; None where rows and columns answer as the model does.
    """
    version = version_number(folder.name)
    if version is None:
        return f"a server does not see {folder.name}: it is no number (point 1)"
    try:
        with _serving(folder) as (servable, url):
            return _compare(servable, url)
    except StatusError as error:
        return error.message
    except urllib3.exceptions.HTTPError as error:
        return f"the server does not answer: {error}"


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[tuple[Servable, str]]:
    """The model, loaded by the server, and the URL of its REST API."""
    folder = folder.resolve()
    config = single_model_config(_NAME, folder.parent)
    (model,) = config.model_config_list.config
    model.model_version_policy.specific.versions.append(int(folder.name))
    with contextlib.ExitStack() as ending:
        # What the server loads and ends here is no news.
        log = logging.getLogger("kbert.serving")
        ending.callback(log.setLevel, log.level)
        log.setLevel(logging.WARNING)
        options = ManagerOptions(
            load=LoadOptions(warmup=False), poll_seconds=0, max_load_retries=0
        )
        manager = ModelManager(options)
        ending.callback(manager.close)
        manager.set_config(config, _LOAD_SECONDS)
        taken = ending.enter_context(bind(_HOST, 0, "rest_api_port"))
        app = RestApp(manager, RestOptions(), Metrics(), Gate(1))
        ending.callback(app.close)
        server = RestServer(app, taken, grace_seconds=1, on_end=lambda: None)
        server.start()
        ending.callback(server.join)
        ending.callback(server.announce_stop)
        servable = ending.enter_context(manager.use(_NAME))
        yield servable, f"http://{_HOST}:{taken.getsockname()[1]}/v1/models/{_NAME}"


def _compare(servable: Servable, url: str) -> str | None:
    signature = servable.signatures.get(_SIGNATURE)
    if signature is None:
        return f"it has no signature {_SIGNATURE}"
    columns = {name: list(_TEXTS) for name in signature.inputs}
    feeds = {
        name: np.array([text.encode() for text in texts], object)
        for name, texts in columns.items()
    }
    expected = servable.run(_SIGNATURE, feeds, list(signature.outputs), None)
    rows = [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
    instances = list(_TEXTS) if len(columns) == 1 else rows
    in_rows = _post(f"{url}:predict", {"instances": instances}).get("predictions")
    in_columns = _post(f"{url}:predict", {"inputs": columns}).get("outputs")
    if len(expected) == 1:  # a single output comes without its name
        (name,) = expected
        in_rows = in_rows and [{name: value} for value in in_rows]
        in_columns = {name: in_columns}
    for name, values in expected.items():
        by_row = in_rows and [row.get(name) for row in in_rows]
        by_column = in_columns and in_columns.get(name)
        for key, found in (("instances", by_row), ("inputs", by_column)):
            if not _is_same(found, values):
                return (
                    f"{name}, asked for by {key!r}: {json.dumps(found):.200} in place "
                    f"of {values!s:.200}"
                )
    return None


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = urllib3.request("POST", url, json=body, timeout=_ANSWER_SECONDS)
    return dict(answer.json())


def _is_same(found: Any, expected: np.ndarray) -> bool:
    """Whether JSON holds exactly these values."""
    try:
        if expected.dtype == object:
            texts = np.array(found, object)
            as_bytes = [str(text).encode() for text in texts.ravel()]
            return texts.shape == expected.shape and as_bytes == list(expected.ravel())
        return np.array_equal(np.array(found, expected.dtype), expected)
    except (TypeError, ValueError):
        return False
