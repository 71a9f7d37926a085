"""Holding out a stratified share."""

import numpy as np

from kbert.data.splits import stratified_split


def test_every_class_is_held_out_by_the_share():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    kept, held_out = stratified_split(labels, 0.2, seed=1)
    assert sorted([*kept, *held_out]) == list(range(160))
    np.testing.assert_array_equal(np.bincount(labels[held_out]), [20, 10, 2])


def test_seed_decides():
    labels = np.arange(200) % 4
    first = stratified_split(labels, 0.1, seed=1)[1]
    np.testing.assert_array_equal(first, stratified_split(labels, 0.1, seed=1)[1])
    assert list(first) != list(stratified_split(labels, 0.1, seed=2)[1])


def test_small_classes_keep_an_example_on_each_side():
    kept, held_out = stratified_split(np.array([0, 0, 1]), 0.01, seed=0)
    assert len(held_out) == 1
    assert held_out[0] in (0, 1)
    assert 2 in kept
