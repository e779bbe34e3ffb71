"""How much each hyperparameter matters for the objective value."""

from __future__ import annotations

from collections.abc import Iterable

import optuna
from optuna.trial import create_trial

from sweep.domain import Trial
from sweep.search.space import SearchSpace
from sweep.spec.model import StudySpec

FEWEST_TRIALS = 8
"""Below it, the best tenth is a single trial, and its share of chance is too large to show."""


def importances(spec: StudySpec, trials: Iterable[Trial]) -> dict[str, float]:
    """Share of each hyperparameter by PED-ANOVA (Watanabe et al., arXiv:2304.10255); they add up to 1.

    Pruned trials count by their value when they were stopped: the method compares the best trials with all of them,
    and needs of the others only that they are worse.

    Args:
        spec: The study.
        trials: Its trials; those without a value, or outside of the space, are left out.

    Returns:
        Share by hyperparameter, the largest first; empty while there are too few trials, or none differs.
    """
    space = SearchSpace(spec.search.space)
    usable = [trial for trial in trials if trial.value is not None and space.contains(trial.hyperparameters)]
    if len(usable) < FEWEST_TRIALS or not space.distributions:
        return {}
    if len({trial.value for trial in usable}) < 2:
        return {}
    study = optuna.create_study(direction=spec.metric.direction)
    study.add_trials(
        create_trial(params=space.encode(trial.hyperparameters), distributions=space.optuna, value=trial.value)
        for trial in usable
    )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    total = sum(found.values())
    if total <= 0:
        return {}
    return {name: share / total for name, share in sorted(found.items(), key=lambda item: (-item[1], item[0]))}
