"""Whether a model still has the scores it was recorded with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sweep.deployment.lineage import Lineage
from sweep.domain import whole_fit_metric

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


def _verifiable(lineage: Lineage, name: str) -> dict[str, float]:
    """Recorded scores that the model itself has, by split.

    With folds the validation score is the mean of other models; this one has a score on the rows it was trained on.
    """
    recorded = {split: metrics[name] for split, metrics in recorded_scores(lineage).items()}
    if lineage.data.get("folds"):
        del recorded["validation"]
        recorded["train"] = lineage.validation[whole_fit_metric(name)]
    return recorded


def check_scores(lineage: Lineage, evaluate: Callable[[str], Mapping[str, float]]) -> list[ScoreCheck]:
    """Re-evaluate a model on each split it has a record on.

    Args:
        lineage: Its origin.
        evaluate: Metrics on a split.
    """
    name = lineage.metric["name"]
    return [
        ScoreCheck(split=split, metric=name, recorded=recorded, now=evaluate(split)[name])
        for split, recorded in _verifiable(lineage, name).items()
    ]
