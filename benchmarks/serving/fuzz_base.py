"""What the strategies of both protocols share: the model that is asked, and damage."""

from typing import TypeVar

from hypothesis import strategies as st

MODEL = "toy"
ENCODED = ("token_ids", "segment_ids", "padding_mask")
KEYS = ("text", "inputs", *ENCODED)
# By signature: the inputs that it takes.
SIGNATURES = {
    "": ("text",),
    "serving_default": ("text",),
    "classify": ("inputs",),
    "encoded": ENCODED,
}

Value = TypeVar("Value")


def mostly(
    usual: st.SearchStrategy[Value], odd: st.SearchStrategy[Value]
) -> st.SearchStrategy[Value]:
    """The usual three times of four; `st.one_of` would give both alike."""
    return st.sampled_from([usual, usual, usual, odd]).flatmap(lambda chosen: chosen)


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """Bytes as they are, cut off, overwritten in a place, or twice."""
    places = st.integers(0, len(valid))
    cut = places.map(lambda place: valid[:place])
    overwritten = st.builds(
        lambda place, new: valid[:place] + new + valid[place + len(new) :],
        places,
        st.binary(min_size=1, max_size=4),
    )
    return mostly(st.just(valid), cut | overwritten | st.just(valid * 2))
