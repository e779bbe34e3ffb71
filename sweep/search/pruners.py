"""When a trial is stopped early, in terms of training done and never of time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import optuna
from optuna.pruners import BasePruner

from sweep.domain import Report, fold_metric
from sweep.spec.model import StudySpec

MEDIAN_STARTUP_TRIALS = 4
_LARGEST_SNAP = 0.1


def build_pruner(spec: StudySpec) -> BasePruner:
    """The spec's pruner; its steps are milli-fidelities (see :func:`milli_fidelity`)."""
    settings = spec.search.pruner
    if settings.name == "successive-halving" and (ladder := spec.ladder) is not None:
        # Rounded down: rung k must not lie above what round() makes of the k-th level.
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=max(1, math.floor(ladder.min_fidelity * 1000 + 1e-6)),
            reduction_factor=ladder.reduction_factor,
            min_early_stopping_rate=0,
        )
    if settings.name == "wilcoxon":
        with warnings.catch_warnings():
            # Its releases are pinned: an interface that changes is seen before it is used.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.pruners.WilcoxonPruner(p_threshold=spec.p_threshold, n_startup_steps=settings.startup_folds)
    if settings.name == "median":
        first = round(settings.first_rung * spec.max_fidelity * 1000)
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_STARTUP_TRIALS, n_warmup_steps=first)
    return optuna.pruners.NopPruner()


def compared_value(spec: StudySpec, report: Report, value: float) -> float:
    """What the pruner compares with other trials: the objective value up to here, or what the newest fold has alone.

    Args:
        spec: The study.
        report: The evaluation.
        value: Objective value up to it.
    """
    return report.metrics[fold_metric(spec.rule.name)] if spec.objective.data.folds else value


def milli_fidelity(report: Report, levels: Sequence[float]) -> int:
    """The step at which Optuna compares a report with those of other trials.

    Optimizer steps rarely fall on a level exactly, and by how much they miss depends on the batch size. A
    report within one optimizer step of a level therefore counts as that level.

    Args:
        report: The evaluation.
        levels: Fidelities to evaluate at.
    """
    one_step = report.fidelity / max(report.step, 1)
    level = min(levels, key=lambda level: abs(level - report.fidelity), default=report.fidelity)
    is_near = abs(level - report.fidelity) <= min(one_step * 1.001, level * _LARGEST_SNAP)
    return round((level if is_near else report.fidelity) * 1000)


def is_last(report: Report, end: float) -> bool:
    """Whether training is over: less than half an optimizer step is missing to ``end``."""
    return report.fidelity + 0.5 * report.fidelity / max(report.step, 1) >= end
