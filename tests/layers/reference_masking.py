"""Masked-LM masking in plain Python, a token at a time.

Written from the description of MaskedLMMask and from `create_masked_lm_predictions` of
google-research/bert, for the tests to compare with.
"""

from dataclasses import dataclass, field

import numpy as np


def mix(x: int) -> int:
    """The 32-bit finalizer of MurmurHash3."""
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


def random_number(seed: int, draw: int, position: int, purpose: int) -> int:
    """32 bits; purposes: 0 the selection, 1 the action, 2 the replacement."""
    keys = [int(key) for key in np.random.SeedSequence(seed).generate_state(6)]
    first = mix((draw + keys[purpose]) % 2**32)
    second = mix((draw + keys[3 + purpose]) % 2**32)
    return mix(mix((position + first) % 2**32) ^ second)


@dataclass
class ReferenceMask:
    """Arguments as `MaskedLMMask`."""

    vocabulary_size: int
    mask_token_id: int
    special_token_ids: list[int]
    mask_selection_length: int
    mask_selection_rate: float = 0.15
    mask_token_rate: float = 0.8
    random_token_rate: float = 0.1
    whole_word: bool = False
    continuation: list[bool] = field(default_factory=list)
    seed: int = 0

    def __call__(self, token_ids, draws) -> dict[str, np.ndarray]:
        rows = [
            self.row([int(token) for token in row], int(draw) % 2**32)
            for row, draw in zip(token_ids, draws, strict=True)
        ]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def row(self, tokens: list[int], draw: int) -> dict[str, np.ndarray]:
        selected = self.select(tokens, draw)
        masked = list(tokens)
        for position in selected:
            masked[position] = self.replace(tokens[position], draw, position)
        num_unused = self.mask_selection_length - len(selected)
        ids = [tokens[position] for position in selected]
        weights = [1.0] * len(selected) + [0.0] * num_unused
        return {
            "token_ids": np.array(masked, np.int32),
            "mask_positions": np.array(selected + [0] * num_unused, np.int32),
            "mask_ids": np.array(ids + [0] * num_unused, np.int32),
            "mask_weights": np.array(weights, np.float32),
        }

    def select(self, tokens: list[int], draw: int) -> list[int]:
        words = self.words(tokens)
        words.sort(key=lambda word: random_number(self.seed, draw, word[0], 0))
        budget = self.budget(sum(len(word) for word in words))
        selected: list[int] = []
        for word in words:
            if len(selected) + len(word) <= budget:
                selected += word
        return sorted(selected)

    def budget(self, num_selectable: int) -> int:
        if not num_selectable:
            return 0
        wanted = max(1, round(self.mask_selection_rate * num_selectable))
        return min(wanted, self.mask_selection_length)

    def words(self, tokens: list[int]) -> list[list[int]]:
        words: list[list[int]] = []
        for position, token in enumerate(tokens):
            if self.is_special(token):
                continue
            joins = self.whole_word and self.continuation[token] and position > 0
            if joins and not self.is_special(tokens[position - 1]):
                words[-1].append(position)
            else:
                words.append([position])
        return words

    def replace(self, token: int, draw: int, position: int) -> int:
        action = random_number(self.seed, draw, position, 1) / 2**32
        if action < self.mask_token_rate:
            return self.mask_token_id
        if action < self.mask_token_rate + self.random_token_rate:
            others = [i for i in range(self.vocabulary_size) if not self.is_special(i)]
            return others[random_number(self.seed, draw, position, 2) % len(others)]
        return token

    def is_special(self, token: int) -> bool:
        return token == self.mask_token_id or token in self.special_token_ids
