"""The study's spec, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from sweep.domain import HyperparameterValue, MetricRule, RungLadder
from sweep.layout import StudyLayout
from sweep.spec import fidelity, rules
from sweep.spec.resolved import plain, plain_training, resolved
from sweep.spec.sections import (
    BudgetSpec,
    DataSpec,
    MetricSpec,
    ObjectiveSpec,
    Part,
    PrunerSpec,
    ResourcesSpec,
    SamplerSpec,
    SearchSpec,
    TrackingSpec,
    TrainingSpec,
)
from sweep.spec.space import Choices, Distribution, bounds, top, within

__all__ = [
    "BudgetSpec",
    "DataSpec",
    "MetricSpec",
    "ObjectiveSpec",
    "PrunerSpec",
    "ResourcesSpec",
    "SamplerSpec",
    "SearchSpec",
    "StudySpec",
    "TrackingSpec",
    "TrainingSpec",
]

DEFAULT_DROPOUT = 0.1


class StudySpec(Part):
    """One study: search space, objective, metric, budget.

    Attributes:
        storage: Storage root; absolute once loaded.
        history: Optuna storage URL (``postgresql://…``); None is a journal file in the storage.
        keep: Models of the best trials that stay on disk and become LoggedModels (trial 0 stays too).
    """

    study: Annotated[str, AfterValidator(rules.study_name)]
    objective: ObjectiveSpec
    search: SearchSpec
    metric: MetricSpec = Field(default_factory=MetricSpec)
    budget: BudgetSpec = Field(default_factory=BudgetSpec)
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)
    tracking: TrackingSpec = Field(default_factory=TrackingSpec)
    storage: str = "mlruns"
    history: Annotated[str | None, AfterValidator(rules.history_url)] = None
    keep: int = Field(default=3, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _full_run(cls, data: Any) -> Any:
        """Fill in the epochs where neither they nor steps are given or searched."""
        objective, search = (data.get(key) if isinstance(data, dict) else None for key in ("objective", "search"))
        if not isinstance(objective, ObjectiveSpec) or not isinstance(search, SearchSpec):
            return data
        training = objective.training
        if training.epochs is None and training.steps is None and "steps" not in search.space:
            training = training.model_copy(update={"epochs": fidelity.DEFAULT_EPOCHS})
            objective = objective.model_copy(update={"training": training})
        return {**data, "objective": objective}

    @property
    def layout(self) -> StudyLayout:
        """Where this study lies on disk."""
        return StudyLayout(Path(self.storage), self.study)

    @property
    def rule(self) -> MetricRule:
        """The one rule for "best"."""
        return MetricRule(name=self.metric.name, direction=self.metric.direction, source=self.metric.source)

    @property
    def fidelity_unit(self) -> Literal["epochs", "steps"]:
        """Unit in which training is measured and compared."""
        in_steps = self.objective.training.steps is not None or "steps" in self.search.space
        return "steps" if in_steps else "epochs"

    @property
    def max_fidelity(self) -> float:
        """A full run, in the fidelity unit; the top of the range where it is searched."""
        if self.fidelity_unit in self.search.space:
            return top(self.search.space[self.fidelity_unit])
        training = self.objective.training
        return float(training.steps or training.epochs or fidelity.DEFAULT_EPOCHS)

    @property
    def ladder(self) -> RungLadder | None:
        """The rungs at which trials are compared, or None without successive halving."""
        pruner = self.search.pruner
        if pruner.name != "successive-halving":
            return None
        return fidelity.ladder_to(self.max_fidelity, pruner.first_rung, pruner.reduction_factor, self.fidelity_unit)

    @property
    def evaluate_at(self) -> tuple[float, ...]:
        """Fidelities to evaluate at: the rungs and every ``evaluate_every``, ascending, without near-doubles."""
        unit = self.fidelity_unit
        every = fidelity.interval(self.max_fidelity, self.objective.training.evaluate_every, unit)
        return fidelity.evaluations(self.max_fidelity, every, self.ladder, whole=unit == "steps")

    def defaults(self) -> dict[str, HyperparameterValue]:
        """Hyperparameters of trial 0: the training value of each searched setting, or the nearest one drawn."""
        training = self.objective.training
        return {
            name: within(distribution, _default(name, getattr(training, name, training.extra.get(name)), distribution))
            for name, distribution in self.search.space.items()
        }

    def settings(self, hyperparameters: Mapping[str, HyperparameterValue]) -> dict[str, Any]:
        """Training settings of a trial, JSON-able: the drawn values over the spec's."""
        return {
            **plain_training(self.objective.training),
            **{k: plain(v) for k, v in hyperparameters.items()},
        }

    def objective_settings(self) -> dict[str, Any]:
        """All that ``Objective.prepare`` needs, JSON-able: task, model, data, training, space, metric, seed."""
        return {
            "task": self.objective.task,
            "model": self.objective.model,
            "data": plain(self.objective.data),
            "training": plain_training(self.objective.training),
            "space": {name: bounds(distribution) for name, distribution in self.search.space.items()},
            "metric": {
                "name": self.metric.name,
                "direction": self.metric.direction,
                "source": self.metric.source,
            },
            "seed": self.search.seed,
        }

    def resolved(self) -> dict[str, Any]:
        """The spec with every default filled in, JSON-able; loads to an equal spec."""
        return resolved(self)


def _default(name: str, value: HyperparameterValue, distribution: Distribution) -> HyperparameterValue:
    if value is not None or isinstance(distribution, Choices):
        return value
    if name == "dropout":
        return DEFAULT_DROPOUT
    # Nothing set means all rows, the whole run, no clipping: the top comes nearest.
    return distribution.high if name in TrainingSpec.model_fields else None
