"""Two configurations over the same seeds: the paired t test, and what replaces it where its variance says nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float]

_EQUAL = 1e-9
"""Differences closer than this share of the scores' size are equal: they differ by rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """What paired scores say of "the first is better than the second".

    Attributes:
        mean: Mean difference; positive when the first is better.
        error: Standard error of the mean; None below two pairs.
        interval: Two-sided t interval of the mean; None below two pairs.
        p_value: One-sided, of "the first is not better"; None below two pairs.
        probability_better: Posterior probability that the mean difference is positive; None below two pairs.
    """

    mean: float
    error: float | None
    interval: Interval | None
    p_value: float | None
    probability_better: float | None


def paired_test(differences: Sequence[float], *, level: float, scale: float, constant: bool = False) -> PairedTest:
    """Test whether the mean of paired differences is positive.

    The paired t test (Student 1908): exact for normal differences, whatever the variances of the two and however
    strongly a seed moves both. The posterior is the one under the reference prior, a t distribution around the mean
    (Box and Tiao 1973, section 2.4), so that it equals one minus the p-value.

    Scores that move in steps, as accuracy does, can give differences of which most are equal; their variance is then
    no measure of chance, and the p-value is at least that of the exact sign test (Arbuthnott 1710; Gibbons and
    Chakraborti 2011, section 5.4). Where both configurations give one score each, whatever the seed, it is that of
    the exact permutation test instead: 1 / (2n choose n).

    Args:
        differences: First minus second, in the direction in which more is better; at least one.
        level: The interval holds the true mean with probability ``1 - level``.
        scale: Largest absolute score; tells rounding from a difference.
        constant: Whether each configuration has the same score at every seed.
    """
    from scipy.special import stdtr, stdtrit

    count = len(differences)
    mean = math.fsum(differences) / count
    if abs(mean) <= _EQUAL * scale:
        mean = 0.0
    if count < 2:
        return PairedTest(mean=mean, error=None, interval=None, p_value=None, probability_better=None)
    error = math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / (count - 1) / count)
    if error <= _EQUAL * scale:
        error = 0.0
    reach = error * float(stdtrit(count - 1, 1 - level / 2))
    ratio = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
    below = float(stdtr(count - 1, -abs(ratio))) if math.isfinite(ratio) else 0.0
    if constant and mean:
        below = 1 / math.comb(2 * count, count)
    elif _mostly_equal(differences, scale):
        below = max(below, _sign_test([math.copysign(1.0, mean) * one for one in differences], scale))
    # The half that lies against the sign of the mean.
    against = min(below, 0.5)
    return PairedTest(
        mean=mean,
        error=error,
        interval=(mean - reach, mean + reach),
        p_value=below if mean > 0 else 1 - against,
        probability_better=1 - against if mean > 0 else against,
    )


def _mostly_equal(differences: Sequence[float], scale: float) -> bool:
    step = _EQUAL * scale
    commonest = Counter(round(one / step) if step else 0 for one in differences).most_common(1)[0][1]
    return 2 * commonest > len(differences)


def _sign_test(differences: Sequence[float], scale: float) -> float:
    """One-sided p-value of so many positive differences; those of zero say nothing."""
    positive = sum(one > _EQUAL * scale for one in differences)
    count = positive + sum(one < -_EQUAL * scale for one in differences)
    return sum(math.comb(count, hits) for hits in range(positive, count + 1)) / float(2**count)


def mean_interval(scores: Sequence[float], level: float) -> Interval | None:
    """Two-sided t interval of the mean of independent scores; None below two."""
    from scipy.special import stdtrit

    count = len(scores)
    if count < 2:
        return None
    mean = math.fsum(scores) / count
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in scores) / (count - 1))
    reach = spread / math.sqrt(count) * float(stdtrit(count - 1, 1 - level / 2))
    return mean - reach, mean + reach


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, so that no true hypothesis is rejected with more than the level.

    Holm, "A simple sequentially rejective multiple test procedure" (1979); holds under any dependence.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p_values[i]))
        corrected[i] = largest
    return corrected
