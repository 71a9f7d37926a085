# ruff: noqa: RUF001 - letters that look like others are what is tested here
"""The graph tokenizer against a plain-Python one, `tokenizers`, and written answers."""

import itertools
import random
import string
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from kbert.errors import PresetError
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import SPECIAL_TOKENS, read_vocabulary
from tests.reference_tokenizer import ReferenceTokenizer

BOTH_WAYS = [(True, True), (True, False), (False, True), (False, False)]
every_setting = pytest.mark.parametrize(("lowercase", "strip_accents"), BOTH_WAYS)

HARD_CASES = [
    b"",
    b" \t\r\n",
    b"Plain ASCII, isn't it?  Yes -- (of course)!",
    b"[MASK] [CLS][SEP] [UNK]ed [PAD]",
    "Clichés, naïve façade, Ångström, e\u0301te\u0301, ﬁne, ǅ".encode(),
    "a\u0300\u0323b \u0301 \u0301\u0302 \u0488x".encode(),
    "中文和English混排, 日本語カタカナ, 한국어 문장\u3002\u3000ＦＵＬＬ！".encode(),
    "中\u0301中 \uf900\ufa6a \U00020000\U0002f800\U0002b740x".encode(),
    "👩\u200d👩\u200d👧 family 👍🏽 ok\ufe0f".encode(),
    b"nul\x00in\x00side \x01\x02 bell\x07 esc\x1b[0m del\x7f vt\x0bff\x0c",
    "c1 \x80\x85\x9f next\x85line \ufffd\ufffdx soft\u00adhyphen".encode(),
    "zero\u200bwidth joi\u200cner word\u2060joiner \ufeffbom".encode(),
    "\u200fעִבְרִית\u200e RTL \u202eabc\u202c العَرَبِيَّة".encode(),
    "हिन्दी में कि क्षत्रिय, ภาษาไทยน้ำ".encode(),
    "İstanbul Iğdır ıI TITLE İİ".encode(),
    "ΟΔΥΣΣΕΥΣ ΑΣ. Σ ΑΣ'Α ΑΣ\u00adΑ ΑΣ\x01Α ΣΑΣ中".encode(),
    "a\u00a0b\u2003c\u2028d\u2029e\u3000f\u1680g\u180eh\u202fi".encode(),
    "“quotes” — dash… ¿qué? ¡no! «x» §1 ¶ †x‡ ·mid· 1‰ 〈〉".encode(),
    "$5 + 3 < 9 = `x` ^ ~ | € £ ± ° © ™ ² ½ № Ⅷ ① ẞ ß ſ K Å".encode(),
    b"lone surrogate \xed\xa0\x80 pair \xed\xa0\xbd\xed\xb8\x80 end",
    b"overlong \xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf too big \xf4\x90\x80\x80 end",
    b"cut\xe2\x82 off\xf0\x9f\x98",
    b"\xff\xfe\x80latin \xe9t\xe9",
    "noncharacters \uffff \ufdd0 private \ue000\uf0b7".encode(),
    b"a" * 100 + b" " + b"a" * 101 + b" b",
    ("é" * 200 + " " + "é" * 100 + " " + "é" * 101 + ".é").encode(),
    ("😀" * 100 + " " + "😀" * 101).encode(),
    ("e\u0301" * 60 + " " + "ą\u00ad" * 70 + " " + "中" * 150).encode(),
    b"x" * 99 + b"." + b"y" * 150 + b"!",
]


def build_vocabulary(texts: Iterable[bytes]) -> list[str]:
    """Every character of the texts in all its forms, so that no [UNK] hides a fault."""
    text = "".join(text.decode("utf-8", "ignore") for text in texts)
    text += text.lower()
    text += unicodedata.normalize("NFD", text)
    characters = sorted(c for c in set(text) if not c.isspace())
    pieces = ["un", "##ing", "中文", "...", "##é"]
    tokens = [*pieces, *characters, *(f"##{c}" for c in characters)]
    return list(dict.fromkeys([*SPECIAL_TOKENS, *tokens]))


def make_both(
    vocabulary: Sequence[str], lowercase: bool, strip_accents: bool
) -> tuple[WordPieceTokenizer, ReferenceTokenizer]:
    token_ids = {token: token_id for token_id, token in enumerate(vocabulary)}
    return (
        WordPieceTokenizer(
            vocabulary, lowercase=lowercase, strip_accents=strip_accents
        ),
        ReferenceTokenizer(token_ids, lowercase=lowercase, strip_accents=strip_accents),
    )


def trace(tokenizer: WordPieceTokenizer) -> tf.types.experimental.GenericFunction:
    return tf.function(
        tokenizer.tokenize, input_signature=[tf.TensorSpec([None], tf.string)]
    )


def assert_equal_to_reference(
    texts: Sequence[bytes],
    vocabulary: Sequence[str],
    lowercase: bool,
    strip_accents: bool,
) -> None:
    tokenizer, reference = make_both(vocabulary, lowercase, strip_accents)
    for text, token_ids in zip(
        texts, tokenizer.tokenize(tf.constant(texts)).to_list(), strict=True
    ):
        assert token_ids == reference.tokenize(text), text


def is_old(character: str) -> bool:
    """Whether Unicode 3.2 had it: then Python, RE2 and ICU know it alike."""
    return unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs")


# Equality ---------------------------------------------------------------------------


@every_setting
def test_hard_cases_equal_the_reference(lowercase: bool, strip_accents: bool) -> None:
    assert_equal_to_reference(
        HARD_CASES, build_vocabulary(HARD_CASES), lowercase, strip_accents
    )


@every_setting
def test_every_old_character_splits_as_in_the_reference(
    lowercase: bool, strip_accents: bool
) -> None:
    tokenizer, reference = make_both(SPECIAL_TOKENS, lowercase, strip_accents)
    texts = [f"A{c}B".encode() for c in map(chr, range(0x30000)) if is_old(c)]
    assert len(texts) > 95_000
    for text, words in zip(
        texts, tokenizer.split_words(tf.constant(texts)).to_list(), strict=True
    ):
        assert [word.decode() for word in words] == reference.split_words(text)


odd_text = st.text(
    st.one_of(
        st.sampled_from("aB .'Σσİı\u0301\u00ad中é\x00\u2028#[]"),
        st.characters(exclude_categories=["Cs", "Cn"]).filter(is_old),
    ),
    max_size=40,
).map(str.encode)
odd_bytes = st.lists(
    st.sampled_from([b"a", b"\xed\xa0\x80", b"\xe2", b"\x82", b"\xac", b"\xf0", b" "])
).map(b"".join)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(odd_text, odd_bytes, st.binary()), min_size=1, max_size=8),
    st.sampled_from(BOTH_WAYS),
)
def test_any_text_equals_the_reference(
    texts: list[bytes], setting: tuple[bool, bool]
) -> None:
    assume(all(is_old(c) for text in texts for c in text.decode("utf-8", "ignore")))
    assert_equal_to_reference(texts, build_vocabulary(texts), *setting)


def read_imdb(shared_dir: Path, pattern: str) -> list[bytes]:
    folder = shared_dir / "data/tfds/imdb_reviews/plain_text/1.0.0"
    files = sorted(str(path) for path in folder.glob(pattern))
    feature = {"text": tf.io.FixedLenFeature([], tf.string)}
    records = tf.data.TFRecordDataset(files).batch(1024)
    batches = records.map(lambda record: tf.io.parse_example(record, feature)["text"])
    return [text for batch in batches.as_numpy_iterator() for text in batch]


def assert_equal_on_reviews(shared_dir: Path, texts: list[bytes]) -> None:
    preset = shared_dir / "data/presets/all_minilm_l6_v2_en"
    path = preset / "assets/tokenizer/vocabulary.txt"
    tokenizer, reference = make_both(read_vocabulary(path), True, True)
    peer = BertWordPieceTokenizer(str(path), lowercase=True, strip_accents=True)
    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(1024)
    dataset = dataset.map(tokenizer.tokenize, num_parallel_calls=tf.data.AUTOTUNE)
    rows = itertools.chain.from_iterable(tokens.to_list() for tokens in dataset)
    for text, token_ids in zip(texts, rows, strict=True):
        assert token_ids == reference.tokenize(text), text
        decoded = text.decode()
        # `tokenizers` drops private-use characters, the original BERT keeps them.
        if not any(unicodedata.category(c) == "Co" for c in decoded):
            assert token_ids == peer.encode(decoded, add_special_tokens=False).ids


def test_imdb_sample_equals_both_references(shared_dir: Path) -> None:
    texts = read_imdb(shared_dir, "*-train.tfrecord-*")
    assert_equal_on_reviews(shared_dir, random.Random(2).sample(texts, 2000))


@pytest.mark.slow
def test_all_of_imdb_equals_both_references(shared_dir: Path) -> None:
    texts = read_imdb(shared_dir, "*.tfrecord-*")
    assert len(texts) == 100_000
    assert_equal_on_reviews(shared_dir, texts)


# Written answers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "uncased", "cased"),
    [
        ("[MASK]", ["[", "mask", "]"], ["[", "MASK", "]"]),
        ("Café", ["cafe"], ["Café"]),
        ("ΟΔΟΣ", ["οδος"], ["ΟΔΟΣ"]),
        ("İ", ["i"], ["İ"]),
        ("a\x00b\u00adc\ufffd", ["abc"], ["abc"]),
        ("x中文y", ["x", "中", "文", "y"], ["x", "中", "文", "y"]),
        ("don't", ["don", "'", "t"], ["don", "'", "t"]),
        ("A\u2028B\u3000C", ["a", "b", "c"], ["A", "B", "C"]),
        ("a" * 101 + " b", ["[UNK]", "b"], ["[UNK]", "b"]),
    ],
)
def test_words(text: str, uncased: list[str], cased: list[str]) -> None:
    for expected, flag in ((uncased, True), (cased, False)):
        tokenizer, _ = make_both(SPECIAL_TOKENS, lowercase=flag, strip_accents=flag)
        [words] = tokenizer.split_words([text]).to_list()
        assert [word.decode() for word in words] == expected


def test_ids_of_the_special_tokens() -> None:
    vocabulary = ["a", "[SEP]", "[MASK]", "[UNK]", "[CLS]", "b", "[PAD]"]
    tokenizer, _ = make_both(vocabulary, lowercase=True, strip_accents=True)
    assert (tokenizer.sep_id, tokenizer.mask_id, tokenizer.unk_id) == (1, 2, 3)
    assert (tokenizer.cls_id, tokenizer.pad_id) == (4, 6)
    assert tokenizer.tokenize(["B xyz a"]).to_list() == [[5, 3, 0]]


# Vocabularies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param(["a", "b", "ab"], id="no ## pieces"),
        pytest.param(["##a", "##b"], id="only ## pieces"),
        pytest.param(["...", "!!", "##...", ".", "a", "##b", "a.b"], id="punctuation"),
        pytest.param(
            ["a b", " ", "\u3000", "\u2028", " 9", "a", "b"], id="white space"
        ),
        pytest.param(["", "##", "#", "a", "##b"], id="empty"),
        pytest.param(["a" * 100, "##" + "a" * 99, "a" * 101, "a"], id="long words"),
        pytest.param(["a\x00b", "\x11", "##\x11", "a", "##b"], id="control characters"),
        pytest.param(["é" * 100, "##é", "é", "é" * 300], id="many bytes"),
        pytest.param(["[MASK]ed", "[", "mask", "]", "##b"], id="like special tokens"),
    ],
)
def test_odd_vocabularies_equal_the_reference(tokens: list[str]) -> None:
    texts = ["ab ba a.b ...!! # ## #a [MASK]ed [ ]", "a" * 100, "a" * 101, "a" * 99]
    texts += ["é" * 100, "é" * 101, "é" * 99, "a b  9", "aab"]
    vocabulary = [*SPECIAL_TOKENS, *tokens]
    encoded = [text.encode() for text in texts]
    for lowercase, strip_accents in BOTH_WAYS:
        assert_equal_to_reference(encoded, vocabulary, lowercase, strip_accents)


def test_a_token_too_long_for_the_op_is_refused() -> None:
    with pytest.raises(PresetError, match="line 6 of the vocabulary has 258: 'ไไไ"):
        make_both([*SPECIAL_TOKENS, "ไ" * 86], lowercase=False, strip_accents=False)
    with pytest.raises(PresetError, match=r"lacks \[PAD\]"):
        make_both(SPECIAL_TOKENS[1:], lowercase=False, strip_accents=False)


def test_a_vocabulary_of_multilingual_size_keeps_its_ids() -> None:
    words = map("".join, itertools.product(string.ascii_lowercase, repeat=4))
    tokens = [*SPECIAL_TOKENS, *itertools.islice(words, 119_547 - 5)]
    tokenizer, _ = make_both(tokens, lowercase=False, strip_accents=False)
    text = " ".join([tokens[5], tokens[60_000], tokens[-1], "zzzz"])
    assert tokenizer.tokenize([text]).to_list() == [[5, 60_000, 119_546, 1]]


# The graph --------------------------------------------------------------------------

# What TensorFlow Serving has of tensorflow-text since 2.12 and needs no ICU data for.
TFTEXT_OPS = {"FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"}
CORE_OPS = {
    "AddV2", "Cast", "ConcatV2", "Const", "Cumsum", "DenseBincount", "GatherNd",
    "GatherV2", "Greater", "Identity", "LogicalNot", "Max", "Maximum", "Minimum", "Mul",
    "Placeholder", "Reshape", "Size", "StaticRegexFullMatch", "StaticRegexReplace",
    "StridedSlice", "StringLower", "StringSplitV2", "TensorScatterUpdate",
    "UnicodeTranscode", "Where",
}  # fmt: skip


@every_setting
def test_graph_holds_only_portable_ops(lowercase: bool, strip_accents: bool) -> None:
    tokenizer, _ = make_both(SPECIAL_TOKENS, lowercase, strip_accents)
    graph = trace(tokenizer).get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    ops = {node.op for node in nodes}
    assert ops <= TFTEXT_OPS | CORE_OPS
    assert "FastWordpieceTokenizeWithOffsets" in ops
    assert ("StringLower" in ops) == lowercase
    forms = {n.attr["normalization_form"].s for n in nodes if n.op == "NormalizeUTF8"}
    assert forms == ({b"NFD"} if strip_accents else set())


def test_eager_function_dataset_and_saved_model_agree(tmp_path: Path) -> None:
    tokenizer, _ = make_both(build_vocabulary(HARD_CASES), True, True)
    expected = tokenizer.tokenize(tf.constant(HARD_CASES))
    assert expected.dtype == tf.int32
    assert expected.shape.as_list() == [len(HARD_CASES), None]

    function = trace(tokenizer)
    assert function(tf.constant(HARD_CASES)).to_list() == expected.to_list()

    dataset = tf.data.Dataset.from_tensor_slices(HARD_CASES).batch(4)
    rows = [row for batch in dataset.map(function) for row in batch.to_list()]
    assert rows == expected.to_list()

    module = tf.Module()
    module.tokenize = function
    tf.saved_model.save(module, tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    assert loaded.tokenize(tf.constant(HARD_CASES)).to_list() == expected.to_list()


def test_empty_batches_and_texts() -> None:
    tokenizer, _ = make_both(SPECIAL_TOKENS, True, True)
    assert tokenizer.tokenize(tf.constant([], tf.string)).to_list() == []
    assert tokenizer.tokenize(["", " ", "\u00ad"]).to_list() == [[], [], []]
