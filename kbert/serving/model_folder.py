"""The folder that a person points a server at, checked before TensorFlow is imported.

TensorFlow Serving waits for ever for a first version in a folder that is empty or
does not exist. Here the mistake behind it is named.
"""

import os
from pathlib import Path

from kbert.errors import ServingError
from kbert.exporting.versions import versions_in

BATCHING_FILE = Path("assets.extra", "batching_parameters.txt")
_SHOWN = 5


def check_model_folder(folder: Path) -> Path:
    """Checks that a folder holds versions of a model.

    Returns:
        The folder's absolute path, as a server needs it.

    Raises:
        ServingError: it holds none; the message says what it is and how to mend it.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.exists():
        raise ServingError(
            f"No model at {folder}: there is no such folder. Make one with: kbert "
            f"export RUN {_shown(folder)}"
        )
    if not folder.is_dir():
        raise ServingError(
            f"A model is a folder with numbered versions in it. {folder} is a file; "
            "for a file that lists models there is --model_config_file."
        )
    if (folder / "saved_model.pb").exists():
        raise ServingError(_what_to_do_with_version(folder))
    if (folder / "config.toml").exists() or (folder / "task.json").exists():
        raise ServingError(
            f"{folder} is a run, and a server loads exports. Export it first: kbert "
            f"export {_shown(folder)} saved_models/{folder.name}"
        )
    if not versions_in(folder):
        raise ServingError(_what_to_do_without_versions(folder))
    return folder


def own_batching_file(folder: Path) -> Path | None:
    """The batching parameters that travel with the newest version, if any do."""
    versions = versions_in(folder)
    if not versions:
        return None
    path = versions[max(versions)] / BATCHING_FILE
    return path if path.is_file() else None


def _what_to_do_with_version(folder: Path) -> str:
    if folder.name.isdigit():
        return (
            f"{folder} is one version of a model. Give the folder above it, from which "
            f"newer versions are picked up too: kbert serve {_shown(folder.parent)}"
        )
    return (
        f"{folder} is a SavedModel without a version. A server wants it in a numbered "
        f"folder: move it to {_shown(folder / '1')} and give {_shown(folder)}"
    )


def _what_to_do_without_versions(folder: Path) -> str:
    models = sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and versions_in(entry)
    )
    if models:
        some = ", ".join(_shown(model) for model in models[:_SHOWN])
        more = ", ..." if len(models) > _SHOWN else ""
        return (
            f"{folder} has no numbered versions in it, but models: {some}{more}. Give "
            "one of them, or list several in a --model_config_file."
        )
    state = "has no numbered versions in it" if any(folder.iterdir()) else "is empty"
    return (
        f"No model in {folder}: the folder {state}. Write a version with: kbert export "
        f"RUN {_shown(folder)}"
    )


def _shown(path: Path) -> str:
    """A path as a person would write it: relative where it lies below them."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
