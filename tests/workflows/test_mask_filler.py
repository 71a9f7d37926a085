"""A pretrained run fills masks as plain keras-hub's BertMaskedLM does."""

import itertools
import json
import shutil
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest

import kbert
from kbert.config import ExportConfig
from kbert.errors import ConfigError, DataError, ExportError, RunError
from kbert.workflows import mask_filler
from kbert.workflows.export import export
from kbert.workflows.mask_filler import MaskFiller
from kbert.workflows.predict import read_texts_to_fill
from kbert.workflows.predictor import Predictor, open_predictor
from tests.pretrained import MAX_LENGTH, TOKENS, write_pretrained_run

NUM_SPECIAL = 5
NUM_PROPOSED = len(TOKENS) - NUM_SPECIAL
# Texts, and the tokens they are made of, written down by hand.
TEXTS = {
    "the film is [MASK]": "the film is [MASK]",
    "[MASK]": "[MASK]",
    "The [MASK] was very [MASK], not bad": ("the [MASK] was very [MASK] [UNK] not bad"),
    "food[MASK]good[MASK][MASK]s": "food [MASK] good [MASK] [MASK] [UNK]",
    "films [mask] [MASK] [SEP] \u00e0\ud800": (
        "film ##s [UNK] [UNK] [UNK] [MASK] [UNK] [UNK] [UNK] a"
    ),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretrained_run(tmp_path_factory.mktemp("runs") / "pretrained")


@pytest.fixture(scope="module")
def filler(run: Path) -> MaskFiller:
    return MaskFiller(run, top_k=NUM_PROPOSED)


@pytest.fixture(scope="module")
def plain(run: Path) -> keras.Model:
    folder = str(run / "model")
    return keras_hub.models.BertMaskedLM.from_preset(folder, preprocessor=None)


def plain_probabilities(plain: keras.Model, tokens: list[str]) -> np.ndarray:
    """`[masks, V]` of keras-hub's model for the tokens between [CLS] and [SEP]."""
    ids = [TOKENS.index(token) for token in ["[CLS]", *tokens, "[SEP]"]]
    positions = [n for n, token_id in enumerate(ids) if TOKENS[token_id] == "[MASK]"]
    logits = plain(
        {
            "token_ids": np.array([ids]),
            "segment_ids": np.zeros((1, len(ids)), int),
            "padding_mask": np.ones((1, len(ids)), int),
            "mask_positions": np.array([positions]),
        }
    )
    exponents = np.exp(np.asarray(logits, np.float64)[0])
    return exponents / exponents.sum(axis=-1, keepdims=True)


def scores_by_token(fill: list[dict]) -> np.ndarray:
    """`[V]`; 0 for tokens that were not proposed."""
    scores = {proposal["token"]: proposal["score"] for proposal in fill}
    assert len(scores) == len(fill)
    return np.array([scores.get(token, 0.0) for token in TOKENS])


def test_scores_are_those_of_plain_keras_hub(filler, plain):
    answers = list(filler.answers(TEXTS))
    assert [answer["text"] for answer in answers] == list(TEXTS)
    for answer, tokens in zip(answers, TEXTS.values(), strict=True):
        expected = plain_probabilities(plain, tokens.split())
        assert len(answer["fills"]) == len(expected)
        for fill, probabilities in zip(answer["fills"], expected, strict=True):
            scores = scores_by_token(fill)
            np.testing.assert_allclose(
                scores[NUM_SPECIAL:], probabilities[NUM_SPECIAL:], atol=1e-5
            )
            assert len(fill) == NUM_PROPOSED
            assert [p["score"] for p in fill] == sorted(scores, reverse=True)[
                :NUM_PROPOSED
            ]
            assert np.ptp(probabilities) > 0.1, "the tiny model prefers nothing"


def test_special_tokens_take_their_share_and_are_not_proposed(filler, plain):
    (answer,) = filler.answers(["the film is [MASK]"])
    total = sum(proposal["score"] for proposal in answer["fills"][0])
    expected = plain_probabilities(plain, "the film is [MASK]".split())[0]
    assert total == pytest.approx(1 - expected[:NUM_SPECIAL].sum(), abs=1e-5)
    assert total < 0.999


def test_the_best_of_more(run, filler):
    (best,) = MaskFiller(run, top_k=2).answers(["[MASK] is [MASK]"])
    (all_of_them,) = filler.answers(["[MASK] is [MASK]"])
    for fill, whole in zip(best["fills"], all_of_them["fills"], strict=True):
        assert [p["token"] for p in fill] == [p["token"] for p in whole[:2]]
    (usual,) = kbert.load(run).predict(["[MASK]"])
    assert len(usual["fills"][0]) == 5
    (one,) = kbert.load(run, top_k=1).predict(["[MASK]"])
    assert one["fills"][0] == usual["fills"][0][:1]


def test_the_text_with_the_mask_replaced(filler):
    (answer,) = filler.answers(["The [MASK] is very [MASK]!"])
    first, second = ({p["token"]: p["text"] for p in fill} for fill in answer["fills"])
    assert first["film"] == "The film is very [MASK]!"
    assert first["##s"] == "Thes is very [MASK]!"
    assert second["bad"] == "The [MASK] is very bad!"
    assert second["##y"] == "The [MASK] is veryy!"
    (alone,) = filler.answers(["[MASK]"])
    assert {p["token"]: p["text"] for p in alone["fills"][0]}["##y"] == "y"


@pytest.mark.parametrize(
    ("before", "after", "kept_before", "kept_after"),
    [
        (40, 40, 6, 7),  # the odd token goes to the end
        (3, 40, 3, 10),
        (40, 2, 11, 2),
        (7, 6, 7, 6),  # fits as it is
    ],
)
def test_a_long_text_is_cut_around_its_masks(
    filler, plain, before, after, kept_before, kept_after
):
    words = list(itertools.islice(itertools.cycle(TOKENS[5:15]), before + after))
    text = " ".join([*words[:before], "[MASK]", *words[before:]])
    kept = [
        *words[before - kept_before : before],
        "[MASK]",
        *words[before : before + kept_after],
    ]
    assert len(kept) == MAX_LENGTH - 2
    (answer,) = filler.answers([text])
    expected = plain_probabilities(plain, kept)[0, NUM_SPECIAL:]
    scores = scores_by_token(answer["fills"][0])[NUM_SPECIAL:]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert answer["text"] == text


def test_masks_that_do_not_fit_together(filler):
    near = "[MASK] " + "good " * (MAX_LENGTH - 4) + "[MASK] bad"
    (answer,) = filler.answers([near])
    assert len(answer["fills"]) == 2
    far = "[MASK] " + "good " * (MAX_LENGTH - 3) + "[MASK]"
    with pytest.raises(DataError, match=r"takes 14 tokens .* text 2, .* 15 tokens"):
        list(filler.answers(["[MASK]", far]))


def test_a_stream_in_order_whatever_the_window(run, monkeypatch):
    monkeypatch.setattr(mask_filler, "_PROPOSALS_PER_WINDOW", 40)
    monkeypatch.setattr(mask_filler, "_MASKS_PER_BATCH", 4)
    small = MaskFiller(run, top_k=2)
    endless = (
        f"{'very ' * (n % 5)}[MASK] {'film [MASK] ' * (n % 3)}"
        for n in itertools.count()
    )
    answers = list(itertools.islice(small.answers(endless), 60))
    for number, answer in enumerate(answers):
        (same,) = small.answers([answer["text"]])
        assert answer["text"].count("very") == number % 5
        assert len(answer["fills"]) == 1 + number % 3
        for fill, expected in zip(answer["fills"], same["fills"], strict=True):
            assert [p["token"] for p in fill] == [p["token"] for p in expected]
            assert fill[0]["score"] == pytest.approx(expected[0]["score"], abs=1e-5)


def test_windows_are_bounded(run, monkeypatch):
    taken = []

    def texts():
        for number in itertools.count():
            taken.append(number)
            yield "[MASK] [MASK] [MASK]"

    monkeypatch.setattr(mask_filler, "_PROPOSALS_PER_WINDOW", 30)
    few = MaskFiller(run, top_k=2)
    next(few.answers(texts()))
    assert len(taken) == 5  # 15 masks of 2 proposals
    monkeypatch.undo()
    monkeypatch.setattr(mask_filler, "WINDOW", 7)
    taken.clear()
    next(MaskFiller(run).answers(texts()))
    assert len(taken) == 7


def test_no_text_no_answer(filler):
    assert list(filler.answers([])) == []


def test_half_precision_is_close(run, filler):
    half = MaskFiller(run, precision="mixed_bfloat16", top_k=NUM_PROPOSED)
    text = "the film [MASK] very good"
    (answer,), (exact,) = half.answers([text]), filler.answers([text])
    found = scores_by_token(answer["fills"][0])
    expected = scores_by_token(exact["fills"][0])
    assert found[5:] != pytest.approx(expected[5:], abs=1e-7)
    np.testing.assert_allclose(found, expected, atol=0.03)


@pytest.mark.parametrize("text", ["", "a film", "the [mask] is good", "[ MASK ]"])
def test_a_text_without_a_mask(filler, text):
    with pytest.raises(DataError, match=r"needs a \[MASK\], in capitals.* text 2: "):
        list(filler.answers(["[MASK]", text]))


def test_what_is_no_single_text(run, filler):
    with pytest.raises(RunError, match="fills the masks of single texts"):
        list(filler.answers([("[MASK]", "good")]))
    with pytest.raises(TypeError, match=r"texts\[1\] = 3"):
        list(filler.answers(["[MASK]", 3]))
    with pytest.raises(TypeError, match="several texts"):
        kbert.load(run).predict("[MASK]")


@pytest.mark.parametrize("top_k", [0, -1, 1001, 2.5, True, "3"])
def test_how_many_is_checked(run, top_k):
    with pytest.raises(ConfigError, match=r"top_k must be a whole number from 1 to"):
        MaskFiller(run, top_k=top_k)


def test_the_task_decides_who_answers(run, tiny_run):
    assert isinstance(open_predictor(run), MaskFiller)
    assert isinstance(open_predictor(str(tiny_run.path)), Predictor)
    with pytest.raises(ConfigError, match=r"pretrained runs only\. Received: 3"):
        open_predictor(tiny_run.path, top_k=3)
    with pytest.raises(ConfigError, match="precision must be"):
        open_predictor(run, precision="float64")


def test_what_a_pretrained_run_cannot_do(run, tmp_path):
    loaded = kbert.load(run)
    with pytest.raises(RunError, match="fills masks and knows no labels"):
        _ = loaded.labels
    settings = ExportConfig().export
    with pytest.raises(ExportError, match=r"pretrained only\. .*kbert finetune --pre"):
        export(run, tmp_path / "saved" / "model", settings=settings)
    assert not (tmp_path / "saved" / "model").exists()


def test_a_damaged_run_is_named(run, tmp_path):
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged)
    (damaged / "model" / "task.weights.h5").unlink()
    with pytest.raises(RunError, match=r"task\.weights\.h5 missing"):
        MaskFiller(damaged)
    task = json.loads((damaged / "task.json").read_text())
    del task["max_length"]
    (damaged / "task.json").write_text(json.dumps(task))
    with pytest.raises(RunError, match=r"task\.json is damaged: no 'max_length'"):
        MaskFiller(damaged)


def test_texts_of_a_table(run, filler, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("review,text\n[MASK] film,the [MASK]\n")
    assert list(read_texts_to_fill(table, filler)) == ["the [MASK]"]
    named = ["data.text=review"]
    texts = read_texts_to_fill(table, filler, assignments=named)
    assert list(texts) == ["[MASK] film"]
    with pytest.raises(ConfigError, match=r"data\.text_pair has no effect"):
        read_texts_to_fill(table, filler, assignments=["data.text_pair=text"])


def test_the_column_of_the_corpus_is_read(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    task = json.loads((copy / "task.json").read_text())
    task["columns"]["text"] = "body"
    (copy / "task.json").write_text(json.dumps(task))
    table = tmp_path / "table.jsonl"
    table.write_text('{"text": "a", "body": "the [MASK]"}\n')
    assert list(read_texts_to_fill(table, MaskFiller(copy))) == ["the [MASK]"]


def test_finetuning_goes_on_from_it(run, examples, tmp_path):
    tuned = kbert.finetune(
        run,
        examples,
        output=tmp_path / "tuned",
        settings={
            "data.text": "review",
            "data.label": "verdict",
            "data.max_length": 16,
            "train.max_steps": 1,
            "train.learning_rate": 1e-9,
            "train.precision": "float32",
        },
    )
    before = keras_hub.models.BertBackbone.from_preset(str(run / "model"))
    after = keras_hub.models.BertBackbone.from_preset(str(tuned.path / "model"))
    for old, new in zip(before.weights, after.weights, strict=True):
        np.testing.assert_allclose(old, new, atol=1e-6, err_msg=old.path)
    assert tuned.labels == ("neg", "pos")
