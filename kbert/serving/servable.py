"""One loaded version of a model.

Loaded as TensorFlow Serving loads: through the TF1 loader into a graph and a session,
which see the SavedModel's signatures and none of its Python objects. Axes: B rows.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.util import deprecation

from kbert.errors import ConfigError, ExportError
from kbert.exporting.safety import check_export
from kbert.serving import op_libraries
from kbert.serving.batching import Batcher
from kbert.serving.batching_options import read_batching_options
from kbert.serving.memory import release_memory
from kbert.serving.request_limits import DEFAULT_LIMITS, RequestLimits
from kbert.serving.status import Code, StatusError, from_tensorflow
from kbert.serving.warmup_replay import replay_warmup

logger = logging.getLogger(__name__)

_TAGS = ["serve"]
# What Python's session puts before the message of the run.
_PREFIX = "Graph execution error:\n\n"
# What the loader raises for a folder that is no complete SavedModel; the first counts.
_LOAD_ERRORS = {
    FileNotFoundError: Code.NOT_FOUND,
    PermissionError: Code.PERMISSION_DENIED,
    OSError: Code.DATA_LOSS,  # a file cannot be parsed
    RuntimeError: Code.NOT_FOUND,  # no graph with the tag
    ValueError: Code.FAILED_PRECONDITION,  # no variables, an inconsistent graph
    TypeError: Code.FAILED_PRECONDITION,
    LookupError: Code.FAILED_PRECONDITION,
}


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """How versions are loaded.

    Attributes:
        warmup: whether the warm-up records are run.
        warmup_iterations: how often each of them is run.
        batching: a `kbert.protos.BatchingParameters`; None runs each request alone.
        intra_op_threads: threads an operation may use, in all of the process; 0 for
            one a core. The first version that is loaded settles it.
        inter_op_threads: operations that may run at once; as above.
        limits: of a request.
    """

    warmup: bool = True
    warmup_iterations: int = 1
    batching: Any = None
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    limits: RequestLimits = DEFAULT_LIMITS


class Servable:
    """A version that answers; `Servable.load` makes one.

    Attributes:
        name: the model's name.
        version: the version's number.
        path: where it was loaded from.
        signatures: the SignatureDef of each signature's name, those that begin with
            two underscores included.
    """

    def __init__(
        self,
        name: str,
        version: int,
        path: Path,
        session: Any,
        signatures: Any,
        limits: RequestLimits,
    ) -> None:
        self.name, self.version, self.path = name, version, path
        self._limits = limits
        self.signatures: dict[str, Any] = signatures
        self._session = session
        self._batcher: Batcher | None = None

    @classmethod
    def load(
        cls, name: str, version: int, path: Path, options: LoadOptions
    ) -> "Servable":
        """Loads a SavedModel, starts its batching and runs its warm-up records.

        Raises:
            StatusError: the folder is no complete SavedModel, it needs an operation
                that is not registered, or a warm-up record fails.
        """
        start = time.monotonic()
        servable = cls._open(name, version, path, options)
        try:
            if options.batching is not None:
                batching = read_batching_options(options.batching)
                servable._batcher = Batcher(servable._run_session, batching)
            if options.warmup:
                replay_warmup(servable, options.warmup_iterations)
        except ConfigError as error:
            servable.close()
            raise StatusError(Code.INVALID_ARGUMENT, str(error)) from None
        except BaseException:
            servable.close()
            raise
        logger.info(
            "Loaded %s version %d from %s in %.1f s",
            name,
            version,
            path,
            time.monotonic() - start,
        )
        return servable

    @classmethod
    def _open(
        cls, name: str, version: int, path: Path, options: LoadOptions
    ) -> "Servable":
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=options.intra_op_threads,
            inter_op_parallelism_threads=options.inter_op_threads,
        )
        # While versions are swapped, two of them share the memory of a GPU.
        config.gpu_options.allow_growth = True
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            op_libraries.register()
            if not (path / "saved_model.pb").is_file():
                raise FileNotFoundError(
                    "Could not find SavedModel .pb or .pbtxt at supplied export "
                    f"directory path: {path}"
                )
            check_export(path, root=path.parent)
            # Deprecated it may be, but it is how TensorFlow Serving loads.
            with graph.as_default(), deprecation.silence():
                load = tf.compat.v1.saved_model.loader.load
                meta_graph = load(session, _TAGS, str(path))
        except ExportError as error:
            status = StatusError(Code.FAILED_PRECONDITION, str(error))
        except tf.errors.OpError as error:
            status = _status_of(error)
        except tuple(_LOAD_ERRORS) as error:
            code = next(
                c for kind, c in _LOAD_ERRORS.items() if isinstance(error, kind)
            )
            status = StatusError(code, str(error))
        else:
            graph.finalize()
            signatures = dict(meta_graph.signature_def)
            return cls(name, version, path, session, signatures, options.limits)
        session.close()
        raise status

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature, in a batch with other requests where batching is on.

        Safe from any thread; it returns when the answer is there.

        Args:
            signature_name: one of `signatures`.
            inputs: [B, ...] by the signature's name for them, all that it has and in
                its types (signature_checks.py); strings are bytes in arrays of objects.
            outputs: which of the signature's outputs.
            timeout: seconds; None for as long as it takes.

        Raises:
            StatusError: INVALID_ARGUMENT, a shape or value is not the signature's,
                or there are more rows or longer texts than the limits allow;
                DEADLINE_EXCEEDED; UNAVAILABLE, the queue of batches is full; or what
                the graph gives.
        """
        self._limits.check(inputs)
        if self._batcher is None or not inputs:
            return self._run_session(signature_name, inputs, outputs, timeout)
        return self._batcher.run(signature_name, inputs, outputs, timeout)

    def close(self, *, cancel: bool = False) -> None:
        """Ends batching and gives the memory back.

        Args:
            cancel: whether what still runs is cancelled, in place of waited for.
        """
        session = self._session
        if cancel:
            session.close()
        if self._batcher is not None:
            self._batcher.close()
        session.close()
        self._session = self._batcher = None
        # The last reference to the graph, from here.
        del session
        release_memory()

    def _run_session(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> dict[str, np.ndarray]:
        """One run of the graph. Arguments and errors as in `run`."""
        session, signature = self._session, self.signatures[signature_name]
        if session is None:
            raise StatusError(Code.UNAVAILABLE, f"{self.name} has been unloaded")
        options = None
        if timeout is not None:
            # 0 would be no limit at all.
            milliseconds = max(1, round(timeout * 1000))
            options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
        try:
            find = session.graph.get_tensor_by_name
            feeds = {
                find(signature.inputs[name].name): value
                for name, value in inputs.items()
            }
            fetches = [find(signature.outputs[name].name) for name in outputs]
            found = session.run(fetches, feeds, options=options)
        except tf.errors.OpError as error:
            raise _status_of(error) from None
        except (ValueError, TypeError, LookupError) as error:
            raise StatusError(Code.INVALID_ARGUMENT, str(error)) from None
        except RuntimeError as error:  # closed while it was on its way
            raise StatusError(Code.UNAVAILABLE, str(error)) from None
        return {
            name: _as_array(value) for name, value in zip(outputs, found, strict=True)
        }


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    # A single string comes as bytes, of which NumPy would strip NULs at the end.
    return np.array(value, object if isinstance(value, bytes) else None)


def _status_of(error: tf.errors.OpError) -> StatusError:
    status = from_tensorflow(error)
    return StatusError(status.code, status.message.removeprefix(_PREFIX))
