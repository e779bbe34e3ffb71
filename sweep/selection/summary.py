"""The result of a study in a few figures: the winner beside the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.domain import MetricRule, Trial, baselines_of, ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """What a person wants to know first.

    Attributes:
        best: The best complete trial, or None.
        baseline: Trial 0, which holds the default configuration, if it is complete; of a final, the run with it on
            the seed of the best.
        gain: By how much the best is better than the baseline, in the metric's own unit; >= 0.
    """

    best: Trial | None
    baseline: Trial | None
    gain: float | None


def summarise(trials: Sequence[Trial], rule: MetricRule) -> StudySummary:
    """Compare the best complete trial with the defaults."""
    order = ranked(trials, rule)
    best = order[0] if order else None
    baseline = baselines_of(order).get(best.seed_index) if best else None
    gain = None
    if best and baseline and best.value is not None and baseline.value is not None:
        gain = abs(best.value - baseline.value)
    return StudySummary(best=best, baseline=baseline, gain=gain)
