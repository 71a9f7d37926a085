"""Sentences of a text, found by its punctuation: English, Chinese and others."""

# ruff: noqa: RUF001, RUF002 - the punctuation of Chinese looks like that of English

import re

MAX_SENTENCE_CHARACTERS = 2_000

_CLOSING = r"[\"'”’»)\]」』）】〉》]*+"
# Behind these a full stop is no end: an initial, a title, an abbreviation.
_NO_END = "".join(
    rf"(?<!\b{word}\.)"
    for word in ("[A-Z]", "Mr", "Mrs", "Ms", "Dr", "Prof", "St", "vs", r"e\.g", r"i\.e")
)
# One set of characters comes first, as the search for it is fast; what follows looks
# back at which one it was. Runs of marks are possessive and match from their first mark
# only, so that a million dots take no longer than other text.
_END = re.compile(
    r"[.!?؟।\n\r\u2028\u2029。！？；…｡](?:"
    # A tag `<br` ends a line of a web page, as in IMDB's reviews.
    rf"(?<=[.!?؟।])(?<![.!?؟।]{{2}}){_NO_END}[.!?؟।]*+{_CLOSING}"
    r"(?=\s|<br|(?<=[!?])[\u3040-\u30ff\u4e00-\u9fff])"
    r"|(?<=[\n\r\u2028\u2029])"
    rf"|(?<=[。！？；…｡])[。！？；…｡]*+{_CLOSING}"
    r")"
)


def split_sentences(text: str) -> list[str]:
    """Splits a text into sentences; nothing but whitespace between them is lost.

    A sentence ends at a line end; at `.`, `!` or `?` before whitespace, closing quotes
    and brackets included; and at `。！？；…`, which nothing need follow. One of more
    than `MAX_SENTENCE_CHARACTERS` characters is cut at a space, or right there if it
    has none.

    Returns:
        The sentences in order, each without whitespace around it and never empty.
    """
    sentences = []
    start = 0
    for match in _END.finditer(text):
        end = match.end()
        sentence = text[start:end].strip()
        start = end
        if len(sentence) > MAX_SENTENCE_CHARACTERS:
            sentences += _cut(sentence)
        elif sentence:
            sentences.append(sentence)
    last = text[start:].strip()
    return sentences + _cut(last) if last else sentences


def _cut(sentence: str) -> list[str]:
    parts = []
    start = 0
    while len(sentence) - start > MAX_SENTENCE_CHARACTERS:
        most = start + MAX_SENTENCE_CHARACTERS
        space = sentence.rfind(" ", start + 1, most + 1)
        end = most if space == -1 else space
        parts.append(sentence[start:end].strip())
        start = end
    parts.append(sentence[start:].strip())
    return [part for part in parts if part]
