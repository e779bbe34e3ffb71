"""How far chance in the rows of a split reaches: bootstrap intervals, paired tests of two models on the same rows.

The training seed is held fixed here: these say how well a model, as it is, does on rows like these. What another seed
would have given is the judge's question (:mod:`sweep.selection.judging`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

Metric = Callable[["Rows"], float]
"""A finite metric of the rows at these indices, any of them several times."""

RESAMPLES = 2000
_JACKKNIFE_GROUPS = 200


def bootstrap_interval(
    metric: Metric,
    rows: int,
    *,
    level: float = 0.05,
    resamples: int = RESAMPLES,
    seed: int = 0,
    method: Literal["bca", "percentile"] = "bca",
) -> tuple[float, float]:
    """Two-sided interval of a metric: the rows are drawn anew, with replacement.

    ``percentile`` takes the quantiles of the resampled metric; ``bca`` corrects them for bias and for an error that
    grows with the metric (Efron, "Better bootstrap confidence intervals", 1987; Efron and Tibshirani 1993, chapter
    14). Its acceleration comes from a jackknife that leaves out groups of rows, at most 200 (chapter 11).

    A metric that no draw changes, such as the accuracy of a model without a mistake, gets an interval without width:
    the rows hold no mistake to draw.

    Args:
        metric: Of indices below ``rows``.
        rows: How many there are; at least 1.
        level: The interval misses the true value with about this probability.
        resamples: Draws of all rows.
        seed: Of the draws.
        method: See above.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    drawn = np.array([metric(generator.integers(rows, size=rows)) for _ in range(resamples)])
    tails = np.array([level / 2, 1 - level / 2])
    if method == "bca" and rows > 1 and drawn.min() < drawn.max():
        tails = _corrected(tails, drawn, metric, rows, generator)
    low, high = np.quantile(drawn, tails)
    return float(low), float(high)


def _corrected(
    tails: NDArray[np.float64], drawn: NDArray[np.float64], metric: Metric, rows: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """The quantiles that BCa reads in place of ``tails``."""
    import numpy as np
    from scipy.special import ndtr, ndtri

    own = metric(np.arange(rows))
    # Half of the ties: metrics move in steps.
    share = (np.count_nonzero(drawn < own) + 0.5 * np.count_nonzero(drawn == own)) / len(drawn)
    bias = ndtri(min(max(share, 0.5 / len(drawn)), 1 - 0.5 / len(drawn)))
    order = generator.permutation(rows)
    groups = [order[start :: min(rows, _JACKKNIFE_GROUPS)] for start in range(min(rows, _JACKKNIFE_GROUPS))]
    without = np.array([metric(np.setdiff1d(order, group, assume_unique=True)) for group in groups])
    off = without.mean() - without
    spread = float((off**2).sum())
    acceleration = float((off**3).sum()) / (6 * spread**1.5) if spread else 0.0
    reach = bias + ndtri(tails)
    return np.asarray(ndtr(bias + reach / (1 - acceleration * reach)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two models differ on the same rows.

    Attributes:
        mean: Metric of the first minus metric of the second, as it is: positive is higher, not better.
        interval: Paired bootstrap interval of it.
        p_value: Two-sided p-value of "it makes no difference which of the two answers".
        method: ``permutation``, or ``mcnemar`` where it is exact.
    """

    mean: float
    interval: tuple[float, float]
    p_value: float
    method: Literal["permutation", "mcnemar"]


def paired_difference(
    metric: Metric, rows: int, *, level: float = 0.05, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Compare two models by a metric over the same rows.

    The interval draws rows with replacement, each with the answers of both (Efron and Tibshirani 1993, chapter 8;
    Koehn 2004). The p-value comes from approximate randomization: on each row, the two answers are swapped or not by a
    fair coin, which changes nothing but chance if the models are equal (Noreen 1989; Yeh 2000). The observed order
    counts as one of the draws, so that the p-value is valid for any number of them (Phipson and Smyth 2010).

    Args:
        metric: Of indices below ``2 * rows``: row ``i`` as the first model answers it, and ``rows + i`` as the second.
        rows: How many there are; at least 1.
        level: Of the interval.
        resamples: Draws for the interval, and swaps for the p-value.
        seed: Of the draws.
    """
    import numpy as np

    def difference(first: Rows, second: Rows) -> float:
        return metric(first) - metric(second)

    every = np.arange(rows)
    found = difference(every, every + rows)
    interval = bootstrap_interval(
        lambda drawn: difference(drawn, drawn + rows), rows, level=level, resamples=resamples, seed=seed
    )
    generator = np.random.default_rng((seed, 1))
    # What rounding alone tells apart is equal.
    least = abs(found) - 1e-12 * max(1.0, abs(metric(every)))
    extreme = 0
    for _ in range(resamples):
        swapped = generator.integers(2, size=rows) * rows
        extreme += abs(difference(every + swapped, every + rows - swapped)) >= least
    return Difference(mean=found, interval=interval, p_value=(1 + extreme) / (1 + resamples), method="permutation")


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value of McNemar's test: which of two models is right more often on the same rows.

    Under equality, a row that one of them alone gets right is as likely the first's as the second's, so their number is
    binomial (McNemar 1947; exact form in Dietterich 1998, section 3.1).

    Args:
        only_first: Rows that the first alone gets right.
        only_second: Rows that the second alone gets right.
    """
    from scipy.special import bdtr

    count, least = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * float(bdtr(least, count, 0.5))) if count else 1.0


def is_share_of_right(score: NDArray[np.float64], value: float) -> bool:
    """Whether a metric of this value is the mean of scores that are 1 for right and 0 for wrong."""
    import numpy as np

    return bool(np.isin(score, (0.0, 1.0)).all()) and math.isclose(float(score.mean()), value, abs_tol=1e-12)
