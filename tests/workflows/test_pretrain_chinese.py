"""Chinese from raw text to a classifier: vocabulary, pretraining, fine-tuning."""

# ruff: noqa: RUF001 - the punctuation of Chinese looks like that of English

import itertools
from pathlib import Path

import pytest

import kbert
from kbert.vocabulary import SPECIAL_TOKENS, read_vocabulary

PLACES = ("北京", "上海", "广州", "成都")
THINGS = ("电影", "饭馆", "旅店", "书店")
PRAISE = ("很好", "好极了", "非常棒", "令人满意")
BLAME = ("很差", "糟透了", "太吵了", "令人失望")


def documents() -> list[str]:
    """Short reviews; the sentences of one are all praise or all blame."""
    return [
        f"我昨天去了{place}的{thing}。那里{first}！服务也{second}；"
        f"我{'一定再来' if words is PRAISE else '不会再来'}。"
        for words in (PRAISE, BLAME)
        for place, thing, first, second in itertools.product(
            PLACES, THINGS, words, words
        )
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zh") / "评论.txt"
    path.write_text("\n\n".join(documents()) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pretrained(corpus: Path) -> kbert.Run:
    return kbert.pretrain(
        corpus,
        output=corpus.parent / "pretrained",
        max_steps=300,
        batch_size=16,
        learning_rate=1e-2,
        max_length=48,
        precision="float32",
        settings={
            "model.vocabulary_size": 200,
            "model.num_layers": 1,
            "model.num_heads": 2,
            "model.hidden_dim": 32,
            "model.dropout": 0.0,
            "data.validation_share": 0.1,
            "train.eval_steps": 150,
        },
    )


def test_every_ideograph_is_a_token(pretrained: kbert.Run):
    tokens = read_vocabulary(pretrained.path / "vocab.txt")
    ideographs = {c for text in documents() for c in text if "\u4e00" <= c <= "\u9fff"}
    assert set(tokens) >= ideographs
    multiple = [
        token
        for token in tokens
        if len(token.removeprefix("##")) > 1 and token not in SPECIAL_TOKENS
    ]
    assert multiple == []


def test_it_has_learned_the_language(pretrained: kbert.Run):
    metrics = pretrained.metrics["validation"]
    # 70 different characters: guessing would be near 70.
    assert metrics["perplexity"] < 12
    assert metrics["masked_lm_accuracy"] > 0.4
    assert metrics["next_sentence_accuracy"] > 0.5
    (answer,) = kbert.load(pretrained.path, top_k=1).predict(
        ["我昨[MASK]去了北京的书店。"]
    )
    assert answer["fills"][0][0]["token"] == "天"
    assert answer["fills"][0][0]["text"] == "我昨天去了北京的书店。"


def test_a_fine_tuned_run_tells_praise_from_blame(
    pretrained: kbert.Run, tmp_path: Path
):
    # Every fifth: each word meets each other, as it would not in every fourth.
    rows = ["内容,评价"]
    rows += [f"{text},{'好' if '一定' in text else '坏'}" for text in documents()[::5]]
    file = tmp_path / "评论.csv"
    file.write_text("\n".join(rows), encoding="utf-8")
    run = kbert.finetune(
        pretrained.path,
        file,
        output=tmp_path / "run",
        epochs=6,
        batch_size=8,
        learning_rate=3e-3,
        precision="float32",
        settings={"data.text": "内容", "data.label": "评价"},
    )
    unseen = documents()[1::5]
    labels = [answer["label"] for answer in run.predict(unseen)]
    assert labels == ["好" if "一定" in text else "坏" for text in unseen]
    assert set(labels) == {"好", "坏"}
