"""The folder itself: points 1 and 2, and the files that the graph names, 13."""

import os
import re
import stat
from pathlib import Path

from kbert.exporting.checks.opened import Export
from kbert.exporting.checks.points import Check, FailError, SkipError, some
from kbert.exporting.versions import version_number, versions_in

_LARGEST_PROTO = 2**31
_TABLE = re.compile(r".*HashTable.*|InitializeTable.*|LookupTableImport.*")
_DATA_FILE = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")


def is_a_version(export: Export) -> str:
    """Point 1. That it was published by a rename cannot be seen afterwards; that no
    other version beside it is half-written can."""
    folder = export.folder
    if version_number(folder.name) is None:
        raise FailError(
            "a server looks for folders named by a whole number, as in models/NAME/1. "
            f"This one is named {folder.name!r}: rename it."
        )
    siblings = versions_in(folder.parent).values()
    half = [s.name for s in siblings if s.is_dir() and not _is_complete(s)]
    if half := [name for name in half if name != folder.name]:
        raise FailError(
            f"version {some(half)} beside it lacks saved_model.pb or its variables, "
            "and a server would try to load it. Remove it; write versions under a "
            "hidden name and rename them."
        )
    if closed := _closed_to_others(folder):
        raise FailError(
            f"other users, such as a server's, may not read {some(closed)}. "
            "Run: chmod -R a+rX on the folder."
        )
    return f"version {int(folder.name)}"


def has_the_files(export: Export) -> str:
    """Point 2."""
    folder = export.folder
    if (folder / "saved_model.cpb").exists():
        raise FailError(
            "saved_model.cpb is the format of chunks, which servers before 2.15 do not "
            "read. Export without experimental_image_format."
        )
    graph = folder / "saved_model.pb"
    if not graph.is_file():
        raise FailError("there is no saved_model.pb. Export the run again.")
    size = graph.stat().st_size
    if size >= _LARGEST_PROTO:
        raise FailError(
            f"saved_model.pb has {size} bytes; a protobuf has less than 2 GiB."
        )
    try:
        _ = export.saved_model
    except SkipError:
        raise FailError(
            f"saved_model.pb, {size} bytes, is no SavedModel: cut off, or damaged. "
            "Copy it or export the run again."
        ) from None
    if missing := _missing_variables(folder):
        raise FailError(f"there is no {some(missing)}. Copy or export the run again.")
    return f"saved_model.pb has {size} bytes"


def assets_are_there(export: Export) -> str:
    """Point 13."""
    names = [asset.filename for asset in export.meta_graph.asset_file_def]
    if paths := [name for name in names if Path(name).name != name]:
        raise FailError(
            f"an asset is named by its file name in assets/ alone, not {some(paths)}. "
            "Save it through tf.saved_model.Asset."
        )
    if missing := [n for n in names if not (export.folder / "assets" / n).is_file()]:
        raise FailError(f"assets/ lacks {some(missing)}, which the graph reads.")
    tables = sorted({node.op for node in export.nodes if _TABLE.fullmatch(node.op)})
    if tables and not _has_init_op(export):
        raise FailError(
            f"the graph has tables ({some(tables)}) and nothing that fills them: there "
            "is no __saved_model_init_op. Keep the table on an attribute of the object "
            "that is saved."
        )
    return f"{len(names)} assets, {len(tables)} kinds of table"


CHECKS = (
    Check(1, "a version's folder, complete and readable by all", is_a_version),
    Check(2, "saved_model.pb and variables are there", has_the_files),
    Check(13, "assets are in the folder and tables are filled", assets_are_there),
)


def _is_complete(folder: Path) -> bool:
    return (folder / "saved_model.pb").is_file() and not _missing_variables(folder)


def _missing_variables(folder: Path) -> list[str]:
    variables = folder / "variables"
    if not (variables / "variables.index").is_file():
        return ["variables/variables.index"]
    names = {entry.name for entry in variables.iterdir()}
    matches = list(filter(None, map(_DATA_FILE.fullmatch, names)))
    if not matches:
        return ["variables/variables.data-00000-of-00001"]
    count = int(matches[0][2])
    wanted = [f"variables.data-{n:05}-of-{count:05}" for n in range(count)]
    return [f"variables/{name}" for name in wanted if name not in names]


def _closed_to_others(folder: Path) -> list[str]:
    closed = []
    for parent, _, names in os.walk(folder):
        if not _allows(Path(parent), stat.S_IROTH | stat.S_IXOTH):
            closed.append(os.path.relpath(parent, folder.parent))
        for name in names:
            if not _allows(Path(parent, name), stat.S_IROTH):
                closed.append(os.path.relpath(Path(parent, name), folder.parent))
    return closed


def _allows(path: Path, bits: int) -> bool:
    return path.exists() and path.stat().st_mode & bits == bits


def _has_init_op(export: Export) -> bool:
    meta_graph = export.meta_graph
    return "__saved_model_init_op" in meta_graph.signature_def or any(
        name in meta_graph.collection_def
        for name in ("saved_model_main_op", "legacy_init_op")
    )
