"""What has been read of a corpus, and where it was broken."""

from dataclasses import dataclass, field

_MAX_PLACES = 5


@dataclass
class ReadingReport:
    """What has been read; of a file that is read several times, one reading.

    Attributes:
        num_documents: how many documents were begun.
        num_bytes: the size of their text in UTF-8.
        num_broken: the number of lines or rows with bytes that are no UTF-8.
        broken: the first few of these: "a.txt, line 3".
    """

    num_documents: int = 0
    num_bytes: int = 0
    num_broken: int = 0
    broken: list[str] = field(default_factory=list)

    def note_broken(self, place: str) -> None:
        """Counts a place with bytes that are no UTF-8."""
        self.num_broken += 1
        if len(self.broken) < _MAX_PLACES:
            self.broken.append(place)

    def add(self, other: "ReadingReport") -> None:
        """Adds what was read of another file."""
        self.num_documents += other.num_documents
        self.num_bytes += other.num_bytes
        self.num_broken += other.num_broken
        self.broken += other.broken[: _MAX_PLACES - len(self.broken)]

    def summary(self) -> str:
        """`50,000 documents, 66.2 MB`, and where the text was broken."""
        text = f"{self.num_documents:,} documents, {self.num_bytes / 1e6:,.1f} MB"
        if not self.num_broken:
            return text
        more = self.num_broken - len(self.broken)
        places = "; ".join(self.broken) + (f"; and {more:,} more" if more else "")
        return f"{text}; bytes that are no UTF-8 in {self.num_broken:,}: {places}"
