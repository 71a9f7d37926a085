"""Which versions wrote the export, and which serve it: points 36 and 37."""

from kbert.exporting import card
from kbert.exporting.checks.opened import EXTRA, Export
from kbert.exporting.checks.points import Check, FailError, SkipError, some

_PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-hub", "kbert")
# 2.20.0 builds vocabularies without [UNK], 2.21.0 cannot be imported:
# https://github.com/tensorflow/text/issues/1462, /issues/1541.
_BROKEN_TEXT = ("2.20.0", "2.21.0")
# TF_GRAPH_DEF_VERSION grows by one a day and was 1395 when TensorFlow 2.12, the oldest
# that a card may promise, was cut.
_OLDEST_GRAPH_VERSION = 1390


def versions_are_recorded(export: Export) -> str:
    """Point 36."""
    if not export.has_card:
        raise FailError(
            f"there is no {EXTRA}/{card.FILE_NAME}, so that nobody can tell what wrote "
            "it. `kbert export` writes one."
        )
    try:
        versions = export.recorded("versions")
    except SkipError:
        raise FailError(f"{EXTRA}/{card.FILE_NAME} is no JSON object.") from None
    missing = [p for p in _PACKAGES if not isinstance(versions.get(p), str)]
    if missing:
        raise FailError(
            f"{EXTRA}/{card.FILE_NAME} lacks versions of {some(missing)}. Export again."
        )
    if versions["tensorflow-text"] in _BROKEN_TEXT:
        raise FailError(
            f"tensorflow-text {versions['tensorflow-text']} is broken. Install 2.21.1 "
            "or later and export again."
        )
    return ", ".join(f"{package} {versions[package]}" for package in _PACKAGES)


def server_is_recorded(export: Export) -> str:
    """Point 37. Versions of graphs are compared with TensorFlow 2.12's, whatever the
    card promises: the oldest of those that it may."""
    needed = export.meta_graph.graph_def.versions.min_consumer
    if needed > _OLDEST_GRAPH_VERSION:
        raise FailError(
            f"the graph asks for a TensorFlow of graph version {needed}, later than "
            "2.12. Export with a TensorFlow that writes what older ones read."
        )
    serving = export.recorded("tensorflow_serving")
    minimum, recommended = (str(serving.get(n)) for n in ("minimum", "recommended"))
    written_by = str(export.recorded("versions").get("tensorflow"))
    if _minor(recommended) < max(_minor(written_by), _minor(minimum)):
        raise FailError(
            f"the card recommends TensorFlow Serving {recommended} for an export of "
            f"TensorFlow {written_by} that asks for {minimum}: older than one of them. "
            "Export again."
        )
    return f"TensorFlow Serving {recommended} for TensorFlow {written_by}"


CHECKS = (
    Check(36, "what wrote it is recorded", versions_are_recorded),
    Check(37, "a server of the recorded version reads the graph", server_is_recorded),
)


def _minor(version: str) -> tuple[int, int]:
    """`2.21.1` -> (2, 21)."""
    try:
        major, minor = version.split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        raise FailError(
            f"{EXTRA}/{card.FILE_NAME} has to record versions.tensorflow, and minimum "
            "and recommended of tensorflow_serving, such as 2.21; one of them is "
            f"{version}. Export again."
        ) from None
