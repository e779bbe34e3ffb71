"""Ending a run whose metric no longer gets better."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.domain import MetricRule, Report


def has_stalled(history: Sequence[Report], metric: MetricRule, patience: int | None, min_delta: float) -> bool:
    """Whether the newest evaluations brought nothing better; the same for a history, however often it was resumed.

    Args:
        history: Reports in order of their steps.
        metric: What is judged.
        patience: Evaluations to wait for something better (Prechelt, "Early Stopping - But When?", 1998); None waits
            for ever.
        min_delta: What is no more than this better is not better.
    """
    if patience is None:
        return False
    best: float | None = None
    waited = 0
    for report in history:
        value = report.metrics[metric.name]
        is_better = best is None or metric.sign * (value - best) > min_delta
        best, waited = (value, 0) if is_better else (best, waited + 1)
    return waited >= patience
