"""What all ways of applying a run share: precisions, sizes, what a text is."""

from kbert.errors import ConfigError

# Enough tokens to keep a processor busy, few enough to stay in its cache.
TOKENS_PER_BATCH = 4096
# Texts are sorted by length within windows: memory stays constant.
WINDOW = 2048

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

Text = str | tuple[str, str]


def check_precision(name: str) -> str:
    """Returns the name of a precision that a run can be applied in.

    Raises:
        ConfigError: it is none.
    """
    if name not in _PRECISIONS:
        raise ConfigError(
            f"precision must be one of {', '.join(_PRECISIONS)}. Received: {name}."
        )
    return name


def check_text(text: object, number: int) -> None:
    """Checks that something is a text or a pair of texts.

    Args:
        number: its place among the texts, counted from 0.

    Raises:
        TypeError: it is neither.
    """
    parts = text if isinstance(text, tuple | list) and len(text) == 2 else [text]
    for part in parts:
        if not isinstance(part, str):
            raise TypeError(
                "Each text must be a string, or a pair of strings for a run trained "
                f"on pairs. Received: texts[{number}] = {text!r:.80} "
                f"({type(part).__name__})."
            )
