"""The judge: from the finalists' scores on fresh seeds to the verdict.

How it decides, and with what error:

- **Best** is the best mean over the fresh seeds, never the search score. Where runs are missing, finalists are ranked
  by the effects of the two-way additive model (finalist + seed, least squares), so that nobody wins by lacking a hard
  seed; with all runs these are the plain means. Dropped finalists cannot win.
- **Significant**: each finalist's paired differences to the baseline are tested one-sided, and the p-values corrected
  by Holm (1979) for the number of finalists, dropped ones included. The winner is the one of many that did best, so
  its own uncorrected p-value would be too good; the correction bounds the probability of any false claim by the
  level, whoever is chosen and for whatever reason. Dunnett's pooled test (1955) has more power, but calls twice as
  many false winners as it should where one configuration is less stable than the others, as they are in fine-tuning.
  The two-sided interval of the gain, which people read beside it, must lie above 0 as well: with one finalist that
  asks more than the test.
- **Tied** are the finalists that the best does not beat: one-sided paired tests, times their number less one
  (Bonferroni; as Hsu's comparisons with the best, 1984). The truly best is among them with probability
  ``1 - level`` at least. The baseline is tied unless the best beats it significantly in the sense above.
- **Winner** is the best, unless one that is tied with it is clearly cheaper to deploy and close to it: see
  :func:`sweep.selection.preference.preferred`.

``tests/benchmarks/verdict_simulation.py`` measures these errors and the power.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sweep.domain import MetricRule
from sweep.selection.paired import PairedTest, holm, mean_interval, paired_test
from sweep.selection.preference import preferred
from sweep.selection.sentence import sentence_of
from sweep.selection.verdict import Finalist, Gain, Verdict


def judge(finalists: Sequence[Finalist], rule: MetricRule, *, seeds: int | None = None, level: float = 0.05) -> Verdict:
    """Judge a final.

    Args:
        finalists: The baseline and its rivals, with their scores.
        rule: Gives name and direction of the metric.
        seeds: Fresh seeds that were planned; default: as many as there are scores of.
        level: Bound on the probability of a false claim; in (0, 1).

    Raises:
        ValueError: If there is no finalist, a label or the baseline occurs twice, or the level is out of range.
    """
    _check(finalists, level)
    sign = rule.sign
    effects = _effects(finalists, sign)
    order = sorted(range(len(finalists)), key=lambda i: _place(finalists[i], effects[i]))
    baseline = next((one for one in finalists if one.kind == "baseline"), None)
    gains = _gains(finalists, baseline, sign, level)
    judged = []
    for rank, i in enumerate(order, 1):
        judged.append(_described(finalists[i], gains.get(finalists[i].label), rank, sign, level))
    tied, winner = _chosen(judged, sign, level)
    gain = winner.gain if winner else None
    planned = seeds if seeds is not None else len({index for one in finalists for index in one.scores})
    verdict = Verdict(
        metric=rule.name,
        direction=rule.direction,
        level=level,
        seeds=planned,
        finalists=tuple(judged),
        winner=winner.label if winner else None,
        tied=tuple(one.label for one in tied),
        is_significant=_is_significant(winner, level),
        probability_winner_beats_baseline=gain.probability_better if gain else None,
        sentence="",
    )
    return replace(verdict, sentence=sentence_of(verdict))


def _versus(first: Finalist, second: Finalist, sign: float, level: float) -> PairedTest | None:
    """Paired test of "the first is better" over the seeds that both have; None without one.

    Args:
        first: Said to be better.
        second: Said to be worse.
        sign: 1 where more is better, -1 where less is.
        level: Of the interval.
    """
    shared = sorted(first.scores.keys() & second.scores.keys())
    if not shared:
        return None
    ones, others = ([one.scores[index] for index in shared] for one in (first, second))
    return paired_test(
        [sign * (one - other) for one, other in zip(ones, others, strict=True)],
        level=level,
        scale=max(abs(score) for score in (*ones, *others)),
        constant=len(set(ones)) == 1 and len(set(others)) == 1,
    )


def _check(finalists: Sequence[Finalist], level: float) -> None:
    if not finalists:
        raise ValueError("no finalists; a final needs at least one")
    if not 0 < level < 1:
        raise ValueError(f"level {level} must be in (0, 1)")
    labels = [one.label for one in finalists]
    if len(set(labels)) < len(labels):
        raise ValueError(f"finalists {labels}: each label must be unique")
    if sum(one.kind == "baseline" for one in finalists) > 1:
        raise ValueError(f"finalists {labels}: more than one is the baseline")


def _effects(finalists: Sequence[Finalist], sign: float) -> list[float | None]:
    """Mean of each finalist, more is better; adjusted for the seeds it lacks."""
    scored = [i for i, one in enumerate(finalists) if one.scores]
    if len({frozenset(finalists[i].scores) for i in scored}) <= 1:
        return [sign * math.fsum(one.scores.values()) / len(one.scores) if one.scores else None for one in finalists]
    import numpy as np

    seeds = sorted({index for one in finalists for index in one.scores})
    cells = [(row, index, finalists[i].scores[index]) for row, i in enumerate(scored) for index in finalists[i].scores]
    design = np.zeros((len(cells) + 1, len(scored) + len(seeds)))
    values = np.zeros(len(cells) + 1)
    for cell, (row, index, score) in enumerate(cells):
        design[cell, row] = design[cell, len(scored) + seeds.index(index)] = 1
        values[cell] = sign * score
    # One more equation makes the seeds' effects sum to zero.
    design[-1, len(scored) :] = 1
    solution = np.linalg.lstsq(design, values, rcond=None)[0]
    effects: list[float | None] = [None] * len(finalists)
    for row, i in enumerate(scored):
        effects[i] = float(solution[row])
    return effects


def _place(finalist: Finalist, effect: float | None) -> tuple[bool, bool, float, bool, float]:
    """Sort key: can win, has a score, mean, the baseline before its equals, spread."""
    spread = _spread(finalist.scores)
    # Means that differ by rounding alone are equal.
    mean = 0.0 if effect is None else -float(f"{effect:.12g}")
    return (
        finalist.dropped_after is not None,
        effect is None,
        mean,
        finalist.kind != "baseline",
        math.inf if spread is None else spread,
    )


def _spread(scores: Mapping[int, float]) -> float | None:
    """Sample standard deviation; None below two scores."""
    values = list(scores.values())
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (len(values) - 1))


def _gains(finalists: Sequence[Finalist], baseline: Finalist | None, sign: float, level: float) -> dict[str, Gain]:
    if baseline is None:
        return {}
    rivals = [one for one in finalists if one.kind != "baseline"]
    tests = [_versus(one, baseline, sign, level) for one in rivals]
    # Who has no p-value counts all the same: it was in the race for the best.
    corrected = holm([1.0 if test is None or test.p_value is None else test.p_value for test in tests])
    return {
        one.label: Gain(
            mean=test.mean,
            interval=test.interval,
            p_value=_as_claimed(test, p_value),
            probability_better=test.probability_better,
        )
        for one, test, p_value in zip(rivals, tests, corrected, strict=True)
        if test is not None
    }


def _as_claimed(test: PairedTest, corrected: float) -> float | None:
    """The p-value beside an interval that does not lie above 0 is the two-sided one, where that is larger."""
    if test.p_value is None or test.interval is None:
        return None
    return corrected if test.interval[0] > 0 else max(corrected, min(1.0, 2 * test.p_value))


def _described(finalist: Finalist, gain: Gain | None, rank: int, sign: float, level: float) -> Finalist:
    scores = list(finalist.scores.values())
    mean = math.fsum(scores) / len(scores) if scores else None
    optimism = None
    if finalist.kind != "baseline" and mean is not None and finalist.search_score is not None:
        optimism = sign * (finalist.search_score - mean)
    return replace(
        finalist,
        mean=mean,
        spread=_spread(finalist.scores),
        interval=mean_interval(scores, level),
        rank=rank,
        gain=gain,
        optimism=optimism,
    )


def _chosen(judged: Sequence[Finalist], sign: float, level: float) -> tuple[list[Finalist], Finalist | None]:
    """The tied set and the winner, of finalists in the order of their ranks."""
    able = [one for one in judged if one.scores and one.dropped_after is None]
    if not able:
        return [], None
    best, *others = able
    tied, close = [best], [best]
    for one in others:
        test = _versus(best, one, sign, level)
        if test is not None and test.p_value is not None and _is_beaten(best, one, test.p_value, len(judged), level):
            continue
        tied.append(one)
        is_close = test is not None and test.error is not None and test.mean <= test.error
        # Thrift must not cost the claim.
        if is_close and _is_significant(one, level) >= _is_significant(best, level):
            close.append(one)
    return tied, preferred(close)


def _is_beaten(best: Finalist, other: Finalist, p_value: float, count: int, level: float) -> bool:
    if other.kind == "baseline":
        return _is_significant(best, level)
    return p_value * (count - 1) <= level


def _is_significant(finalist: Finalist | None, level: float) -> bool:
    gain = finalist.gain if finalist else None
    if gain is None or gain.p_value is None or gain.interval is None:
        return False
    return gain.p_value <= level and gain.interval[0] > 0
