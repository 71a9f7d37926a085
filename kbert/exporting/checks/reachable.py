"""What training leaves behind: point 39."""

import re
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from kbert.exporting.checks.opened import Export
from kbert.exporting.checks.points import Check, FailError, SkipError, some
from kbert.exporting.safety import ancestors, called_functions

# Slots as Keras, TensorFlow 2 and TensorFlow 1 name them, and the state of dropout.
_SLOT = re.compile(
    r"optimizer|beta[12]_power|_(momentum|velocity)(_\d+)?$|seed_generator_state"
    r"|(^|/)(adam|adamw|momentum|adagrad|rmsprop|ftrl)(_\d+)?(/|$)",
    re.IGNORECASE,
)
_RANDOM = re.compile(
    r".*Dropout.*|(Stateful|Stateless)?(Random|Truncated|Parameterized).*"
    r"|(Stateless)?Multinomial"
)


def is_for_inference(export: Export) -> str:
    """Point 39."""
    index = export.folder / "variables" / "variables"
    try:
        keys = [name for name, _ in tf.train.list_variables(str(index))]
    except tf.errors.OpError:
        raise SkipError("the variables cannot be read (points 2 and 16)") from None
    # A key may be a mere number; the graph has the name that the variable was given.
    handles = [node for node in export.nodes if node.op == "VarHandleOp"]
    names = [handle.attr["shared_name"].s.decode() for handle in handles]
    if slots := sorted({name for name in [*keys, *names] if _SLOT.search(name)}):
        raise FailError(
            f"variables that only training needs: {some(slots)}. An optimizer's make "
            "an export three times as large; save the model's weights alone."
        )
    ops = reachable_ops(export.meta_graph, export.signatures.values())
    if drawn := sorted(op for op in ops if _RANDOM.fullmatch(op)):
        raise FailError(
            f"answers depend on {some(drawn)}: on chance. Call the model with "
            "training=False."
        )
    return f"{len(keys)} variables"


def reachable_ops(meta_graph: Any, signatures: Iterable[Any]) -> set[str]:
    """The ops that the outputs of signatures depend on, inside functions too."""
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    outputs = (info.name for s in signatures for info in s.outputs.values())
    ops: set[str] = set()
    entered: set[str] = set()
    waiting = [(meta_graph.graph_def.node, list(outputs))]
    while waiting:
        nodes, starts = waiting.pop()
        for node in ancestors({node.name: node for node in nodes}, starts):
            ops.add(node.op)
            for name in called_functions(node):
                if name in library and name not in entered:
                    entered.add(name)
                    function = library[name]
                    ends = [*function.ret.values(), *function.control_ret.values()]
                    waiting.append((function.node_def, ends))
    return ops


CHECKS = (Check(39, "nothing of training is left", is_for_inference),)
