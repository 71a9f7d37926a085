"""Which documents of a corpus are held out, to measure a pretraining on."""

import hashlib
import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from kbert.data.corpus import Corpus
from kbert.errors import DataError

# Enough to tell models apart, few enough to be evaluated many times.
MAX_DOCUMENTS = 1000
MAX_CHARACTERS = 1_000_000

_FILES_AT_ONCE = 16

_NO_PAIRS = "Or do without pairs: --set train.next_sentence_weight=0"

Key = tuple[int, int]
"""A document: its file's number in the corpus, its own number in the file."""

_Drawn = tuple[float, Key, list[str]]
"""How good a document is to hold out, which it is, its pieces."""


@dataclass(frozen=True)
class HeldOut:
    """Documents that are not trained on.

    Attributes:
        texts: the pieces of each document.
    """

    texts: dict[Key, list[str]] = field(default_factory=dict)

    def keep(self, file_number: int, document: int) -> bool:
        """Whether a document is to be trained on."""
        return (file_number, document) not in self.texts


def hold_out(corpus: Corpus, *, share: float, seed: int, least: int) -> HeldOut:
    """Draws documents; the seed decides which.

    Reading ends once a thousand documents, or a million characters, are held out, since
    a corpus may be larger than anybody wants to read twice. Until then files from all
    over the corpus are read at once, from the beginning of each: of a very large corpus
    the documents come from the beginnings of 16 files, of a single large file from its
    own.

    Args:
        share: of the documents.
        least: how many are held out, and how many are left, whatever the share.

    Raises:
        DataError: the corpus has too few documents, or none.
    """
    drawn: list[_Drawn] = []
    next_best: list[_Drawn] = []  # a heap, the worst first
    num_documents = num_characters = 0
    is_enough = False
    for key, texts in _documents(corpus):
        num_documents += 1
        fraction = _fraction(seed, key)
        if fraction < share and not is_enough:
            drawn.append((-fraction, key, texts))
            num_characters += sum(map(len, texts))
            is_enough = len(drawn) >= MAX_DOCUMENTS or num_characters >= MAX_CHARACTERS
        else:
            heapq.heappush(next_best, (-fraction, key, texts))
            if len(next_best) > least:
                heapq.heappop(next_best)
        if is_enough and num_documents - max(len(drawn), least) >= least:
            break
    _check_enough(corpus, num_documents, least)
    best = [*sorted(drawn, reverse=True), *sorted(next_best, reverse=True)]
    wanted = min(max(len(drawn), least), num_documents - least)
    return HeldOut(dict(sorted((key, texts) for _, key, texts in best[:wanted])))


def _documents(corpus: Corpus) -> Iterator[tuple[Key, list[str]]]:
    """Each document with its pieces, as many as may be held out at all.

    One of each of 16 files in turn, which lie spread over the corpus; where one of them
    ends, another takes its place.
    """
    files = (_documents_of(corpus, number) for number in _spread(len(corpus.files)))
    waiting = deque(itertools.islice(files, _FILES_AT_ONCE))
    while waiting:
        file = waiting.popleft()
        document = next(file, None)
        if document is not None:
            waiting.append(file)
            yield document
        elif (other := next(files, None)) is not None:
            waiting.append(other)


def _documents_of(corpus: Corpus, number: int) -> Iterator[tuple[Key, list[str]]]:
    """The documents of a file."""
    key: Key | None = None
    texts: list[str] = []
    for piece in corpus.files[number].pieces():
        if key != (number, piece.document):
            if key is not None:
                yield key, texts
            key, texts = (number, piece.document), []
        if not texts or sum(map(len, texts)) < MAX_CHARACTERS:
            texts.append(piece.text)
    if key is not None:
        yield key, texts


def _spread(count: int) -> list[int]:
    """The numbers below `count`, so ordered that the first few lie evenly spread."""
    golden = (5**0.5 - 1) / 2  # Its multiples leave no large gap, however many.
    return sorted(range(count), key=lambda number: number * golden % 1)


def check_documents(corpus: Corpus, least: int, mend: str = _NO_PAIRS) -> None:
    """Checks that a corpus of which nothing is held out has so many documents.

    Args:
        mend: what else can be done, for the message.

    Raises:
        DataError: it has fewer.
    """
    found = sum(1 for _ in itertools.islice(_documents(corpus), least))
    if found < least:
        raise _too_few(corpus, found, "next-sentence prediction needs two", mend)


def _check_enough(corpus: Corpus, found: int, least: int) -> None:
    if found >= 2 * least:
        return
    mend = "Or give held-out text of its own (--set data.validation=FILE)"
    if least == 1:
        reason = "one is trained on, another is held out to measure on"
        raise _too_few(corpus, found, reason, mend)
    reason = (
        "next-sentence prediction needs two documents to train on and two to measure on"
    )
    raise _too_few(corpus, found, reason, f"{mend}. {_NO_PAIRS}")


def _too_few(corpus: Corpus, found: int, reason: str, mend: str) -> DataError:
    if not found:
        return DataError(f"{corpus.name} has no documents: there is no text in it.")
    return DataError(
        f"{corpus.name} has {found} document{'s' * (found != 1)}, and {reason}. A "
        "blank line ends a document; --set data.document=line makes each line one, "
        f"--set data.document=file each file. {mend}."
    )


def _fraction(seed: int, key: Key) -> float:
    """A number from 0 to 1 that looks random."""
    text = f"{seed}:{key[0]}:{key[1]}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
