"""Text in columns of a terminal, where a Chinese character takes two of them."""

import unicodedata
from collections.abc import Sequence


def display_width(text: str) -> int:
    """Return the number of terminal columns that `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def printable(text: str) -> str:
    """Return `text` on one line, with control characters escaped as in Python."""
    return "".join(
        character
        if unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def cut(text: str, columns: int) -> str:
    """Return `text`, its end replaced by an ellipsis if it is wider than `columns`."""
    if display_width(text) <= columns:
        return text
    kept, width = [], 1  # the ellipsis
    for character in text:
        width += _character_width(character)
        if width > columns:
            break
        kept.append(character)
    return "".join(kept) + "…" if columns > 0 else ""


def list_some(names: Sequence[str], most: int = 10, *, quoted: bool = False) -> str:
    """Return the first names for a message, and how many more there are."""
    listed = ", ".join(repr(name) if quoted else name for name in names[:most])
    more = len(names) - most
    return f"{listed} and {more} more" if more > 0 else listed


def align_columns(
    rows: Sequence[Sequence[str]], *, num_left: int = 1, gap: str = "  "
) -> list[str]:
    """Return a line for each row, with the cells of a column under one another.

    The first `num_left` columns begin at their left edge, the others, which hold
    numbers, end at their right one. Every row has the same number of cells.
    """
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - display_width(cell))
            cells.append(cell + space if column < num_left else space + cell)
        lines.append(gap.join(cells).rstrip())
    return lines


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0  # combining marks and joiners
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
