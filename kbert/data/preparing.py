"""Preparing a corpus: its examples are made once and written into a folder.

What is finished stays valid, whatever happens: a shard is renamed into its place when
it is whole, and then listed. The same call goes on where the last one stopped, and the
shards get the same bytes as if nothing had stopped it.
"""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kbert import __version__
from kbert.data.ahead import map_ahead
from kbert.data.corpus import Corpus
from kbert.data.preparation_plan import Plan, check_same_settings
from kbert.data.prepared import (
    FORMAT,
    MANIFEST,
    SHARDS,
    VOCABULARY,
    Prepared,
    open_prepared,
    read_manifest,
    read_shards,
    shard_file,
    validation_file,
)
from kbert.data.pretraining import Purpose, no_examples, random_generator
from kbert.data.pretraining_examples import build_examples
from kbert.data.shards import Shard, write_shard
from kbert.data.windows import Window, WindowTokenizer, read_pieces_of, windows
from kbert.display import list_some
from kbert.errors import DataError
from kbert.files import append_line, write_json, write_text
from kbert.tokenization import WordPieceTokenizer

__all__ = ["Plan", "check_folder", "prepare"]


def prepare(
    corpus: Corpus,
    tokenizer: WordPieceTokenizer,
    folder: Path | str,
    plan: Plan,
    *,
    num_threads: int | None = None,
    on_window: Callable[[int], None] | None = None,
) -> Prepared:
    """Prepares a corpus, or goes on with what an earlier call began.

    Args:
        corpus: the texts.
        tokenizer: turns them into tokens.
        folder: a new or an empty one, or one begun with the same settings.
        plan: what to make.
        num_threads: that tokenize, build and write; None for one a core.
        on_window: told the bytes of text of each window, when it is done.

    Raises:
        DataError: the folder holds something else, or was begun with other settings;
            a file is faulty; there is no example at all, or next-sentence prediction
            lacks a second document.
        OSError: the folder cannot be written, or the disk is full. What is finished
            stays valid, and the same call goes on from there.
    """
    folder = Path(folder)
    num_threads = num_threads or os.cpu_count() or 1
    with _saying_how_to_go_on(folder):
        manifest = _begin(folder, plan.settings(corpus, tokenizer), tokenizer)
        shards = _whole_shards(folder)
        if manifest.get("num_shards") != len(shards):
            writer = _ShardWriter(folder, tokenizer, plan, shards)
            writer.write_validation()
            pieces = read_pieces_of(corpus, plan.keep)
            parts = map_ahead(
                writer.write,
                windows(
                    pieces, plan.window_bytes, need_two_documents=plan.next_sentence
                ),
                num_threads=num_threads,
                num_ahead=num_threads + 1,
            )
            with closing(parts):
                for written, num_bytes in parts:
                    writer.list(written)
                    if on_window is not None:
                        on_window(num_bytes)
            _complete(folder, manifest, corpus)
    return open_prepared(folder)


class _ShardWriter:
    """Writes the shards that are missing.

    Args:
        finished: the files of those that are not.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: WordPieceTokenizer,
        plan: Plan,
        finished: Collection[str],
    ) -> None:
        self._folder = folder
        self._tokenize = WindowTokenizer(tokenizer)
        self._plan = plan
        self._finished = finished

    def write(self, window: Window) -> tuple[list[Shard], int]:
        """Writes a window's missing shards; several threads may.

        Returns:
            The shards written, for `list`, and the bytes of the window's text.
        """
        missing = {
            file: recipe
            for recipe in self._plan.recipes
            if (file := shard_file(recipe.max_length, window.number))
            not in self._finished
        }
        shards = []
        if missing:
            documents = self._tokenize(window)
            for file, recipe in missing.items():
                rng = random_generator(
                    Purpose.PREPARING, self._plan.seed, recipe.max_length, window.number
                )
                examples = build_examples(documents, recipe, rng)
                shards.append(write_shard(self._folder, file, examples))
        return shards, window.num_bytes

    def write_validation(self) -> None:
        """Writes and lists the held-out examples that are missing."""
        for recipe in self._plan.recipes:
            file = validation_file(recipe.max_length)
            if file not in self._finished:
                examples = self._plan.validation(recipe)
                self.list([write_shard(self._folder, file, examples)])

    def list(self, shards: Iterable[Shard]) -> None:
        """Lists shards as finished; one thread at a time."""
        for shard in shards:
            append_line(self._folder / SHARDS, json.dumps(asdict(shard)))


def _begin(
    folder: Path, settings: dict[str, Any], tokenizer: WordPieceTokenizer
) -> dict[str, Any]:
    """Writes manifest and vocabulary, or checks the manifest that is there."""
    check_folder(folder)
    manifest = read_manifest(folder)
    if manifest is not None:
        check_same_settings(folder, manifest["settings"], settings)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {
            "format": FORMAT,
            "kbert": __version__,
            "complete": False,
            "settings": settings,
        }
        write_json(folder / MANIFEST, manifest)
    if not (folder / VOCABULARY).exists():
        write_text(folder / VOCABULARY, "\n".join(tokenizer.vocabulary) + "\n")
    return manifest


def check_folder(folder: Path) -> None:
    """Checks that a corpus can be prepared into a folder: a new, empty or begun one.

    Raises:
        DataError: it holds something else.
    """
    if read_manifest(folder) is not None:
        return
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file. Name a folder to prepare into.")
    names = sorted(os.listdir(folder)) if folder.exists() else []
    # What is hidden may be left of a preparation that was killed in its first moment.
    found = [name for name in names if not name.startswith(".")]
    if found:
        raise DataError(
            f"A corpus is prepared into a new or an empty folder; {folder} holds "
            f"{list_some(found, 3)}. Choose another folder."
        )


def _complete(folder: Path, manifest: dict[str, Any], corpus: Corpus) -> None:
    """Says in the manifest that all is there, and how much it is."""
    shards = _whole_shards(folder)
    lengths = manifest["settings"]["lengths"]
    held_out = {validation_file(int(length)) for length in lengths}
    training = [shard for file, shard in shards.items() if file not in held_out]
    if not any(shard.num_examples for shard in training):
        raise no_examples(corpus)
    totals = {
        "num_shards": len(shards),
        "num_examples": sum(shard.num_examples for shard in training),
        "num_tokens": sum(shard.num_tokens for shard in training),
    }
    write_json(folder / MANIFEST, manifest | {"complete": True} | totals)


def _whole_shards(folder: Path) -> dict[str, Shard]:
    shards = read_shards(folder)
    return {file: shard for file, shard in shards.items() if shard.is_whole(folder)}


@contextlib.contextmanager
def _saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """For a block that writes into the folder and may find the disk full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"{os.strerror(error.errno)} (what is prepared stays valid; make room, and "
            "run the same command again to go on)",
            str(folder),
        ) from error
