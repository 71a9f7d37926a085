"""Which column is the text, which the label: as named, or the one plausible choice."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from kbert.data.examples import ROLES, Columns
from kbert.display import list_some
from kbert.errors import DataError

MAX_COLUMNS = 10_000
LABEL_NAMES = (
    "label", "labels", "class", "category", "target", "sentiment", "polarity",
    "rating", "stars", "score", "intent", "topic", "emotion",
)  # fmt: skip
TEXT_NAMES = (
    "text", "texts", "review", "review_text", "reviewtext", "review_body", "sentence",
    "content", "body", "message", "comment", "comment_text", "document", "tweet",
    "post", "utterance", "query", "question", "title", "description", "headline",
    "abstract", "summary",
)  # fmt: skip
PAIR_NAMES = (
    ("text", "text_pair"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("query", "passage"),
)


def choose_columns(
    where: str,
    names: Sequence[str],
    requested: Columns,
    *,
    labelled: bool,
    strings: Collection[str] | None = None,
    hint: str = "",
) -> tuple[Columns, tuple[str, ...]]:
    """Resolves the columns of one table.

    Args:
        where: What to call the table in an error.
        names: The columns that the table has.
        requested: What the user named; what is None may be guessed.
        labelled: Whether a label column is needed; if not, none is returned.
        strings: The columns that hold strings, where the format tells types.
        hint: Added to the error about a named column that does not exist.

    Returns:
        The resolved columns, and a sentence for each one that was guessed.

    Raises:
        DataError: A named column does not exist, or there is not exactly one
            plausible choice for one that was not named.
    """
    check_width(where, len(names))
    requested = with_fallback(requested, names)
    _check_requested(where, names, requested, labelled=labelled, hint=hint)
    notes: list[str] = []
    label = requested.label if requested.label in names else None
    label = label or _guess_label(where, names, requested, labelled=labelled)
    rest = [n for n in names if n != label]
    text, pair = requested.text, requested.text_pair
    if text is None:
        text, pair = _guess_texts(where, rest, requested, strings)
        if pair is not None and requested.text_pair is None:
            notes.append(
                f"text columns: {text} and {pair} (the only plausible pair of "
                f"{_listed(names)}; choose with --set data.text=... and "
                "--set data.text_pair=...)"
            )
        else:
            notes.append(_note("text", text, names))
    if labelled:
        label = label or _last_left(where, names, (text, pair))
        if requested.label is None:
            notes.append(_note("label", label, names))
    columns = Columns(text, pair, label if labelled else None)
    _check_unique(where, names, columns)
    return columns, tuple(notes)


def check_width(where: str, num_columns: int) -> None:
    """Checks that a table is no wider than names are compared in time.

    Raises:
        DataError: it has more than `MAX_COLUMNS`.
    """
    if num_columns > MAX_COLUMNS:
        raise DataError(
            f"{where}: a table has at most {MAX_COLUMNS:,} columns. Received: "
            f"{num_columns:,}. Is it the right file?"
        )


def with_fallback(requested: Columns, names: Collection[str]) -> Columns:
    """What was named; where nothing was, the fallback's column if it is there."""
    chosen = {role: getattr(requested, role) for role in ROLES}
    fallback = requested.fallback
    while fallback is not None:
        for role in ROLES:
            name = getattr(fallback, role)
            if not chosen[role] and name in names and name not in chosen.values():
                chosen[role] = name
        fallback = fallback.fallback
    return Columns(**chosen)


def missing_column(
    where: str, setting: str, name: str, names: Sequence[str], hint: str = ""
) -> DataError:
    """Returns the error about a named column that is not there."""
    near = get_close_matches(name, names[:MAX_COLUMNS], n=1, cutoff=0.5)
    return DataError(
        f'{where}: there is no column "{name}" (data.{setting}). '
        f"Columns: {_listed(names)}."
        + (f" Nearest: --set data.{setting}={near[0]}." if near else "")
        + (f" {hint}" if hint else "")
    )


def _check_requested(
    where: str, names: Sequence[str], requested: Columns, *, labelled: bool, hint: str
) -> None:
    wanted = {"text": requested.text, "text_pair": requested.text_pair}
    if labelled:
        wanted["label"] = requested.label
    taken: dict[str, str] = {}
    for setting, name in wanted.items():
        if name is None:
            continue
        if name not in names:
            raise missing_column(where, setting, name, names, hint)
        if name in taken:
            raise DataError(
                f'{where}: data.{taken[name]} and data.{setting} both name "{name}"; '
                "they must be different columns."
            )
        taken[name] = setting


def _check_unique(where: str, names: Sequence[str], columns: Columns) -> None:
    for name in (columns.text, columns.text_pair, columns.label):
        if name is not None and names.count(name) > 1:
            raise DataError(
                f'{where}: {names.count(name)} columns are named "{name}". '
                "Rename all but one."
            )


def _guess_label(
    where: str, names: Sequence[str], requested: Columns, *, labelled: bool
) -> str | None:
    """Returns the one column that bears a label's name, if there is one."""
    used = (requested.text, requested.text_pair)
    found = [n for n in _known(names, LABEL_NAMES) if n not in used]
    if len(found) > 1 and labelled:
        raise _ambiguous(where, "label", found)
    return found[0] if len(found) == 1 else None


def _guess_texts(
    where: str,
    rest: Sequence[str],
    requested: Columns,
    strings: Collection[str] | None,
) -> tuple[str, str | None]:
    """Returns the text column and the second one among those beside the label."""
    pair = requested.text_pair
    able = [n for n in rest if n != pair and (strings is None or n in strings)]
    found = _known(able, TEXT_NAMES)
    if pair is None:
        lower = {n.strip().casefold(): n for n in able}
        pairs = [
            (lower[a], lower[b]) for a, b in PAIR_NAMES if a in lower and b in lower
        ]
        if len(pairs) == 1 and set(found) <= set(pairs[0]):
            return pairs[0]
        found += [n for both in pairs for n in both if n not in found]
    if len(found) == 1:
        return found[0], pair
    if not found and len(able) == 1:
        return able[0], pair
    raise _ambiguous(where, "text", found or able)


def _last_left(
    where: str, names: Sequence[str], used: tuple[str | None, str | None]
) -> str:
    """Returns the label of a table that has nothing else beside its texts."""
    left = [n for n in names if n not in used]
    if len(left) == 1:
        return left[0]
    raise _ambiguous(where, "label", left)


def _known(names: Sequence[str], known: tuple[str, ...]) -> list[str]:
    return [n for n in names if n.strip().casefold() in known]


def _note(role: str, name: str, names: Sequence[str]) -> str:
    return (
        f"{role} column: {name} (the only plausible one of {_listed(names)}; "
        f"choose with --set data.{role}=...)"
    )


def _ambiguous(where: str, setting: str, candidates: Sequence[str]) -> DataError:
    if not candidates:
        return DataError(
            f"{where}: there is no column that can be the {setting}; a table needs "
            "one text column and, to train or evaluate, a label column."
        )
    mends = " or ".join(f"--set data.{setting}={n}" for n in candidates[:6])
    return DataError(
        f"{where}: which column is the {setting} is not clear: {_listed(candidates)}. "
        f"Choose with {mends}."
    )


def _listed(names: Sequence[str]) -> str:
    """The names for a message; of a very wide table the first ones."""
    return list_some([n if n.strip() else f'"{n}"' for n in names], most=12)
