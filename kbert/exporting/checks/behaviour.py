"""What the loaded export answers: points 22, 23, 26 to 30 and 40."""

import time

import numpy as np
import tensorflow as tf

from kbert.errors import ExportError
from kbert.exporting import golden
from kbert.exporting.checks.opened import EXTRA, Export
from kbert.exporting.checks.points import Check, FailError, SkipError, some
from kbert.exporting.checks.requests import (
    answering,
    ask_texts,
    expect_same,
    joined,
    request,
    rows,
)

_BATCH_SIZES = (1, 2, 7)
_MOST_SECONDS = 30.0
_BYTES = "_bytes"

_PLAIN = (
    b"good",
    b"A film that is neither short nor good.",
    b"The first half is slow, and the second half makes up for all of it. " * 4,
)
_EDGE = (
    b"",
    b" ",
    b"ten letters" * 910,  # 10,000 characters
    b"w" * 200,
    "\U0001f44d\U0001f3fd \U0001f469\u200d\U0001f469\u200d\U0001f467".encode(),
    "\u8fd9\u90e8\u7535\u5f71\u975e\u5e38\u597d\u770b\u3002".encode(),
    b"before\x00after",
    b"\xff\xfe not UTF-8 \xc3",
    b"a [MASK] film [SEP]",
)


def answers_every_batch_size(export: Export) -> str:
    """Point 22. Signatures whose inputs cannot be made up are looked at on paper."""
    for name, definition in export.signatures.items():
        for key, info in definition.outputs.items():
            sizes = [dim.size for dim in info.tensor_shape.dim]
            if sizes and sizes[0] != -1:
                raise FailError(
                    f"output {key} of {name} has {sizes[0]} rows whatever the batch "
                    "is. Give every text its row, with tf.tile if need be."
                )
    asked, unasked = [], []
    for name in export.signatures:
        try:
            requests = [(size, request(export, name, size)) for size in _BATCH_SIZES]
        except SkipError:
            unasked.append(name)
            continue
        for size, inputs in requests:
            _expect_rows(name, size, answering(export).call(name, inputs))
        asked.append(name)
    if not asked:
        raise SkipError("no signature has inputs that can be made up")
    return some(asked) + (f"; not asked: {some(unasked)}" if unasked else "")


def texts_are_utf8(export: Export) -> str:
    """Point 23. An output named `_bytes` is one of strings that are not all text. A
    signature that does not answer is the matter of point 22."""
    for name, definition in export.signatures.items():
        for key, info in definition.outputs.items():
            is_string = info.dtype == tf.string.as_datatype_enum
            if key.endswith(_BYTES) and not is_string:
                raise FailError(
                    f"output {key} of {name} holds numbers, and REST takes a name that "
                    f"ends in {_BYTES} for binary strings. Rename it."
                )
    session = answering(export)
    found = []
    for name in export.signatures:
        try:
            outputs = session.call(name, request(export, name, len(_PLAIN)))
        except (SkipError, ExportError):
            continue
        for key, values in outputs.items():
            if values.dtype == object:
                _expect_encoding(name, key, values)
                found.append(f"{key} of {name}")
    return some(found)


def answers_as_the_run(export: Export) -> str:
    """Point 26."""
    file = export.extra(golden.FILE_NAME)
    if not file.is_file():
        if export.has_card:
            raise FailError(
                f"there is no {EXTRA}/{golden.FILE_NAME}, with what the run answered. "
                "Copy or export the run again."
            )
        raise SkipError(f"there is no {EXTRA}/{golden.FILE_NAME} to compare with")
    expected = golden.Golden.read(file)
    most = golden.TOLERANCES.get(expected.precision, 0.0)
    if not 0 <= expected.tolerance <= most or not expected.calls:
        raise FailError(
            f"{EXTRA}/{golden.FILE_NAME} allows differences of {expected.tolerance} in "
            f"{expected.precision}, and at most {most:g} is right. Export again."
        )
    if missing := sorted(export.signatures.keys() - expected.calls.keys()):
        raise FailError(
            f"{EXTRA}/{golden.FILE_NAME} has no answers of {some(missing)}. Export the "
            "run again."
        )
    try:
        difference = expected.difference(answering(export).call)
    except ExportError as error:
        raise FailError(
            f"it does not answer as the run did: {error}. Export the run again."
        ) from None
    return f"largest difference {difference:.1e}"


def takes_any_text(export: Export) -> str:
    """Point 27: hard texts get an answer, alone and beside others, and do not change
    that of a plain text beside them."""
    plain = ask_texts(export, _PLAIN[:1])
    for text in _EDGE:
        try:
            alone = ask_texts(export, (text,))
            both = ask_texts(export, (*_PLAIN[:1], text))
        except ExportError as error:
            raise FailError(
                f"{text[:40]!r} ({len(text)} bytes) gets an error: {error}. Clean "
                "texts in the graph, as kbert.tokenization does."
            ) from None
        expected = joined((plain, alone))
        expect_same(export, (*_PLAIN[:1], text), expected, both, "two texts at once")
    return f"{len(_EDGE)} hard texts"


def is_independent_of_the_batch(export: Export) -> str:
    """Point 28: short and long texts alone, together, and with one of them again."""
    alone = joined([ask_texts(export, (text,)) for text in _PLAIN])
    together = ask_texts(export, _PLAIN)
    expect_same(export, _PLAIN, alone, together, "a batch of mixed lengths")
    repeated = ask_texts(export, (*_PLAIN, _PLAIN[-1]))
    first = rows(repeated, slice(len(_PLAIN)))
    expect_same(export, _PLAIN, alone, first, "a batch with a text twice")
    return ""


def ignores_filler_rows(export: Export) -> str:
    """Point 29."""
    expected = ask_texts(export, _PLAIN)
    filled = ask_texts(export, (*_PLAIN, *_PLAIN[:1] * 13))
    real = rows(filled, slice(len(_PLAIN)))
    expect_same(export, _PLAIN, expected, real, "a batch filled with copies of a row")
    return ""


def survives_json(export: Export) -> str:
    """Point 30; the one who runs the checks gives the server."""
    if export.round_trip is None:
        raise SkipError("no server to ask was given")
    # The server runs in this process: what crashes is not to be given to it.
    answering(export)
    if error := export.round_trip(export.folder):
        raise FailError(f"through a server's JSON: {error}")
    return ""


def answers_in_time(export: Export) -> str:
    """Point 40, on this machine; words of one letter are one token each."""
    if not export.has_card:
        raise SkipError("there is no card that says how large a request may be")
    limits = export.limits
    texts = (b"a " * limits.max_length,) * limits.max_batch_size
    start = time.perf_counter()
    ask_texts(export, texts)
    seconds = time.perf_counter() - start
    if seconds > _MOST_SECONDS:
        raise FailError(
            f"{limits.max_batch_size} texts of {limits.max_length} tokens take "
            f"{seconds:.1f} s, and a server gives up after {_MOST_SECONDS:g}. Export "
            "with a smaller export.max_batch_size, or train with a shorter max_length."
        )
    return f"{limits.max_batch_size} x {limits.max_length} tokens in {seconds:.2f} s"


CHECKS = (
    Check(22, "a row for each text, whatever the batch size", answers_every_batch_size),
    Check(23, "strings are UTF-8, or named _bytes", texts_are_utf8),
    Check(26, "answers as the run that it was made of", answers_as_the_run),
    Check(27, "hard texts get an answer of their own", takes_any_text),
    Check(28, "an answer does not depend on the batch", is_independent_of_the_batch),
    Check(29, "filler rows change nothing", ignores_filler_rows),
    Check(30, "JSON through a server gives the same answers", survives_json),
    Check(40, "the largest request ends in time", answers_in_time),
)


def _expect_rows(name: str, size: int, outputs: dict[str, np.ndarray]) -> None:
    for key, values in outputs.items():
        if values.ndim == 0 or len(values) != size:
            raise FailError(
                f"output {key} of {name} has shape {list(values.shape)} for {size} "
                "texts. Give every text its row."
            )


def _expect_encoding(name: str, key: str, values: np.ndarray) -> None:
    texts = [_decoded(value) for value in values.flat]
    if not key.endswith(_BYTES) and None in texts:
        raise FailError(
            f"output {key} of {name} holds strings that are not UTF-8, and REST cannot "
            f"write them. Let its name end in {_BYTES}."
        )
    if key.endswith(_BYTES) and texts and None not in texts:
        raise FailError(
            f"output {key} of {name} holds text such as {texts[0]!r:.40}, which REST "
            f"writes in base64 because of its name. Leave {_BYTES} away."
        )


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None
