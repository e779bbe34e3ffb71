from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.data.masking import IGNORED, Masker
from objectives.data.streams import TokenStream, masked_spans, predicted_spans, stream_of

END = 0
DOCUMENTS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=6)


def _stream(documents: list[list[int]]) -> TokenStream:
    return stream_of([(tokens, [True] * len(tokens)) for tokens in documents], END)


def test_a_stream_has_a_separator_before_and_after_each_document() -> None:
    stream = _stream([[5, 6], [7]])
    assert stream.ids.tolist() == [END, 5, 6, END, 7, END]
    assert stream.separators.tolist() == [0, 3, 5]


@given(documents=DOCUMENTS, length=st.integers(2, 9), packed=st.booleans())
def test_each_token_is_predicted_exactly_once_whatever_the_length_and_the_packing(
    documents: list[list[int]], length: int, packed: bool
) -> None:
    stream = _stream(documents)
    spans = predicted_spans(stream, length, packed=packed)
    predicted = sorted(place for start, end in spans.tolist() for place in range(start + 1, end))
    assert predicted == list(range(1, len(stream)))
    assert all(2 <= end - start <= length for start, end in spans.tolist())


@given(documents=DOCUMENTS, length=st.integers(2, 9))
def test_no_block_crosses_documents_unless_they_are_packed(documents: list[list[int]], length: int) -> None:
    stream = _stream(documents)
    for start, end in predicted_spans(stream, length, packed=False).tolist():
        assert END not in stream.ids[start + 1 : end - 1]
    for start, end in masked_spans(stream, length, packed=False).tolist():
        assert END not in stream.ids[start:end]


@given(documents=DOCUMENTS, length=st.integers(1, 9), packed=st.booleans())
def test_each_token_of_a_document_is_in_one_block_to_mask(
    documents: list[list[int]], length: int, packed: bool
) -> None:
    stream = _stream(documents)
    places = [place for a, b in masked_spans(stream, length, packed=packed).tolist() for place in range(a, b)]
    assert len(set(places)) == len(places)
    assert [stream.ids[p] for p in places if stream.ids[p] != END] == [token for d in documents for token in d]


def test_packed_blocks_are_full_but_for_the_last() -> None:
    stream = _stream([[1] * 10, [2] * 10])
    assert np.diff(predicted_spans(stream, 8, packed=True)).ravel().tolist() == [8, 8, 8, 2]


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
