"""Any label in a picture, also one that matplotlib's own font cannot write.

DejaVu Sans comes with matplotlib and has no Chinese, Japanese or Korean. Where the
machine has a font that does, the picture uses it; else such characters are escaped,
since empty boxes would make all labels look the same.
"""

from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from kbert.display import cut, printable

DEFAULT_FONT = "DejaVu Sans"

# Parts of the names of the usual fonts for Chinese, Japanese and Korean.
_FONT_NAMES = (
    "Noto Sans CJK",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Noto Sans TC",
    "Source Han Sans",
    "WenQuanYi",
    "Droid Sans Fallback",
    "PingFang",
    "Hiragino Sans",
    "Apple SD Gothic",
    "Heiti",
    "Microsoft YaHei",
    "SimHei",
    "Yu Gothic",
    "Malgun Gothic",
    "IPAexGothic",
    "IPAGothic",
    "NanumGothic",
    "Arial Unicode MS",
)


def drawable(labels: Sequence[str], columns: int) -> tuple[list[str], list[str]]:
    """Return `labels` as they can be drawn, and the font families to draw them with.

    Control characters, and those that no font has, are written as Python escapes.

    Args:
        labels: any text.
        columns: how many columns of a terminal a label may take before it is cut.
    """
    labels = [printable(label) for label in labels]
    families, known = [DEFAULT_FONT], _characters(DEFAULT_FONT)
    missing = {ord(letter) for label in labels for letter in label} - known
    for family in _other_families() if missing else ():
        if missing & _characters(family):
            families.append(family)
            known |= _characters(family)
            missing -= known
    return [cut(_escape(label, known), columns) for label in labels], families


def _escape(label: str, known: frozenset[int]) -> str:
    return "".join(
        letter
        if ord(letter) in known
        else letter.encode("unicode_escape").decode("ascii")
        for letter in label
    )


def _other_families() -> list[str]:
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return [name for part in _FONT_NAMES for name in sorted(installed) if part in name]


@cache
def _characters(family: str) -> frozenset[int]:
    """Return the code points that the regular font of `family` has."""
    font = FT2Font(font_manager.findfont(family, fallback_to_default=False))
    return frozenset(font.get_charmap())
