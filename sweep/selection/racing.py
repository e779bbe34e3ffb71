"""Racing: finalists that are clearly behind need no more seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweep.domain import MetricRule
from sweep.selection.verdict import Finalist


def clearly_behind(
    finalists: Sequence[Finalist], rule: MetricRule, *, seeds: int, level: float = 0.05
) -> tuple[str, ...]:
    """Labels of the finalists to drop after a complete round of seeds; never the baseline, which all are paired with.

    As in the races of Maron and Moore (1994) and irace (López-Ibáñez et al. 2016): blocks are seeds, and whoever is
    significantly worse than the leader leaves. The test is one-sided, on the difference of two means, with the
    residual variance of the two-way additive model (finalist + seed) pooled over all finalists in the race, as two or
    three seeds alone say too little of each. Its level is divided by the number of rivals and of rounds after which
    one can be dropped, so that over the whole race the truly best finalist is dropped with probability ``level`` at
    most, for noise of one variance; where one finalist is four times as noisy as the others, with 8 % at level 0.05.

    Racing cannot make a false winner: whoever stays is tested against the baseline on all its seeds with the same
    correction for the number of finalists as without racing, and the dropped cannot win. A wrong drop costs power.

    Args:
        finalists: All of the final, with their scores so far; those with ``dropped_after`` set are out already.
        rule: Gives the direction of the metric.
        seeds: Seeds that the final is planned with.
        level: Bound on the probability of dropping the truly best.

    Returns:
        Labels, in the order given; empty before the second round, after the last, and where seeds make no difference
        at all, as nothing then says how far chance reaches. Seeds at which a finalist of the race has no score are
        left out of the comparison; a finalist without any score after two rounds is behind.
    """
    rounds = len({index for one in finalists for index in one.scores})
    if not 2 <= rounds < seeds:
        return ()
    racing = [one for one in finalists if one.dropped_after is None]
    failed = {one.label for one in racing if not one.scores}
    behind = failed | _behind([one for one in racing if one.scores], rule, level / _looks(len(finalists), seeds))
    return tuple(one.label for one in racing if one.label in behind and one.kind != "baseline")


def _looks(finalists: int, seeds: int) -> int:
    """How often the truly best could be dropped: by each rival, after each round but the first and the last."""
    return max(1, finalists - 1) * (seeds - 2)


def _behind(racing: Sequence[Finalist], rule: MetricRule, level: float) -> set[str]:
    from scipy.special import stdtrit

    shared = set.intersection(*(set(one.scores) for one in racing)) if racing else set[int]()
    freedom = (len(racing) - 1) * (len(shared) - 1)
    if freedom < 1:
        return set()
    rows = [[rule.sign * one.scores[index] for index in sorted(shared)] for one in racing]
    means = [math.fsum(row) / len(row) for row in rows]
    middle = math.fsum(means) / len(means)
    columns = [math.fsum(column) / len(column) - middle for column in zip(*rows, strict=True)]
    residuals = [
        score - mean - effect
        for row, mean in zip(rows, means, strict=True)
        for score, effect in zip(row, columns, strict=True)
    ]
    error = math.sqrt(2 * math.fsum(one**2 for one in residuals) / freedom / len(shared))
    # Rounding leaves residuals where there are none.
    if error <= 1e-9 * max(abs(score) for row in rows for score in row):
        return set()
    reach = error * float(stdtrit(freedom, 1 - level))
    return {one.label for one, mean in zip(racing, means, strict=True) if max(means) - mean > reach}
