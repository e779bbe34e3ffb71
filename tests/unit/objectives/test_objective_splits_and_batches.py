from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.data.batching import TokenRows, epoch_batches, grouped, padded, sorted_batches
from objectives.data.splits import draw_rows, split_off, stratified_order

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=400)
LABELS = st.lists(st.sampled_from("abcde"), min_size=4, max_size=200)


@given(LENGTHS, st.integers(1, 33), st.integers(0, 5), st.integers(0, 5))
def test_every_row_is_in_one_batch_of_an_epoch(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(np.array(lengths), size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == math.ceil(len(lengths) / size)
    assert sum(len(batch) < size for batch in batches) <= 1


@given(LENGTHS, st.integers(1, 33), st.integers(0, 5))
def test_batches_depend_on_seed_and_epoch_alone(lengths: list[int], size: int, seed: int) -> None:
    first, again = (epoch_batches(np.array(lengths), size, seed, 3) for _ in range(2))
    assert [b.tolist() for b in first] == [b.tolist() for b in again]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    lengths = np.ones(200, dtype=np.int64)
    orders = {tuple(np.concatenate(epoch_batches(lengths, 8, s, e)).tolist()) for s, e in ((0, 0), (0, 1), (1, 0))}
    assert len(orders) == 3


def test_sorting_by_length_halves_the_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 64, 2000)

    def padding(batches: list[np.ndarray]) -> int:
        return sum(int(lengths[b].max() * len(b) - lengths[b].sum()) for b in batches)

    shuffled = np.random.default_rng(1).permutation(2000)
    plain = padding([shuffled[i : i + 16] for i in range(0, 2000, 16)])
    assert padding(epoch_batches(lengths, 16, 0, 0)) < plain / 5
    assert padding(sorted_batches(lengths, 16)) < plain / 20


def test_accumulation_groups_batches_and_keeps_a_short_last_step() -> None:
    batches = [np.array([i]) for i in range(5)]
    assert [len(group) for group in grouped(batches, 2)] == [2, 2, 1]


def test_truncation_keeps_the_special_tokens_at_the_end() -> None:
    ids = np.array([2, 5, 6, 7, 3, 2, 8, 3], dtype=np.int32)
    rows = TokenRows(ids=ids, offsets=np.array([0, 5, 8]), labels=np.array([0, 1]), suffix=1)
    assert rows.tokens(0, 4).tolist() == [2, 5, 6, 3]
    tokens, mask = padded(rows, np.array([1, 0]), 4, pad_id=0)
    assert tokens.tolist() == [[2, 8, 3, 0], [2, 5, 6, 3]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert rows.lengths(4).tolist() == [4, 3]


@given(LABELS, st.floats(0.05, 0.5), st.integers(0, 9))
def test_a_split_is_a_partition_and_stratified(labels: list[str], fraction: float, seed: int) -> None:
    stay, off = split_off(labels, fraction, seed)
    assert sorted(stay + off) == list(range(len(labels)))
    assert (stay, off) == split_off(labels, fraction, seed)
    counts, taken = Counter(labels), Counter(labels[i] for i in off)
    for name, count in counts.items():
        assert abs(taken[name] - count * len(off) / len(labels)) <= 1 + len(counts) / 2


def test_the_only_row_of_a_class_stays_in_training() -> None:
    for seed in range(50):
        _, off = split_off([*"a" * 40, "b"], 0.2, seed)
        assert 40 not in off


def test_draws_of_rows_are_nested_and_stratified() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    few, more = draw_rows(labels, 10, 3), draw_rows(labels, 50, 3)
    assert set(few.tolist()) < set(more.tolist())
    assert int((labels[few] == 1).sum()) == 2
    assert draw_rows(labels, None, 3).tolist() == draw_rows(labels, 1000, 3).tolist() == list(range(100))


def test_seeds_have_splits_of_their_own() -> None:
    assert stratified_order(list("ab" * 50), 0).tolist() != stratified_order(list("ab" * 50), 1).tolist()


@pytest.mark.parametrize("count", [4, 9])
def test_at_least_one_row_is_split_off(count: int) -> None:
    stay, off = split_off(["a"] * count, 0.01, 0)
    assert (len(stay), len(off)) == (count - 1, 1)
