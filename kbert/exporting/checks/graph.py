"""The graph: points 3 to 7 and 9 to 12, from saved_model.pb alone."""

import os
import re
from collections.abc import Iterator

import tensorflow as tf

from kbert.exporting.checks.opened import Export
from kbert.exporting.checks.points import Check, FailError, some

# tensorflow-text's ops that every TensorFlow Serving since 2.12 has and can run.
PORTABLE_OPS = frozenset(
    {
        "FastWordpieceTokenizeWithOffsets",
        "NormalizeUTF8",
        "RegexSplitWithOffsets",
        "WordpieceTokenizeWithOffsets",
    }
)
# Linked since TensorFlow Serving 2.20 only.
_SINCE_2_20 = frozenset(
    {"TFText>RoundRobinGenerateMasks", "TFText>RoundRobinTrim", "TFText>Utf8Binarize"}
)
# The rest of those that it links, from before they had a namespace.
_OTHER_TEXT_OPS = frozenset(
    {
        "CaseFoldUTF8",
        "ConstrainedSequence",
        "FastBertNormalize",
        "FindSourceOffsets",
        "MaxSpanningTree",
        "NormalizeUTF8WithOffsetsMap",
        "PhraseTokenize",
        "RougeL",
        "SentenceFragments",
        "SentenceFragmentsV2",
        "SentencepieceDetokenizeOp",
        "SentencepieceIdToStringOp",
        "SentencepieceOp",
        "SentencepieceStringToIdOp",
        "SentencepieceTokenizeOp",
        "SentencepieceTokenizeWithOffsetsOp",
        "SentencepieceVocabSizeOp",
        "SplitMergeTokenizeWithOffsets",
        "TokenizerFromLogits",
        "UnicodeScriptTokenizeWithOffsets",
        "WhitespaceTokenizeWithOffsets",
    }
)
_OUTSIDE = re.compile(
    r"(Eager)?PyFunc(Stateless)?|ReadFile|WriteFile|MatchingFiles"
    r"|TPU.*|Nccl.*|Collective.*"
)
_ICU = ("CaseFoldUTF8", "NormalizeUTF8WithOffsetsMap")
_QUANTISED = re.compile(
    r"(De|Re)?[Qq]uantize.*|Quantized.*|FakeQuant.*"
    r"|Uniform(Quantize|Dequantize|Requantize|Quantized).*"
)
_STATEFUL = re.compile(
    r"MutableHashTable.*|MutableDenseHashTable.*|.*[Ss]entencepiece.*"
)
_LOCAL_PATH = re.compile(
    rb"(?<![\w./])/(?:tmp|home|root|Users|var/folders|private/var)(?:/[^\s\"'\x00]*)?"
)
_DEVICE = re.compile(
    r"(/job:localhost)?(/replica:0)?(/task:0)?(/(device:)?(CPU|cpu):([0-9]+|\*))?"
)


def is_one_graph(export: Export) -> str:
    """Point 3."""
    graphs = export.saved_model.meta_graphs
    if len(graphs) != 1:
        raise FailError(f"there is one graph in an export, not {len(graphs)}.")
    tags = sorted(graphs[0].meta_info_def.tags)
    if tags != ["serve"]:
        raise FailError(f"its tags are {tags}, and a server loads ['serve'].")
    if not graphs[0].meta_info_def.stripped_default_attrs:
        raise FailError(
            "attributes at their defaults were written too, and an older server "
            "refuses those that it does not know. Save with strip_default_attrs=True."
        )
    return ""


def ops_are_known(export: Export) -> str:
    """Point 4: every op is one of TensorFlow's or of tensorflow-text's. Which of the
    latter an export may use is the matter of point 5."""
    known = PORTABLE_OPS | _OTHER_TEXT_OPS | export.function_names
    ops = {node.op for node in export.nodes}
    unknown = [
        op
        for op in sorted(ops)
        if op not in known
        and not op.startswith("TFText>")
        and not (op.isidentifier() and op[0] != "_" and hasattr(tf.raw_ops, op))
        and not _is_compiled(op)
    ]
    if unknown:
        raise FailError(
            f"a server does not have {some(unknown)}. Use ops of TensorFlow, or of "
            "tensorflow-text, that are registered without a library of your own."
        )
    return f"{len(ops)} ops"


def text_ops_are_portable(export: Export) -> str:
    """Point 5. With a `tensorflow_serving.minimum` of 2.20 or later in the card, the
    three ops of point 7 are portable too."""
    allowed = PORTABLE_OPS | (
        _SINCE_2_20 if export.oldest_serving >= (2, 20) else set()
    )
    used = sorted(op for op in {node.op for node in export.nodes} if _is_text_op(op))
    if others := [op for op in used if op not in allowed]:
        raise FailError(
            f"{some(others)} cannot be relied on in a server. Of tensorflow-text use "
            f"{some(sorted(allowed), 9)}; kbert.tokenization does."
        )
    return some(used)


def unicode_needs_no_data(export: Export) -> str:
    """Point 6."""
    if found := _among(export, _ICU):
        raise FailError(
            f"{some(found)} needs ICU's data, which TensorFlow Serving 2.20 lacks: "
            "each request fails. Use StringLower and NormalizeUTF8 in form NFD."
        )
    forms = {
        node.attr["normalization_form"].s.decode("utf-8", "replace")
        for node in export.nodes
        if node.op == "NormalizeUTF8"
    }
    if wrong := sorted(forms - {"NFC", "NFD"}):
        raise FailError(
            f"NormalizeUTF8 in form {some(wrong)} needs ICU's data, which TensorFlow "
            "Serving 2.20 lacks. Use NFC or NFD."
        )
    return some(sorted(forms))


def trims_in_core_ops(export: Export) -> str:
    """Point 7."""
    found = _among(export, _SINCE_2_20)
    if found and export.oldest_serving < (2, 20):
        raise FailError(
            f"{some(found)} exists since TensorFlow Serving 2.20. Cut texts with core "
            'ops, or say "tensorflow_serving": {"minimum": "2.20"} in the card.'
        )
    return ""


def runs_nothing_outside(export: Export) -> str:
    """Point 9."""
    found = _matching(export, _OUTSIDE)
    found += [
        "PrintV2 to a file"
        for node in export.nodes
        if node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:")
    ]
    if found:
        raise FailError(
            f"{some(found)} needs Python, files or devices that a server does not "
            "have. Write that part in other ops."
        )
    return ""


def needs_no_xla(export: Export) -> str:
    """Point 10."""
    if found := sorted({node.op for node in export.nodes if _is_compiled(node.op)}):
        raise FailError(
            f"{some(found)} runs through XLA, which a server has switched off. Export "
            "from Keras's TensorFlow backend, without jit_compile."
        )
    owners = [(node.name, node.attr) for node in export.nodes]
    functions = export.meta_graph.graph_def.library.function
    owners += [(function.signature.name, function.attr) for function in functions]
    compiled = [
        name
        for name, attributes in owners
        for key in ("_XlaMustCompile", "_XlaCompile")
        if key in attributes and attributes[key].b
    ]
    if compiled:
        raise FailError(
            f"{some(compiled)} is to be compiled by XLA, which a server has switched "
            "off. Export without jit_compile=True."
        )
    return ""


def computes_in_floats(export: Export) -> str:
    """Point 11. No card can declare a quantised export: none has been seen to serve."""
    if found := _matching(export, _QUANTISED):
        raise FailError(f"{some(found)} is quantised arithmetic. Export in float32.")
    if found := _matching(export, _STATEFUL):
        raise FailError(
            f"{some(found)} keeps its contents in a resource. Keep the vocabulary in "
            "constants, as kbert.tokenization does."
        )
    return ""


def names_no_local_path(export: Export) -> str:
    """Point 12: in strings of constants and attributes, assets and devices."""
    assets = export.meta_graph.asset_file_def
    texts = [*_strings(export), *(asset.filename.encode() for asset in assets)]
    here = os.getcwd().encode()
    found = {match[0] for text in texts for match in _LOCAL_PATH.finditer(text)}
    if here.count(b"/") > 1:
        found |= {text for text in texts if here in text}
    if found:
        paths = sorted(path.decode("utf-8", "replace") for path in found)
        raise FailError(
            f"the graph names {some(paths)}, which a server does not have. Keep what "
            "is read from files in constants or assets."
        )
    devices = {node.device for node in export.nodes}
    if wrong := sorted(name for name in devices if not _DEVICE.fullmatch(name)):
        raise FailError(
            f"nodes are bound to {some(wrong)}. Export on the CPU, without tf.device."
        )
    return ""


CHECKS = (
    Check(3, "one graph, tagged serve, default attributes left out", is_one_graph),
    Check(4, "every op is TensorFlow's or tensorflow-text's", ops_are_known),
    Check(5, "of tensorflow-text only portable ops", text_ops_are_portable),
    Check(6, "Unicode ops need no ICU data", unicode_needs_no_data),
    Check(7, "no op that is newer than the oldest server", trims_in_core_ops),
    Check(9, "no Python, file or device op", runs_nothing_outside),
    Check(10, "nothing compiled by XLA", needs_no_xla),
    Check(11, "no quantised op and no mutable table", computes_in_floats),
    Check(
        12, "no path and no device of the machine that wrote it", names_no_local_path
    ),
)


def _is_text_op(op: str) -> bool:
    named = PORTABLE_OPS | _OTHER_TEXT_OPS
    return op in named or op.startswith("TFText>")


def _is_compiled(op: str) -> bool:
    return op.startswith(("Xla", "_Xla"))


def _among(export: Export, ops: frozenset[str] | tuple[str, ...]) -> list[str]:
    return sorted({node.op for node in export.nodes} & set(ops))


def _matching(export: Export, pattern: re.Pattern[str]) -> list[str]:
    return sorted({n.op for n in export.nodes if pattern.fullmatch(n.op)})


def _strings(export: Export) -> Iterator[bytes]:
    for node in export.nodes:
        for value in node.attr.values():
            yield value.s
            yield from value.list.s
            yield from value.tensor.string_val
