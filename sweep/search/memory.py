"""The study in memory, where hyperparameters are drawn and trials compared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from sweep.domain import HyperparameterValue, Report, TrialState
from sweep.search.lives import Evaluation, Life, optuna_state
from sweep.search.pruners import build_pruner, compared_value, is_last, milli_fidelity
from sweep.search.samplers import StudySampler
from sweep.search.space import SearchSpace
from sweep.spec.model import StudySpec


class SearchMemory:
    """What sampler and pruner see of a study. It holds nothing that the stored history does not hold.

    Args:
        spec: The study.
        space: Its search space.
    """

    def __init__(self, spec: StudySpec, space: SearchSpace) -> None:
        self._spec = spec
        self._space = space
        self._levels = (*spec.evaluate_at, spec.max_fidelity)
        self._sampler = StudySampler(spec.search.sampler.name, spec.search.seed, space)
        self._storage = InMemoryStorage()
        # The only study of this storage, so its trial ids are trial numbers.
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=spec.study,
            direction=spec.metric.direction,
            sampler=self._sampler,
            pruner=build_pruner(spec),
        )

    def draw(self) -> dict[str, HyperparameterValue]:
        """Begin the next trial with new hyperparameters.

        Raises:
            ValueError: If the search space differs from the one of earlier trials.
        """
        hyperparameters = self._space.decode(self._study.ask(fixed_distributions=self._space.optuna).params)
        self._sampler.remember(hyperparameters)
        return hyperparameters

    def adopt(self, life: Life) -> None:
        """Begin the next trial with the hyperparameters of a life, and whatever it has seen already."""
        self._sampler.remember(life.hyperparameters)
        evaluations = list(life.evaluations.values())
        intermediate = {} if life.state is TrialState.DIVERGED else evaluations
        template = frozen_trial(
            self._space,
            self._space.encode(self._space.nearest(life.hyperparameters)),
            started_at=life.started_at,
            state=self._seen_state(life),
            values=self.told_values(life, life.state, life.chosen_step),
            intermediate={e.milli_fidelity: e.value for e in intermediate},
            system_attrs={key: value for e in evaluations for key, value in e.rungs.items()},
        )
        self._storage.create_new_trial(self._study._study_id, template)

    def evaluate(self, life: Life, report: Report, value: float) -> Evaluation:
        """Compare an evaluation with those of the other trials."""
        milli = milli_fidelity(report, self._levels)
        value = compared_value(self._spec, report, value)
        self._storage.set_trial_intermediate_value(life.number, milli, value)
        known = set(self._storage.get_trial(life.number).system_attrs)
        verdict = self._study.pruner.prune(self._study, self._storage.get_trial(life.number))
        attrs = self._storage.get_trial(life.number).system_attrs
        end = life.hyperparameters.get(self._spec.fidelity_unit)
        if not isinstance(end, int | float):
            end = self._spec.max_fidelity
        return Evaluation(
            report=report,
            value=value,
            milli_fidelity=milli,
            # The baseline runs to its end: what the study gained is measured against it.
            prune=bool(verdict) and life.number > 0 and not is_last(report, end),
            rungs={key: attrs[key] for key in attrs if key not in known},
        )

    def finish(self, life: Life) -> None:
        """Let the sampler learn from a trial that has ended."""
        if life.state is TrialState.DIVERGED:
            self._storage.get_trial(life.number).intermediate_values = {}
        values = self.told_values(life, life.state, life.chosen_step)
        self._storage.set_trial_state_values(life.number, self._seen_state(life), values)

    def told_values(self, life: Life, state: TrialState, step: int | None) -> list[float] | None:
        """The objective value as Optuna holds it: a pruned trial has its last one."""
        if state is TrialState.COMPLETE and step in life.evaluations:
            return [life.evaluations[step].report.metrics[self._spec.rule.name]]
        if not state.is_finished or life.newest is None:
            return None
        if optuna_state(state, self._spec) is OptunaState.PRUNED:
            # The newest fold alone is no estimate of the mean.
            in_folds = self._spec.objective.data.folds is not None
            return [life.newest.report.metrics[self._spec.rule.name] if in_folds else life.newest.value]
        return None

    def _seen_state(self, life: Life) -> OptunaState:
        if not life.state.is_finished:
            return OptunaState.RUNNING
        if len(self._space.nearest(life.hyperparameters)) < len(self._space.distributions):
            return OptunaState.FAIL  # defaults outside of the choices teach nothing about the space
        return optuna_state(life.state, self._spec)


def frozen_trial(
    space: SearchSpace,
    params: Mapping[str, Any],
    *,
    started_at: float | None,
    state: OptunaState = OptunaState.RUNNING,
    values: list[float] | None = None,
    user_attrs: Mapping[str, Any] | None = None,
    system_attrs: Mapping[str, Any] | None = None,
    intermediate: Mapping[int, float] | None = None,
) -> FrozenTrial:
    """A trial for ``create_new_trial``, which gives it its number and id."""
    # Not create_trial(): that refuses defaults which lie off a grid.
    started = datetime.fromtimestamp(started_at) if started_at is not None else None
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=None,
        values=values,
        datetime_start=started,
        datetime_complete=started if state.is_finished() else None,
        params=dict(params),
        distributions={name: space.optuna[name] for name in params},
        user_attrs=dict(user_attrs or {}),
        system_attrs=dict(system_attrs or {}),
        intermediate_values=dict(intermediate or {}),
    )
