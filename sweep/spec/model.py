"""The study's spec, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from sweep.domain import FidelityUnit, HyperparameterValue, MetricRule, RungLadder
from sweep.layout import StudyLayout
from sweep.spec import fidelity, rules
from sweep.spec.references import Keys
from sweep.spec.resolved import plain, plain_data, plain_training, resolved
from sweep.spec.sections import (
    BudgetSpec,
    ConfirmSpec,
    DataSpec,
    LimitsSpec,
    MetricSpec,
    ObjectiveSpec,
    OnSpec,
    Part,
    PrunerSpec,
    ResourcesSpec,
    SamplerSpec,
    SearchSpec,
    TrackingSpec,
    TrainingSpec,
)
from sweep.spec.space import Choices, Distribution, FloatRange, bounds, listed, top, within
from sweep.spec.tasks import sheet_of

__all__ = [
    "BudgetSpec",
    "ConfirmSpec",
    "DataSpec",
    "LimitsSpec",
    "MetricSpec",
    "ObjectiveSpec",
    "OnSpec",
    "PrunerSpec",
    "ResourcesSpec",
    "SamplerSpec",
    "SearchSpec",
    "StudySpec",
    "TrackingSpec",
    "TrainingSpec",
]

ADAPTER_RATE = 5e-4
"""Of adapters, where the spec says none: about ten times that of full fine-tuning (Hu et al., arXiv:2106.09685)."""

_FEW_FOLDS = 5
_P_OF_FEW_FOLDS = 0.1
_P_OF_FOLDS = 0.035

_UNSET: Mapping[str, HyperparameterValue] = {
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "classifier_dropout": 0.1,
    "layer_drop": 0.0,
    "warmup_steps": 0,
}
"""What null comes nearest to, where that is not the top of a range."""


class StudySpec(Part):
    """One study: search space, objective, metric, budget.

    Attributes:
        confirm: The final that follows the search; None goes without.
        storage: Storage root; absolute once loaded.
        history: Optuna storage URL (``postgresql://…``); None is a journal file in the storage.
        keep: Models of the best trials that stay on disk and become LoggedModels (trial 0 stays too).
        references: Texts that were written with ``${NAME}`` in them, by their keys from the top.
    """

    study: Annotated[str, AfterValidator(rules.study_name)]
    objective: ObjectiveSpec
    search: SearchSpec
    metric: MetricSpec = Field(default_factory=MetricSpec)
    budget: BudgetSpec = Field(default_factory=BudgetSpec)
    confirm: ConfirmSpec | None = None
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    on: OnSpec = Field(default_factory=OnSpec)
    tracking: TrackingSpec = Field(default_factory=TrackingSpec)
    storage: str = "mlruns"
    history: Annotated[str | None, AfterValidator(rules.history_url)] = None
    keep: int = Field(default=3, ge=1)
    references: Mapping[Keys, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, data: Any) -> Any:
        """Fill in the task's own settings, the epochs where no length is given, and where trial 0 starts otherwise."""
        objective, search = (data.get(key) if isinstance(data, dict) else None for key in ("objective", "search"))
        if not isinstance(objective, ObjectiveSpec) or not isinstance(search, SearchSpec):
            return data
        training = objective.training
        filled: dict[str, Any] = {}
        usual = {
            name: within(search.space[name], setting.default) if name in search.space else setting.default
            for name, setting in sheet_of(objective.task).settings.items()
        }
        if usual.keys() - training.extra.keys():
            filled["extra"] = {**usual, **training.extra}
        if training.epochs is None and training.steps is None and "steps" not in search.space:
            filled["epochs"] = fidelity.DEFAULT_EPOCHS
        if training.method != "full" and "learning_rate" not in training.model_fields_set:
            filled["learning_rate"] = ADAPTER_RATE
        for name, distribution in search.space.items():
            if name in TrainingSpec.model_fields and not _is_written(training, name, distribution):
                usual = filled.get(name, getattr(training, name))
                filled[name] = within(distribution, _default(name, usual, distribution))
        if filled:
            objective = objective.model_copy(update={"training": training.model_copy(update=filled)})
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
    def length_unit(self) -> Literal["epochs", "steps"]:
        """Unit in which the spec says how long a training is."""
        in_steps = self.objective.training.steps is not None or "steps" in self.search.space
        return "steps" if in_steps else "epochs"

    @property
    def longest_run(self) -> float:
        """The longest training; where its length is searched, the top of the range or trial 0's, if longer."""
        training = self.objective.training
        full = float(training.steps or training.epochs or fidelity.DEFAULT_EPOCHS)
        if self.length_unit in self.search.space:
            return max(full, top(self.search.space[self.length_unit]))
        return full

    @property
    def fidelity_unit(self) -> FidelityUnit:
        """Unit in which training is measured and compared."""
        return "folds" if self.objective.data.folds else self.length_unit

    @property
    def max_fidelity(self) -> float:
        """A full run of the longest trial, in the fidelity unit."""
        return float(self.objective.data.folds or self.longest_run)

    @property
    def p_threshold(self) -> float:
        """p-value below which a trial is stopped, where trials are compared fold by fold.

        Up to twelve folds, noise alone stops fewer than one in ten of a study's better half by it, all looks together
        (``tests/benchmarks/fold_pruning.py``).
        """
        few = (self.objective.data.folds or 0) <= _FEW_FOLDS
        return self.search.pruner.p_threshold or (_P_OF_FEW_FOLDS if few else _P_OF_FOLDS)

    @property
    def ladder(self) -> RungLadder | None:
        """The rungs at which trials are compared, or None without successive halving."""
        pruner = self.search.pruner
        if pruner.name != "successive-halving":
            return None
        return fidelity.ladder_to(self.max_fidelity, pruner.first_rung, pruner.reduction_factor, self.fidelity_unit)

    @property
    def evaluate_at(self) -> tuple[float, ...]:
        """Fidelities to evaluate at: the rungs and every ``evaluate_every``, ascending, without near-doubles; or each
        fold."""
        if self.objective.data.folds:
            return tuple(float(fold) for fold in range(1, self.objective.data.folds + 1))
        unit = self.fidelity_unit
        every = fidelity.interval(self.max_fidelity, self.objective.training.evaluate_every, unit)
        return fidelity.evaluations(self.max_fidelity, every, self.ladder, whole=unit == "steps")

    def defaults(self) -> dict[str, HyperparameterValue]:
        """Hyperparameters of trial 0: the training value of each searched setting.

        A value that the spec writes stands as written, outside of the range or the choices too. For one that it leaves
        out (or writes as null, where a range has no null), the built-in value is taken, or the nearest that can be
        drawn.
        """
        training = self.objective.training
        return {
            name: _as_written(distribution, getattr(training, name, training.extra.get(name)))
            if _is_written(training, name, distribution)
            else within(distribution, None)
            for name, distribution in self.search.space.items()
        }

    def moved_defaults(self) -> list[str]:
        """Which built-in values cannot be drawn, and what trial 0 takes in their place, in words."""
        training, told = self.objective.training, []
        usual = {name: field.default for name, field in TrainingSpec.model_fields.items()}
        usual |= {name: setting.default for name, setting in sheet_of(self.objective.task).settings.items()}
        if training.method != "full":
            usual["learning_rate"] = ADAPTER_RATE
        if self.length_unit == "epochs":
            usual["epochs"] = fidelity.DEFAULT_EPOCHS
        for name, taken in self.defaults().items():
            distribution, default = self.search.space[name], usual.get(name)
            if default is not None and taken != default and taken == within(distribution, default):
                told.append(
                    f"trial 0 takes {name} {_shown(taken)}: the built-in default {_shown(default)} cannot be drawn. "
                    f"objective.training.{name} sets where it begins."
                )
        return told

    def with_rates(self, low: float, high: float) -> StudySpec:
        """This spec with a range of learning rates that was found for it."""
        space = {**self.search.space, "learning_rate": FloatRange(low=low, high=high, log=True)}
        search = self.search.model_copy(update={"space": space, "finds_rate": False})
        return self.model_copy(update={"search": search})

    def settings(
        self, hyperparameters: Mapping[str, HyperparameterValue], *, as_written: bool = False
    ) -> dict[str, Any]:
        """Training settings of a trial, JSON-able: the drawn values over the spec's.

        Args:
            hyperparameters: The drawn values.
            as_written: Whether ``${NAME}`` stays, as it does in whatever is stored.
        """
        return {
            **self._training(as_written),
            "trust_remote_code": self.objective.trust_remote_code,
            **{k: plain(v) for k, v in hyperparameters.items()},
        }

    def objective_settings(self, *, as_written: bool = False) -> dict[str, Any]:
        """All that ``Objective.prepare`` needs, JSON-able: task, model, data, training, space, metric, seed."""
        return {
            "task": self.objective.task,
            "model": self.objective.model,
            "trust_remote_code": self.objective.trust_remote_code,
            "data": plain_data(self.objective.data),
            "training": self._training(as_written),
            "space": {name: bounds(distribution) for name, distribution in self.search.space.items()},
            "metric": {
                "name": self.metric.name,
                "direction": self.metric.direction,
                "source": self.metric.source,
            },
            "seed": self.search.seed,
        }

    def _training(self, as_written: bool) -> dict[str, Any]:
        if as_written:
            return dict(self.resolved()["objective"]["training"])
        return plain_training(self.objective.training)

    def resolved(self) -> dict[str, Any]:
        """The spec with every default filled in, JSON-able; loads to an equal spec."""
        return resolved(self)


def _is_written(training: TrainingSpec, name: str, distribution: Distribution) -> bool:
    """Whether the spec gives trial 0 a value; null is one only among choices, and no length of a run."""
    is_set = name in training.model_fields_set or name in training.extra
    if getattr(training, name, training.extra.get(name)) is None:
        return is_set and isinstance(distribution, Choices) and name not in ("epochs", "steps")
    return is_set


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(listed(value))


def _as_written(distribution: Distribution, value: HyperparameterValue) -> HyperparameterValue:
    """``value``, with the distribution's type where it has it."""
    near = within(distribution, value)
    return near if near == value else value


def _default(name: str, value: HyperparameterValue, distribution: Distribution) -> HyperparameterValue:
    if value is not None or isinstance(distribution, Choices):
        return value
    if name in _UNSET:
        return _UNSET[name]
    # Nothing set means all rows, the whole run, no clipping: the top comes nearest.
    return distribution.high
