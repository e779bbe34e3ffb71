"""How much each hyperparameter matters, where enough trials can be compared."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from sweep.study_view import SearchedSetting, StudyView

FEWEST_TRIALS = 10
"""Below, chance rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """Shares that sum to 1.

    Attributes:
        shares: By hyperparameter.
        fidelity: Training after which the trials were compared, in the study's unit.
        trials: How many were.
    """

    shares: dict[str, float]
    fidelity: float
    trials: int


def importances(view: StudyView) -> Importances | None:
    """Importance by PED-ANOVA (Watanabe et al., arXiv:2304.10255), by Optuna.

    Trials are compared after equal training, at the highest rung that enough of them have reached: the scores of
    trials that were stopped earlier say less about their hyperparameters than about when they were stopped.

    Returns:
        None where fewer than ``FEWEST_TRIALS`` can be compared, or nothing tells them apart.
    """
    fidelity, scores = _comparable(view)
    if not scores:
        return None
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # imports scikit-learn: a second
    from optuna.study import StudyDirection

    space = {each.name: _distribution(each) for each in view.facts.space}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = StudyDirection.MAXIMIZE if view.facts.direction == "maximize" else StudyDirection.MINIMIZE
    study = optuna.create_study(direction=direction)
    for trial in view.trials:
        if trial.number not in scores:
            continue
        params = {each.name: _param(each, trial.hyperparameters.get(each.name)) for each in view.facts.space}
        try:
            study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=scores[trial.number]))
        except (ValueError, TypeError):
            continue  # trial 0 may lie outside of the space
    done = study.get_trials(deepcopy=False)
    if len(done) < FEWEST_TRIALS or len({trial.value for trial in done}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return Importances(shares=dict(shares), fidelity=fidelity, trials=len(done))


def _distribution(each: SearchedSetting) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if each.low is None or each.high is None:
        return CategoricalDistribution([str(choice) for choice in map(_plain, each.choices)])
    if each.kind == "int":
        return IntDistribution(int(each.low), int(each.high), log=each.log)
    return FloatDistribution(each.low, each.high, log=each.log)


def _param(each: SearchedSetting, value: Any) -> Any:
    return str(_plain(value)) if each.kind == "choice" else value


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _comparable(view: StudyView) -> tuple[float, dict[int, float]]:
    """The highest level with enough trials, and their scores there."""
    levels = [rung.fidelity for rung in view.rungs] or [view.facts.full_run]
    # A trial is worth its mean over all folds, not its last one.
    in_folds = view.facts.fidelity_unit == "folds"
    for level in reversed(levels):
        scores = {
            trial.number: trial.value if in_folds and trial.value is not None else point.value
            for trial in view.trials
            if (point := next((p for p in trial.curve if p.fidelity >= level * (1 - 1e-6)), None)) is not None
        }
        if len(scores) >= FEWEST_TRIALS:
            return level, scores
    return levels[-1], {}
