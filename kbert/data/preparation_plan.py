"""What is to be prepared of a corpus, and whether a folder was begun with the same."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.data.corpus import Corpus
from kbert.data.prepared import digest_of
from kbert.data.pretraining_examples import ExampleRecipe, Examples
from kbert.data.windows import WINDOW_BYTES, Keep
from kbert.display import list_some
from kbert.errors import DataError
from kbert.tokenization import WordPieceTokenizer

_NOT_SET = "not set"


@dataclass(frozen=True)
class Plan:
    """What is to be made of a corpus.

    Attributes:
        recipes: one for each length; a window is tokenized once for all of them.
        seed: decides what is drawn.
        keep: which documents to train on.
        validation: makes the held-out examples of a recipe.
        choices: what else decides the examples, such as how documents are told apart
            and which are held out: names and values, as JSON has them. They are
            compared when a preparation goes on.
        window_bytes: see `windows`.
    """

    recipes: Sequence[ExampleRecipe]
    seed: int
    keep: Keep
    validation: Callable[[ExampleRecipe], Examples]
    choices: Mapping[str, Any]
    window_bytes: int = WINDOW_BYTES

    @property
    def next_sentence(self) -> bool:
        """Whether any recipe makes pairs."""
        return any(recipe.next_sentence for recipe in self.recipes)

    def settings(self, corpus: Corpus, tokenizer: WordPieceTokenizer) -> dict[str, Any]:
        """All that decides the examples of a corpus, as JSON has it."""
        settings = {
            "seed": self.seed,
            "lengths": {
                str(recipe.max_length): {
                    "next_sentence": recipe.next_sentence,
                    "short_rate": recipe.short_rate,
                }
                for recipe in self.recipes
            },
            "lowercase": tokenizer.lowercase,
            "strip_accents": tokenizer.strip_accents,
            "vocabulary_sha256": digest_of(tokenizer.vocabulary),
            "window_bytes": self.window_bytes,
            "choices": dict(self.choices),
            "files": [
                {
                    "name": file.name,
                    "num_bytes": file.num_bytes,
                    "fingerprint": file.fingerprint,
                }
                for file in corpus.files
            ],
        }
        return json.loads(json.dumps(settings))


def check_same_settings(
    folder: Path, then: dict[str, Any], now: dict[str, Any]
) -> None:
    """Checks that a preparation can go on; files may have other names.

    Args:
        folder: for the message.
        then: `Plan.settings` when it began.
        now: the same of this call.

    Raises:
        DataError: something differs; it names what.
    """
    different = [*_differences(then, now)]
    if different:
        raise DataError(
            f"A preparation goes on with the settings it began with; of {folder}, "
            f"{list_some(different, 5)}. Give the same as then, or another folder."
        )


def _differences(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What differs, a phrase each: `seed was 1 and is 2`."""
    flat_then, flat_now = dict(_flat(then)), dict(_flat(now))
    for name in flat_now | flat_then:
        before, after = flat_then.get(name, _NOT_SET), flat_now.get(name, _NOT_SET)
        if before != after:
            yield f"{name.removeprefix('choices.')} was {before} and is {after}"
    yield from _different_files(then["files"], now["files"])


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with its name, such as `lengths.128.short_rate`; files left out."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif prefix + name != "files":
            yield prefix + name, value


def _different_files(
    then: list[dict[str, Any]], now: list[dict[str, Any]]
) -> Iterator[str]:
    if len(then) != len(now):
        yield f"the text was in {len(then)} files and is in {len(now)}"
        return
    for before, after in zip(then, now, strict=True):
        if before["fingerprint"] != after["fingerprint"]:
            yield f"{after['name']} has changed"
