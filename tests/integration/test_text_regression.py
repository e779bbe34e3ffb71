"""Scores of texts are learnt, and scored as scipy scores them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from objectives.tasks.text_regression import Examination, Regression
from sweep.errors import InvalidDataError
from tests.task_studies import score_rows, small_study, trained, under_test


def test_scores_are_learnt_in_their_own_unit(tmp_path: Path) -> None:
    metrics = trained(
        small_study(tmp_path, "text-regression", score_rows(200), epochs=8, evaluate_every=8, accumulation=1)
    )
    assert metrics["spearman"] > 0.8
    assert metrics["rmse"] < 100.0  # always the mean would be about 140 off


def test_scores_are_ranked_as_scipy_ranks_them() -> None:
    draw = np.random.default_rng(0)
    truth, given = draw.integers(0, 5, 50).astype(float), draw.normal(size=50)
    found = Examination(truth=truth, given=given, spread=2.0).metrics
    assert found["spearman"] == pytest.approx(spearmanr(truth, given).statistic)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((truth - given) ** 2)))


@pytest.mark.parametrize("cell", ["much", True, float("inf"), [1]])
def test_a_score_that_is_no_number_is_told_with_its_row(cell: Any) -> None:
    with pytest.raises(InvalidDataError, match="row 2: the score is"):
        Regression().clean({"text": ["a", "b"], "score": ["1.5", cell]}, "here")


def test_scores_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    rows = [{"text": f"menu {random.Random(i).random()}", "score": 3} for i in range(20)]
    with pytest.raises(InvalidDataError, match="all 20 rows have the one score 3"):
        under_test(small_study(tmp_path, "text-regression", rows)).prepared()
