from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.data.masking import IGNORED, Masker
from objectives.data.streams import Documents, Offsets, block_offsets, stream_parts

END = 0
DOCUMENTS = st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=6)


def _stream(documents: list[list[int]]) -> tuple[np.ndarray, Offsets]:
    parts = stream_parts(documents, END)
    return np.concatenate(parts), np.concatenate([[0], np.cumsum([len(part) for part in parts])])


def test_a_stream_has_a_separator_before_and_after_each_document() -> None:
    ids, offsets = _stream([[5, 6], [7]])
    assert ids.tolist() == [END, 5, 6, END, 7, END]
    assert offsets.tolist() == [0, 4, 6]


@given(documents=DOCUMENTS, size=st.integers(1, 9), packed=st.booleans(), free=st.booleans())
def test_each_token_and_separator_is_in_one_block_whatever_the_size_and_the_packing(
    documents: list[list[int]], size: int, packed: bool, free: bool
) -> None:
    ids, offsets = _stream(documents)
    blocks = block_offsets(offsets, size, packed=packed, separator_is_free=free)
    assert (blocks[0], blocks[-1]) == (1, len(ids))
    lengths = np.diff(blocks)
    assert lengths.min() >= 1
    assert (lengths - free * (ids[blocks[1:] - 1] == END)).max() <= size


@given(documents=DOCUMENTS, size=st.integers(1, 9), free=st.booleans())
def test_no_block_crosses_documents_unless_they_are_packed(documents: list[list[int]], size: int, free: bool) -> None:
    ids, offsets = _stream(documents)
    blocks = block_offsets(offsets, size, packed=False, separator_is_free=free)
    for start, end in itertools.pairwise(blocks.tolist()):
        assert END not in ids[start : end - 1]


@given(documents=DOCUMENTS, size=st.integers(1, 9), packed=st.booleans())
def test_the_document_of_each_token_is_known(documents: list[list[int]], size: int, packed: bool) -> None:
    _ids, offsets = _stream(documents)
    blocks = block_offsets(offsets, size, packed=packed)
    found = Documents.of(offsets, blocks)
    places = [np.arange(length) for length in np.diff(blocks)]
    known = np.concatenate([found.at(block, places[block]) for block in range(len(places))])
    assert known.tolist() == [d for d, tokens in enumerate(documents) for _ in [*tokens, END]]
    assert found.count(np.diff(blocks)) == len(documents)


def test_packed_blocks_are_full_but_for_the_last() -> None:
    _, offsets = _stream([[1] * 10, [2] * 10])
    assert np.diff(block_offsets(offsets, 8, packed=True)).tolist() == [8, 8, 6]
    assert np.diff(block_offsets(offsets, 10, packed=False, separator_is_free=True)).tolist() == [11, 11]


MASKER = Masker(mask_id=4, ordinary=np.arange(10, 100), special=frozenset(range(5)))


def _row(length: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(10, 100, length)
    ids[0] = ids[-1] = 2
    begins = np.random.default_rng(1).random(length) < 0.5
    begins[0] = begins[1] = begins[-1] = True
    return ids, begins


def test_fifteen_percent_are_chosen_and_four_fifths_of_them_hidden() -> None:
    ids, begins = _row(20_000)
    hidden, labels = MASKER.mask(ids, begins, (1, 2, 3))
    chosen = labels != IGNORED
    assert chosen.sum() == round(0.15 * 19_998)
    assert np.array_equal(labels[chosen], ids[chosen])
    assert np.array_equal(hidden[~chosen], ids[~chosen])
    shares = [(hidden == 4)[chosen].mean(), (hidden == ids)[chosen].mean()]
    # Standard errors are 0.007 and 0.006; a random token is the same one in 90 times.
    assert shares == pytest.approx([0.8, 0.1], abs=0.035)


def test_special_tokens_are_never_chosen_and_one_token_always_is() -> None:
    for seed in range(50):
        _, labels = MASKER.mask(np.array([2, 50, 3]), np.array([True, True, True]), (seed,))
        assert labels.tolist() == [IGNORED, 50, IGNORED]


def test_masks_depend_on_seed_epoch_and_row_alone() -> None:
    ids, begins = _row()
    first, again = MASKER.mask(ids, begins, (7, 0, 3)), MASKER.mask(ids, begins, (7, 0, 3))
    assert np.array_equal(first[0], again[0])
    for other in ((8, 0, 3), (7, 1, 3), (7, 0, 4)):
        assert not np.array_equal(first[1], MASKER.mask(ids, begins, other)[1])


def test_whole_words_are_chosen_whole() -> None:
    ids, begins = _row()
    masker = Masker(mask_id=4, ordinary=MASKER.ordinary, special=MASKER.special, whole_words=True)
    _, labels = masker.mask(ids, begins, (5,))
    words = np.cumsum(begins)
    chosen = labels != IGNORED
    assert all(chosen[(words == word) & (ids >= 5)].all() for word in np.unique(words[chosen]))
    assert 0.12 < chosen.mean() <= 0.15
    _, single = MASKER.mask(ids, begins, (5,))
    assert not all((single != IGNORED)[(words == w) & (ids >= 5)].all() for w in np.unique(words[single != IGNORED]))


def test_a_row_without_an_ordinary_token_stays_as_it_is() -> None:
    hidden, labels = MASKER.mask(np.array([2, 3]), np.array([True, True]), (0,))
    assert hidden.tolist() == [2, 3]
    assert set(labels.tolist()) == {IGNORED}
