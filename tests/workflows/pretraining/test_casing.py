"""Cased vocabularies are known by their tokens, and text keeps its case for them."""

import logging
from pathlib import Path

from kbert.pretrain_settings import PretrainConfig, PretrainModelSettings
from kbert.vocabulary import SPECIAL_TOKENS
from kbert.workflows.pretraining.casing import (
    capital_share,
    settle_case,
    tokenizing_of,
)

UNUSED = [f"[unused{number}]" for number in range(50)]
LOWER = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefgh")]
UNCASED = [*SPECIAL_TOKENS, *UNUSED, *LOWER, "the", "film", ".", "1", "\u4e2d", "A"]
CASED = [*SPECIAL_TOKENS, *LOWER, "the", "The", "Film", "NBA", "\u00c4"]


def config(folder: Path, tokens: list[str], **model: bool) -> PretrainConfig:
    file = folder / "vocab.txt"
    file.write_text("\n".join(tokens), encoding="utf-8")
    return PretrainConfig(model=PretrainModelSettings(vocabulary=str(file), **model))


def test_the_share_is_of_ordinary_tokens_with_case():
    assert capital_share(["[CLS]", "[unused1]", "a", "##b", "C", "##D", "1"]) == 0.5
    assert capital_share(["\u4e2d", "\u6587", ".", "[MASK]"]) == 0.0
    assert capital_share(UNCASED) < 0.05 < capital_share(CASED)


def test_text_keeps_its_case_for_a_cased_vocabulary(tmp_path, caplog):
    caplog.set_level(logging.INFO, "kbert")
    found = settle_case(config(tmp_path, CASED), None)
    assert tokenizing_of(found, None) == (False, False)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "vocab.txt, 10% have capital letters: the text keeps its" in caplog.text


def test_an_uncased_vocabulary_with_a_few_capitals(tmp_path, caplog):
    caplog.set_level(logging.INFO, "kbert")
    given = config(tmp_path, UNCASED)
    assert settle_case(given, None) == given
    assert tokenizing_of(given, None) == (True, True)
    assert not caplog.records


def test_a_decision_stands_but_is_warned_of(tmp_path, caplog):
    caplog.set_level(logging.INFO, "kbert")
    given = config(tmp_path, CASED, lowercase=True)
    assert settle_case(given, None) == given
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "model.lowercase = true leaves them without use" in caplog.text
    caplog.clear()
    settle_case(config(tmp_path, CASED, lowercase=False), None)
    settle_case(config(tmp_path, UNCASED, lowercase=True), None)
    assert not caplog.records
