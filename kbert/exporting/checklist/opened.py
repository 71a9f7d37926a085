"""An export, opened for looking at: its files, its graph, and what it answers."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from kbert.errors import ExportError
from kbert.exporting import card
from kbert.exporting.checklist.backends import TIMEOUT, Backend, Servable
from kbert.exporting.checklist.points import Failed, Skipped
from kbert.exporting.fresh import Libraries
from kbert.exporting.golden import TOLERANCES

RoundTrip = Callable[[Path], str | None]

MOST_GRAPH_BYTES = 2**31 - 1  # protobuf's limit
_MOST_FILE_BYTES = 64 * 2**20  # of a card, golden texts, configs
_UNREADABLE = "saved_model.pb cannot be read (point 2)"
_INIT_OPS = "__saved_model_"


class Opened:
    """A folder that may be an export.

    Everything is read when it is first asked for. What needs something that is not
    there raises `Skipped`: the point that is about that thing says what is wrong.
    A context manager; the processes it starts end with it.

    Args:
        folder: the folder with `saved_model.pb`.
        backend: what runs its graph.
        round_trip: asks a server that serves the folder; None where there is none.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        backend: Backend,
        round_trip: RoundTrip | None = None,
    ) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.backend = backend
        self.round_trip = round_trip
        self._servables: dict[Libraries, Servable | ExportError] = {}
        self._hangs = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for servable in self._servables.values():
            if not isinstance(servable, ExportError):
                servable.close()

    # The graph

    def parse(self) -> Any:
        """The SavedModel message.

        Raises:
            Failed: `saved_model.pb` is not there, or is none.
        """
        data = self.read("saved_model.pb", MOST_GRAPH_BYTES)
        try:
            return saved_model_pb2.SavedModel.FromString(data)
        except DecodeError as error:
            raise Failed(
                f"saved_model.pb is no SavedModel, or is cut off ({error}). Export the "
                "run again."
            ) from None

    @cached_property
    def saved_model(self) -> Any:
        try:
            return self.parse()
        except (Failed, OSError, MemoryError):
            raise Skipped(_UNREADABLE) from None

    @cached_property
    def meta_graph(self) -> Any:
        """The MetaGraphDef that a server would load, or the first."""
        graphs = self.saved_model.meta_graphs
        if not graphs:
            raise Skipped("saved_model.pb holds no graph (point 3)")
        tagged = [g for g in graphs if set(g.meta_info_def.tags) == {"serve"}]
        return (tagged or graphs)[0]

    @cached_property
    def functions(self) -> dict[str, Any]:
        """The functions of the graph's library, by name."""
        library = self.meta_graph.graph_def.library
        return {function.signature.name: function for function in library.function}

    def nodes(self) -> Iterator[tuple[str, Any]]:
        """Every node, of the graph and of every function, and where it is."""
        for node in self.meta_graph.graph_def.node:
            yield node.name, node
        for name, function in self.functions.items():
            for node in function.node_def:
                yield f"{node.name} of {name}", node

    @cached_property
    def signatures(self) -> dict[str, Any]:
        """The public signatures: without those that the loader itself uses."""
        definitions = self.meta_graph.signature_def.items()
        return {
            name: definition
            for name, definition in sorted(definitions)
            if not name.startswith(_INIT_OPS)
        }

    @property
    def text_inputs(self) -> list[str]:
        """The inputs of `serving_default`, all of them texts."""
        definition = self.signatures.get("serving_default")
        if definition is None:
            raise Skipped("there is no serving_default (point 19)")
        inputs = definition.inputs
        strings = [n for n, info in inputs.items() if info.dtype == tf.string.as_datatype_enum]
        if not inputs or len(strings) < len(inputs):
            raise Skipped("serving_default does not take texts (point 20)")
        # kbert's order, whatever the order of protobuf's maps.
        return sorted(strings)

    # The files beside it

    def read(self, name: str, most_bytes: int = _MOST_FILE_BYTES) -> bytes:
        """A file's content.

        Raises:
            Failed: it is not there, is no regular file, or too large.
        """
        file = self.folder / name
        if not file.is_file():
            raise Failed(f"there is no file {name} in {self.folder}. Export the run again.")
        if (size := file.stat().st_size) > most_bytes:
            raise Failed(f"{name} has {size:,} bytes; more than {most_bytes:,} is too many")
        return file.read_bytes()

    def extra(self, name: str) -> str:
        """The place of a file that travels with the SavedModel."""
        return f"assets.extra/{name}"

    def has_extra(self, name: str) -> bool:
        return os.path.lexists(self.folder / self.extra(name))

    def read_card(self) -> dict[str, Any]:
        """kbert's card.

        Raises:
            Failed: it is not there, or damaged.
        """
        values = json.loads(self.read(self.extra(card.FILE_NAME)))
        if not isinstance(values, dict):
            raise Failed(f"{card.FILE_NAME} is no JSON object. Export the run again.")
        return values

    @cached_property
    def card(self) -> dict[str, Any]:
        try:
            return self.read_card()
        except (Failed, ValueError, OSError, RecursionError):
            raise Skipped(f"{card.FILE_NAME} cannot be read (point 36)") from None

    def limit(self, name: str) -> int:
        """One of the card's limits."""
        limits = self.card.get("limits")
        value = limits.get(name) if isinstance(limits, dict) else None
        if not isinstance(value, int) or not 1 <= value <= 2**20:
            raise Skipped(f"{card.FILE_NAME} does not say {name}")
        return value

    @property
    def tolerance(self) -> float:
        """How far two answers to the same text may lie apart."""
        precision = "float32"
        if self.has_extra(card.FILE_NAME):
            precision = str(self.card.get("precision"))
        return max(1e-4, TOLERANCES.get(precision, 0.0))

    # What it answers

    def servable(self, libraries: Libraries) -> Servable:
        """The export, loaded in a process with these op libraries.

        Raises:
            ExportError: it cannot be loaded.
        """
        if libraries not in self._servables:
            _ = self.saved_model
            try:
                opened = self.backend.open(self.folder, libraries)
                self._servables[libraries] = opened
            except ExportError as error:
                self._servables[libraries] = error
        result = self._servables[libraries]
        if isinstance(result, ExportError):
            raise result
        return result

    @property
    def loaded(self) -> Servable:
        """The export, loaded with the portable libraries or, else, with all."""
        choices: Sequence[Libraries] = ("portable", "all")
        for libraries in choices:
            try:
                return self.servable(libraries)
            except ExportError:
                continue
        raise Skipped("it does not load (points 15 to 17)")

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Raises:
            ExportError: the request fails.
        """
        servable = self.loaded
        if self._hangs:
            raise Skipped(f"an earlier request failed: {self._hangs}")
        start = time.monotonic()
        try:
            return servable.call(signature, inputs)
        except ExportError as error:
            # One that hangs is not asked again: each time would take as long.
            if time.monotonic() - start >= TIMEOUT:
                self._hangs = str(error)
            raise
