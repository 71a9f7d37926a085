import pytest

from kbert.data.columns import choose_columns
from kbert.data.sources import Columns
from kbert.errors import DataError


def choose(names, *, labelled=True, strings=None, **requested):
    return choose_columns(
        "t.csv",
        names.split(),
        Columns(**requested),
        labelled=labelled,
        strings=None if strings is None else strings.split(),
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("text label", Columns("text", None, "label")),
        ("id review stars", Columns("review", None, "stars")),
        ("Sentiment Text", Columns("Text", None, "Sentiment")),
        ("words label", Columns("words", None, "label")),  # one other column
        ("text mood", Columns("text", None, "mood")),
        ("premise hypothesis label idx", Columns("premise", "hypothesis", "label")),
        ("question sentence label", Columns("question", "sentence", "label")),
        ("id question1 question2 class", Columns("question1", "question2", "class")),
        ("text text_pair label", Columns("text", "text_pair", "label")),
    ],
)
def test_takes_the_only_plausible_choice(names, expected):
    assert choose(names)[0] == expected


def test_says_what_was_guessed():
    _, notes = choose("id review stars")
    assert notes == (
        "text column: review (the only plausible one of id, review, stars; choose "
        "with --set data.text=...)",
        "label column: stars (the only plausible one of id, review, stars; choose "
        "with --set data.label=...)",
    )
    assert choose("text label", text="text", label="label")[1] == ()
    assert "premise and hypothesis" in choose("premise hypothesis label")[1][0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("text review label", r"which column is the text .*: text, review\. "
         r"Choose with --set data\.text=text or --set data\.text=review"),
        ("text label stars", r"which column is the label .*: label, stars\. "
         r"Choose with --set data\.label=label or --set data\.label=stars"),
        ("text a b", r"the label is not clear: a, b"),
        ("foo bar", r"the text is not clear: foo, bar"),
        ("text_a text_b sentence1 sentence2 label", "text_a, text_b, sentence1"),
        ("text text_a text_b label", "text is not clear"),
        ("label", "no column that can be the text"),
        ("text", "no column that can be the label"),
    ],
)  # fmt: skip
def test_ambiguity_is_an_error_with_the_mend(names, message):
    with pytest.raises(DataError, match=message):
        choose(names)


def test_a_named_column_wins_over_a_guess():
    assert choose("text review label", text="review")[0].text == "review"
    assert choose("text label stars", label="stars", text="text")[0].label == "stars"
    assert choose("text review label", text_pair="review")[0] == Columns(
        "text", "review", "label"
    )


def test_a_named_text_is_not_made_a_pair():
    named = choose("text text_pair label", text="text")[0]
    assert named == Columns("text", None, "label")


def test_a_missing_column_is_named_with_the_nearest():
    with pytest.raises(DataError) as error:
        choose("id review stars", text="reveiw")
    assert str(error.value) == (
        't.csv: there is no column "reveiw" (data.text). Columns: id, review, stars. '
        "Nearest: --set data.text=review."
    )


def test_types_narrow_the_choice():
    assert choose("words n label", strings="words")[0].text == "words"
    with pytest.raises(DataError, match="can be the text"):
        choose("words label", strings="label")


def test_one_column_cannot_have_two_roles():
    with pytest.raises(DataError, match=r'text and data\.label both name "text"'):
        choose("text label", text="text", label="text")


def test_a_repeated_name_is_an_error_if_it_is_used():
    with pytest.raises(DataError, match='2 columns are named "text"'):
        choose("text text label", text="text", label="label")
    assert choose("text x x label")[0] == Columns("text", None, "label")


def test_without_labels_the_label_is_left_out():
    assert choose("text label", labelled=False)[0] == Columns("text")
    assert choose("words label", labelled=False)[0] == Columns("words")
    assert choose("words", labelled=False)[0] == Columns("words")
    assert choose("text", labelled=False, label="gone")[0] == Columns("text")
    assert choose("words stars label", labelled=False, label="label", text="words")[
        0
    ] == Columns("words")


@pytest.mark.parametrize(
    ("names", "requested", "expected"),
    [
        # Where a guess would fail, or choose another.
        ("text review label stars", {}, Columns("review", None, "stars")),
        ("text review label stars", {"text": "text"}, Columns("text", None, "stars")),
        ("text review stars", {"label": "text"}, Columns("review", None, "text")),
        # A name that is taken, or not there, is no fallback.
        ("review text stars", {"label": "review"}, Columns("text", None, "review")),
        ("body label", {}, Columns("body", None, "label")),
        # The fallback's own.
        ("old text label", {}, Columns("old", None, "label")),
    ],
)
def test_a_fallback_is_taken_role_by_role(names, requested, expected):
    before = Columns("old", None, "past")
    fallback = Columns("review", None, "stars", fallback=before)
    assert choose(names, **requested, fallback=fallback)[0] == expected


def test_a_column_that_is_named_has_no_fallback():
    with pytest.raises(DataError, match='no column "txt"'):
        choose("review label", text="txt", fallback=Columns("review", None, "label"))
