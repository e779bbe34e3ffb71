"""Intervals over the rows of a split hold what they promise, and paired tests find what is there."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from sweep.selection.bootstrap import Metric, bootstrap_interval, mcnemar, paired_difference


def share(right: NDArray[np.float64]) -> Metric:
    return lambda rows: float(right[rows].mean())


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_interval_is_scipys(method: str) -> None:
    values = np.random.default_rng(0).exponential(size=150)
    own = bootstrap_interval(share(values), len(values), resamples=20_000, method=method)  # type: ignore[arg-type]
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(1), vectorized=True
    ).confidence_interval
    assert own == pytest.approx(tuple(theirs), abs=0.01)


def test_bca_reaches_further_to_the_long_side_than_the_percentiles_do() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    bca, percentile = (
        bootstrap_interval(share(values), 60, method=method)
        for method in ("bca", "percentile")  # type: ignore[arg-type]
    )
    assert bca[1] > percentile[1]
    assert bca[0] > percentile[0]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    # Misses of 300 intervals at level 0.05: more than 38 come by chance with probability 1e-6, at a rate of 0.055.
    generator = np.random.default_rng(2)
    misses = 0
    for case in range(300):
        right = (generator.random(400) < 0.9).astype(float)
        low, high = bootstrap_interval(share(right), 400, resamples=400, seed=case)
        misses += not low <= 0.9 <= high
    assert 2 <= misses <= 38


def test_equal_rows_give_an_interval_without_width() -> None:
    assert bootstrap_interval(share(np.ones(50)), 50) == (1.0, 1.0)
    assert bootstrap_interval(share(np.ones(1)), 1) == (1.0, 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    right = (np.random.default_rng(3).random(100) < 0.8).astype(float)
    first, again, other = (bootstrap_interval(share(right), 100, resamples=99, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def answers(rows: int, first: float, second: float, seed: int) -> NDArray[np.float64]:
    """Right or wrong, [2 * rows]: the first model's rows, then the second's; hard rows are hard for both."""
    generator = np.random.default_rng(seed)
    ease = generator.random(rows)
    noise = 0.2 * generator.normal(size=(2, rows))
    return np.concatenate([(ease + noise[0] < first), (ease + noise[1] < second)]).astype(float)


def test_a_better_model_is_told_from_a_worse_one_on_the_same_rows() -> None:
    right = answers(1000, 0.9, 0.8, seed=4)
    found = paired_difference(share(right), 1000)
    assert found.mean == pytest.approx(right[:1000].mean() - right[1000:].mean())
    assert 0 < found.interval[0] < found.mean < found.interval[1]
    assert found.p_value == pytest.approx(1 / 2001)


def test_equal_models_are_told_apart_no_more_often_than_the_level_says() -> None:
    # More than 49 of 400 p-values below 0.05 come by chance with probability 1e-6.
    hits = sum(
        paired_difference(share(answers(100, 0.8, 0.8, seed=seed)), 100, resamples=199, seed=seed).p_value <= 0.05
        for seed in range(400)
    )
    assert 1 <= hits <= int(scipy.stats.binom.isf(1e-6, 400, 0.05))


def test_the_permutation_test_agrees_with_mcnemars_exact_one() -> None:
    right = answers(300, 0.85, 0.8, seed=5)
    first, second = right[:300] == 1, right[300:] == 1
    exact = mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))
    assert 0.01 < exact < 0.9
    assert paired_difference(share(right), 300, resamples=5000).p_value == pytest.approx(exact, abs=0.03)


def test_mcnemar_is_the_binomial_test_of_the_rows_that_one_alone_gets_right() -> None:
    assert mcnemar(10, 2) == pytest.approx(scipy.stats.binomtest(10, 12).pvalue)
    assert mcnemar(2, 10) == mcnemar(10, 2)
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1.0


def test_identical_answers_make_no_difference() -> None:
    right = np.tile((np.random.default_rng(6).random(200) < 0.7).astype(float), 2)
    found = paired_difference(share(right), 200, resamples=200)
    assert (found.mean, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_ten_thousand_rows_are_a_matter_of_seconds() -> None:
    right = answers(10_000, 0.9, 0.89, seed=7)
    began = time.process_time()
    paired_difference(share(right), 10_000)
    assert time.process_time() - began < 20
