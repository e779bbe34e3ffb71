"""Whether a model still has the scores it was recorded with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sweep.deployment.lineage import Lineage

TOLERANCE = 1e-6
"""Scores are recorded in fp32 outside autocast, so that they come back on the same kind of machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCheck:
    """A recorded score beside the same score now."""

    split: str
    metric: str
    recorded: float
    now: float

    @property
    def reproduced(self) -> bool:
        """Whether they agree; NaN agrees with nothing."""
        return abs(self.now - self.recorded) <= TOLERANCE


def recorded_scores(lineage: Lineage) -> dict[str, Mapping[str, float]]:
    """Recorded metrics by split."""
    recorded = {"validation": lineage.validation, "test": lineage.test}
    return {split: metrics for split, metrics in recorded.items() if metrics}


def check_scores(lineage: Lineage, evaluate: Callable[[str], Mapping[str, float]]) -> list[ScoreCheck]:
    """Re-evaluate a model on each split it has a record on.

    Args:
        lineage: Its origin.
        evaluate: Metrics on a split.
    """
    name = lineage.metric["name"]
    return [
        ScoreCheck(split=split, metric=name, recorded=metrics[name], now=evaluate(split)[name])
        for split, metrics in recorded_scores(lineage).items()
    ]
