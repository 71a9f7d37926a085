"""What a SavedModel may do: one that reaches out of its graph is not loaded.

A SavedModel is a program. Loading one runs its initializer and asking it runs its
signatures, with all operations of TensorFlow, some of which read, write and delete
files or talk to other machines. So what can be reached is compared with what models
need: operations without effects, variables, tables, random numbers. A graph that is
let in can still compute for long and fill memory; only the operating system can bound
that (docs/serving.md).
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from kbert.bounded import read_bounded, resolve_inside
from kbert.errors import ExportError

MAX_GRAPH_BYTES = 1_000_000_000
"""Of saved_model.pb, which holds no weights: kbert's has a few MB."""

# Operations that TensorFlow marks as having effects, whose effects stay in the session.
_HARMLESS = re.compile(
    r"(VarHandle|ReadVariable|Assign\w*Variable|VarIsInitialized|DestroyResource)Op"
    r"|Variable(V2|Shape)?|TemporaryVariable|DestroyTemporaryVariable"
    r"|Assign(Add|Sub)?|IsVariableInitialized"
    r"|Resource(Gather|GatherNd|Scatter\w+)|Scatter(Update|Add|Sub)"
    r"|(Anonymous)?(Mutable)?(Dense)?HashTable(OfTensors)?(V\d)?"
    r"|LookupTable\w+|InitializeTable(V2)?|InitializeTableFromTextFile(V2)?"
    r"|(Stateful)?PartitionedCall|(Stateful|Stateless)?(If|While|Case)|SymbolicGradient"
    r"|Random\w+|TruncatedNormal|Multinomial|ParameterizedTruncatedNormal"
    r"|Stateful(Uniform\w*|StandardNormal\w*|TruncatedNormal|RandomBinomial)"
    r"|Rng(ReadAndSkip|Skip)|NonDeterministicInts|StatelessRandom\w+"
    r"|Stack\w*|TensorArray\w*|Barrier\w*|MutexV2|MutexLock"
    # What Python it calls is not in the file: in another process there is none.
    r"|(Eager)?PyFunc(Stateless)?"
    r"|Assert|Print|NoOp|Timestamp|RestoreV2|ControlTrigger|EnsureShape"
)
# Those that reach out although TensorFlow marks them as without effects, or may.
_REACHES_OUT = re.compile(
    r".*(Dataset|Iterator|Debug|Reader|Writer|Summary|Proto(V2)?$|Collective"
    r"|Nccl|Remote|Rpc|DataService|Snapshot|BigQuery|Bigtable).*"
    r"|(Read|Write|Matching|Delete|Rename|Copy)File\w*|MatchingFiles|Copy(Host)?"
    r"|_?(Host)?(Send|Recv)|Save\w*|MergeV2Checkpoints|Restore(Slice)?|Import\w+"
    r"|FileSystem\w+|Xla\w+|LMDB\w*|Decode\w*Audio|Get\w*Handle\w*"
)
_TO_FILE = b"file:"  # of PrintV2: what is printed is added to a file


def check_export(folder: Path, *, root: Path | None = None) -> None:
    """Checks, before it is loaded, that a SavedModel keeps to its graph and its folder.

    What is damaged is left for the loader to tell.

    Args:
        folder: with `saved_model.pb`.
        root: a folder around it that links may lead to; None for `folder`.

    Raises:
        ExportError: it has operations that reach out, or files that lie elsewhere.
    """
    # A version may itself be a link, as deployments make it; then it is the folder.
    real = Path(os.path.realpath(folder))
    around = real if root is None else Path(os.path.realpath(root))
    around = around if real.is_relative_to(around) else real
    for name in _files(folder):
        resolve_inside(folder, name, ExportError, root=around)
    if (folder / "saved_model.cpb").exists():
        raise ExportError(
            f"{folder / 'saved_model.cpb'} is a graph in several parts, which "
            "is not checked and so not loaded. Export it as saved_model.pb."
        )
    file = folder / "saved_model.pb"
    if not file.exists():
        return
    try:
        content = read_bounded(file, MAX_GRAPH_BYTES, ExportError)
        saved_model = saved_model_pb2.SavedModel.FromString(content)
    except DecodeError:
        return
    for meta_graph in saved_model.meta_graphs:
        for asset in meta_graph.asset_file_def:
            resolve_inside(folder / "assets", asset.filename, ExportError)
        if found := sorted(set(_reaching_out(meta_graph))):
            raise ExportError(
                f"{folder} has operations that reach files or other programs, and is "
                f"not loaded: {', '.join(found[:5])}. A model needs none of them: "
                "export it without."
            )


def reachable_nodes(graph_def: Any, ends: Iterable[str]) -> Iterator[Any]:
    """The nodes that tensors or operations depend on, inside functions too.

    Args:
        graph_def: with its library of functions.
        ends: names, as `node`, `node:0` or `^node`.
    """
    library = {f.signature.name: f for f in graph_def.library.function}
    entered: set[str] = set()
    waiting = [(graph_def.node, list(ends), True)]
    while waiting:
        nodes, starts, is_graph = waiting.pop()
        by_name = {node.name: node for node in nodes}
        for node in ancestors(by_name, starts) if is_graph else nodes:
            yield node
            for name in called_functions(node):
                if name in library and name not in entered:
                    entered.add(name)
                    # All of it: operations with effects run whoever needs them.
                    waiting.append((library[name].node_def, [], False))


def _reaching_out(meta_graph: Any) -> Iterator[str]:
    graph = meta_graph.graph_def
    functions = {f.signature.name for f in graph.library.function}
    for node in reachable_nodes(graph, _ends(meta_graph)):
        if node.op == "PrintV2":
            if node.attr["output_stream"].s.startswith(_TO_FILE):
                yield "PrintV2 to a file"
        elif node.op not in functions and not _is_harmless(node.op):
            yield node.op


def _is_harmless(op: str) -> bool:
    if _REACHES_OUT.fullmatch(op):
        return False
    definition = op_def_registry.get(op)
    # What is not registered is refused by the loader, in its own words.
    return (
        definition is None
        or not definition.is_stateful
        or _HARMLESS.fullmatch(op) is not None
    )


def _ends(meta_graph: Any) -> Iterator[str]:
    """What loading and asking run: restoring, initializers and all signatures."""
    yield meta_graph.saver_def.restore_op_name
    for signature in meta_graph.signature_def.values():
        for info in signature.outputs.values():
            yield info.name
            yield from _components(info)
        # A request may feed these, and the loader what is in its collections.
        yield from (info.name for info in signature.inputs.values())
    for collection in meta_graph.collection_def.values():
        yield from collection.node_list.value
        for item in collection.any_list.value:
            yield from re.findall(r"[\w./^:-]+", item.value.decode("latin-1"))


def _components(info: Any) -> Iterator[str]:
    coo = info.coo_sparse
    yield from (
        coo.values_tensor_name,
        coo.indices_tensor_name,
        coo.dense_shape_tensor_name,
    )
    yield from (component.name for component in info.composite_tensor.components)


def ancestors(nodes: Mapping[str, Any], starts: list[str]) -> Iterator[Any]:
    """The nodes that tensors depend on, named `node:0`, `node:name:0` or `^node`."""
    seen = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop().removeprefix("^").partition(":")[0]
        if name in nodes and name not in seen:
            seen.add(name)
            yield nodes[name]
            waiting += nodes[name].input


def called_functions(node: Any) -> Iterator[str]:
    """The functions that a node calls: by its op, or by an attribute."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _files(folder: Path) -> Iterator[str]:
    """Everything below a folder, links not followed."""
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield os.path.relpath(os.path.join(parent, name), folder)
