"""An export that is being checked: its parts, each read once and when it is needed."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from kbert.bounded import read_bounded, read_json
from kbert.errors import ExportError
from kbert.exporting import card
from kbert.exporting.checks.points import FailError, SkipError
from kbert.exporting.safety import MAX_GRAPH_BYTES

EXTRA = "assets.extra"


class Session(Protocol):
    """A loaded export; `kbert.exporting.fresh.FreshServable` is one."""

    def call(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]: ...

    def wordpiece(self, model: bytes, words: Sequence[bytes]) -> list[list[int]]: ...

    def load(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class Loading:
    """How the export loaded.

    Attributes:
        session: the loaded export; None where it does not load.
        error: why it does not load, with all of tensorflow-text's ops at hand.
        portable_error: why it does not load with the portable ops alone.
        logged: what TensorFlow logged as errors while loading.
    """

    session: Session | None
    error: str = ""
    portable_error: str = ""
    logged: Sequence[str] = ()


@dataclass(frozen=True)
class Limits:
    """What the card promises: the largest request, and what lengths are padded to."""

    max_length: int
    max_batch_size: int
    length_multiple: int

    def lengths(self) -> list[int]:
        """The lengths in tokens that texts are padded to."""
        multiples = range(self.length_multiple, self.max_length, self.length_multiple)
        return [*multiples, self.max_length]


@dataclass(eq=False)  # one export is another one only by being it; and can be a key
class Export:
    """A folder that is said to be an export.

    Its properties raise SkipError where another point says already what is wrong.

    Attributes:
        folder: the version's folder, absolute.
        open: loads it; called once, by the first point that needs it loaded.
        load_natively: loads it through TensorFlow's C interface; returns what went
            wrong, empty where nothing did; raises SkipError where there is no such
            library.
        round_trip: asks it through a server's JSON; returns what went wrong, None
            where nothing did.
    """

    folder: Path
    open: Callable[[], Loading] = field(repr=False)
    load_natively: Callable[[], str] = field(repr=False)
    round_trip: Callable[[Path], str | None] | None = field(default=None, repr=False)

    @functools.cached_property
    def loading(self) -> Loading:
        """How it loaded."""
        return self.open()

    @property
    def session(self) -> Session:
        """It, loaded; whether it answers is another question."""
        if self.loading.session is None:
            raise SkipError("it does not load (point 16)")
        return self.loading.session

    @functools.cached_property
    def graph_file(self) -> bytes:
        """The bytes of `saved_model.pb`."""
        try:
            file = self.folder / "saved_model.pb"
            return read_bounded(file, MAX_GRAPH_BYTES, ExportError)
        except ExportError:
            raise SkipError("saved_model.pb cannot be read (point 2)") from None

    @functools.cached_property
    def saved_model(self) -> Any:
        """The SavedModel proto."""
        try:
            return saved_model_pb2.SavedModel.FromString(self.graph_file)
        except DecodeError:
            raise SkipError("saved_model.pb is damaged (point 2)") from None

    @functools.cached_property
    def meta_graph(self) -> Any:
        """The MetaGraphDef that a server loads, else the first."""
        graphs = list(self.saved_model.meta_graphs)
        if not graphs:
            raise SkipError("saved_model.pb has no graph (point 3)")
        served = [graph for graph in graphs if "serve" in graph.meta_info_def.tags]
        return (served or graphs)[0]

    @functools.cached_property
    def nodes(self) -> list[Any]:
        """Every NodeDef, of the graph and of its functions."""
        graph = self.meta_graph.graph_def
        inner = (node for f in graph.library.function for node in f.node_def)
        return [*graph.node, *inner]

    @functools.cached_property
    def function_names(self) -> set[str]:
        """The graph's own functions, which a node may name as its op."""
        library = self.meta_graph.graph_def.library
        return {function.signature.name for function in library.function}

    @functools.cached_property
    def signatures(self) -> dict[str, Any]:
        """The SignatureDefs that clients may name, without TensorFlow's own."""
        signatures = self.meta_graph.signature_def
        return {
            name: signatures[name]
            for name in sorted(signatures)
            if not name.startswith("__")
        }

    @functools.cached_property
    def card(self) -> dict[str, Any]:
        """What `assets.extra/kbert.json` says."""
        try:
            return read_json(self.extra(card.FILE_NAME), ExportError)
        except ExportError:
            raise SkipError(
                f"there is no readable {EXTRA}/{card.FILE_NAME} (point 36)"
            ) from None

    @property
    def has_card(self) -> bool:
        """Whether it says of itself that kbert wrote it."""
        return self.extra(card.FILE_NAME).is_file()

    def recorded(self, section: str) -> dict[str, Any]:
        """A section of the card; empty where it has none."""
        value = self.card.get(section)
        return value if isinstance(value, dict) else {}

    @functools.cached_property
    def limits(self) -> Limits:
        """The limits that the card documents."""
        given = self.recorded("limits")
        names = ("max_length", "max_batch_size", "length_multiple")
        values = [given.get(name) for name in names]
        if not all(type(value) is int and 0 < value <= 1_000_000 for value in values):
            raise FailError(
                f"{EXTRA}/{card.FILE_NAME} has to say limits.{', limits.'.join(names)} "
                f"as whole numbers; it says {given}. Export the run again."
            )
        return Limits(*values)  # type: ignore[arg-type]

    @property
    def oldest_serving(self) -> tuple[int, ...]:
        """The oldest TensorFlow Serving that the card promises, else kbert's."""
        recorded = self.recorded("tensorflow_serving") if self.has_card else {}
        text = str(recorded.get("minimum"))
        if not re.fullmatch(r"\d{1,4}\.\d{1,4}", text):
            text = card.OLDEST_SERVING
        return tuple(int(part) for part in text.split("."))

    def extra(self, name: str) -> Path:
        """A file in `assets.extra`."""
        return self.folder / EXTRA / name
