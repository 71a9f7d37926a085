"""A pretraining that goes on at a position is fed what it would have been."""

import functools
from collections.abc import Iterator

import pytest

from kbert.data import pretraining
from kbert.data.prepared import Prepared, PreparedExamples
from kbert.data.preparing import Plan, prepare
from kbert.data.pretraining import TextExamples
from kbert.data.pretraining_examples import Examples
from kbert.data.shards import read_shard
from kbert.data.windows import WindowTokenizer
from kbert.errors import RunError
from kbert.layers import MaskedLMMask
from kbert.training.masked_data import Mask, MaskedData, compile_mask
from tests.data.pretraining_texts import random_corpus, recipe, tiny_tokenizer
from tests.training.masked_examples import (
    MAX_LENGTH,
    NUM_SLOTS,
    SPECIAL,
    Blocks,
    data_of,
    mask_layer,
    numbered_examples,
    phase_of,
    random_examples,
)
from tests.training.resuming import check_every_start, check_same


def mask_of_texts() -> Mask:
    """A mask for the tokens of `tiny_tokenizer`."""
    tokenizer = tiny_tokenizer()
    layer = MaskedLMMask(
        len(tokenizer.vocabulary),
        tokenizer.mask_id,
        special_token_ids=range(SPECIAL),
        mask_selection_length=NUM_SLOTS,
        seed=5,
    )
    return compile_mask(layer)


def test_a_position_is_that_of_the_example_fed_next():
    first = [numbered_examples(0, 3), numbered_examples(3, 8), numbered_examples(11, 2)]
    source = Blocks(first, [numbered_examples(100, 13)])
    phases = [phase_of(source, num_steps=5), phase_of(source, num_rows=3, num_steps=2)]
    updates = data_of(*phases, accumulation=2).updates(6)
    assert [tuple(update.position.values()) for update in updates] == [
        (1, 0, 1, 5),  # step, epoch, block, example: the next is the one of number 8
        (2, 1, 0, 3),  # 103
        (3, 1, 0, 11),  # 111
        (4, 2, 1, 3),  # 6
        (5, 0, 0, 0),  # The next phase begins anew.
        (6, 0, 1, 3),  # 6
    ]


def test_a_position_at_the_end_of_a_block_is_in_the_next():
    source = Blocks([numbered_examples(0, 4), numbered_examples(4, 4)])
    updates = list(data_of(phase_of(source)).updates(3))
    places = [(0, 1, 0), (0, 2, 0), (1, 1, 0)]
    assert [tuple(update.position.values())[1:] for update in updates] == places


@pytest.mark.parametrize("num_rows", [1, 3, 4, 16])
def test_after_any_step_of_blocks_of_all_sizes_it_goes_on(num_rows):
    """Of groups that end with a block or an epoch, and of blocks smaller than those."""
    sizes = [3, 5, 0, 1, 7, 8]
    blocks = [random_examples(size, seed) for seed, size in enumerate(sizes) if size]
    blocks.insert(2, Examples.concatenate([]))
    short, long = Blocks(blocks, blocks[::-1]), Blocks(blocks[3:])

    mask = compile_mask(mask_layer())

    def make() -> MaskedData:
        return data_of(
            phase_of(short, mask, num_rows=2 * num_rows, num_steps=7),
            phase_of(long, mask, num_rows=num_rows, num_steps=6),
            accumulation=2,
        )

    check_every_start(make, 13)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    """Two lengths of eleven shards, so of two blocks."""
    folder = tmp_path_factory.mktemp("prepared")
    plan = Plan(
        recipes=[recipe(16), recipe(MAX_LENGTH)],
        seed=0,
        keep=lambda *document: True,
        validation=lambda recipe: Examples.concatenate([]),
        choices={},
        window_bytes=2500,
    )
    return prepare(random_corpus(), tiny_tokenizer(), folder, plan)


def test_after_any_step_on_a_prepared_folder_it_goes_on(prepared, monkeypatch):
    # Starting to read files takes long; that those before are not read is tested there.
    read_once = functools.cache(read_shard)
    monkeypatch.setattr("kbert.data.prepared.read_shard", read_once)
    mask = mask_of_texts()

    def make() -> MaskedData:
        short = PreparedExamples(prepared, 16, seed=3)
        long = PreparedExamples(prepared, MAX_LENGTH, seed=3)
        return data_of(
            phase_of(short, mask, length=16, num_rows=67, num_steps=9),
            phase_of(long, mask, num_rows=41, num_steps=4),
            accumulation=2,
        )

    updates = check_every_start(make, 13)
    places = {(u.position["epoch"], u.position["block"]) for u in updates[:8]}
    assert {(0, 0), (0, 1), (1, 0), (1, 1)} <= places


@pytest.mark.parametrize("next_sentence", [True, False])
def test_after_any_step_on_text_it_goes_on(next_sentence, monkeypatch):
    # Tracing it anew for every start would take long.
    monkeypatch.setattr(
        pretraining, "WindowTokenizer", functools.cache(WindowTokenizer)
    )
    tokenizer, mask = tiny_tokenizer(), mask_of_texts()

    def make() -> MaskedData:
        short, long = (
            TextExamples(
                random_corpus(),
                tokenizer,
                recipe(length, next_sentence=next_sentence, short_rate=0.1),
                seed=3,
                keep=lambda file, document: document % 7 != 3,
                window_bytes=1500,
            )
            for length in (16, MAX_LENGTH)
        )
        return data_of(
            phase_of(short, mask, length=16, num_rows=47, num_steps=12),
            phase_of(long, mask, num_rows=29, num_steps=5),
            accumulation=2,
            next_sentence=next_sentence,
        )

    updates = check_every_start(make, 17)
    positions = [update.position for update in updates]
    assert {(0, 0), (0, 1), (1, 0)} <= {
        (p["epoch"], p["block"]) for p in positions[:24]
    }
    assert any("bookmark" in p for p in positions)
    # Each example has a number, all phases and epochs over.
    numbers = [n for u in updates for fed in u.batches for n in fed.example_ids]
    assert numbers == list(range(len(numbers)))


def test_blocks_that_were_fed_are_not_read_again():
    examples = [numbered_examples(8 * number, 8) for number in range(5)]

    class Counted(Blocks):
        def blocks(self, epoch: int, first_block: int = 0) -> Iterator[Examples]:
            for number, block in enumerate(super().blocks(epoch, first_block)):
                read.append((epoch, first_block + number))
                yield block

    data = data_of(phase_of(Counted(examples), num_rows=5, num_steps=30))
    read: list[tuple[int, int]] = []
    # 29 x 5 of the 40 examples of an epoch: the next is 3 x 40 + 3 x 8 + 1
    *_, before, last = data.updates(30)
    read.clear()
    (again,) = data.updates(30, before.position)
    assert read == [(3, 3)]
    check_same([again], [last])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"epoch": None}, "epoch"),
        ({"block": -1}, "block"),
        ({"example": "all"}, "example"),
        ({"bookmark": {"block": 0}}, "bookmark.start"),
        ({"bookmark": {"block": 0, "start": {"file_number": -1}}}, "file_number"),
        ({"__class__": "os.system"}, "__class__"),
    ],
)
def test_a_position_that_is_none_is_refused_by_name(change, name):
    data = data_of(phase_of(Blocks([numbered_examples(0, 8)]), num_rows=2, num_steps=9))
    start = {"step": 1, "epoch": 0, "block": 0, "example": 2, **change}
    with pytest.raises(RunError, match=name):
        next(iter(data.updates(9, start)))
