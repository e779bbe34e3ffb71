from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.data.augmentation import Augmentation, augmentation_of
from objectives.data.batching import TokenRows
from objectives.finetune.objective import FineTuning
from objectives.tasks.text_classification import Classification
from objectives.testing import tiny_file, tiny_model, tiny_rows, tiny_settings, tiny_tokenizer
from sweep.errors import UserError

START, END, MASK = 2, 3, 4


def _augmentation(delete: float = 0.0, swap: float = 0.0, mask: float = 0.0) -> Augmentation:
    return Augmentation(delete=delete, swap=swap, mask=mask, mask_id=MASK, special=(0, START, END))


def _rows(*lengths: int) -> TokenRows:
    ids = [np.array([START, *range(10, 10 + length), END], dtype=np.int32) for length in lengths]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    return TokenRows(ids=np.concatenate(ids), offsets=offsets, labels=np.arange(len(lengths)), suffix=1)


def _tokens(rows: TokenRows, row: int) -> list[int]:
    return list(map(int, rows.tokens(row, 10_000)))


def _altered(augmentation: Augmentation, length: int = 2000) -> list[int]:
    rows = augmentation.of(_rows(length), np.array([0]), seed=7, epoch=0)
    return _tokens(rows, 0)


def test_so_many_tokens_are_left_out_in_order() -> None:
    inner = _altered(_augmentation(delete=0.25))[1:-1]
    assert inner == sorted(inner)
    assert 0.7 < len(inner) / 2000 < 0.8  # wrong once in 10^6 seeds


def test_so_many_tokens_are_masked() -> None:
    inner = _altered(_augmentation(mask=0.25))[1:-1]
    assert 0.2 < inner.count(MASK) / 2000 < 0.3
    assert all(token in (MASK, 10 + place) for place, token in enumerate(inner))


def test_swapped_tokens_stay_in_the_row() -> None:
    inner = _altered(_augmentation(swap=0.1))[1:-1]
    assert sorted(inner) == list(range(10, 2010))
    assert 0.1 < np.mean(np.array(inner) != np.arange(10, 2010)) < 0.3


@given(st.integers(0, 30), st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 99))
def test_special_tokens_stay_and_a_text_keeps_a_token(
    length: int, delete: float, swap: float, mask: float, seed: int
) -> None:
    altered = _tokens(_augmentation(delete, swap, mask).of(_rows(length), np.array([0]), seed, 0), 0)
    assert (altered[0], altered[-1]) == (START, END)
    assert min(1, length) <= len(altered) - 2 <= length
    assert not {START, END, 0} & set(altered[1:-1])


def test_a_row_is_altered_alike_whatever_else_is_in_its_batch_and_anew_in_each_epoch() -> None:
    augmentation, rows = _augmentation(0.2, 0.2, 0.2), _rows(40, 40, 40)
    together = augmentation.of(rows, np.array([2, 0, 1]), seed=1, epoch=4)
    alone = augmentation.of(rows, np.array([1]), seed=1, epoch=4)
    assert _tokens(together, 2) == _tokens(alone, 0)
    assert together.labels.tolist() == [2, 0, 1]
    others = [(0, 1, 4), (1, 2, 4), (1, 1, 5)]  # another row, seed, epoch
    drawn = [_tokens(augmentation.of(rows, np.array([row]), seed, epoch), 0) for row, seed, epoch in others]
    assert all(tokens != _tokens(alone, 0) for tokens in drawn)


def test_the_rows_themselves_do_not_change() -> None:
    rows = _rows(40)
    before = rows.ids.copy()
    _augmentation(0.0, 0.5, 0.5).of(rows, np.array([0]), seed=1, epoch=0)
    assert np.array_equal(rows.ids, before)


def test_a_tokenizer_without_a_mask_masks_with_its_unknown_token(tmp_path: Path) -> None:
    tokenizer: Any = tiny_tokenizer(tmp_path)
    settings = {"augment_delete": 0.0, "augment_swap": 0.0, "augment_mask": 0.1}
    assert augmentation_of(settings, tokenizer).mask_id == tokenizer.unk_token_id
    tokenizer.unk_token = None
    with pytest.raises(UserError, match=r"augment_mask: 0.1, but the tokenizer has neither a mask nor"):
        augmentation_of(settings, tokenizer)


class Untouchable(Classification):
    """A task whose answers lie in the tokens."""

    augments = False


def test_augmentation_of_a_task_whose_answers_lie_in_the_tokens_is_refused(tmp_path: Path) -> None:
    settings = tiny_settings(tiny_model(tmp_path / "model"), tiny_file(tmp_path / "train.jsonl", tiny_rows(40)))
    searched = {**settings, "space": {"augment_swap": {"low": 0.0, "high": 0.2}}}
    with pytest.raises(UserError, match="augment_swap: the rows of this task cannot be altered"):
        FineTuning(Untouchable()).prepare(searched, tmp_path / "prepared")
