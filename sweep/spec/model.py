"""The study's spec as frozen, strictly typed values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sweep.domain import HyperparameterValue, MetricRule, RungLadder
from sweep.layout import StudyLayout
from sweep.spec.space import Distribution


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


class DataSpec(_Part):
    """Where the rows come from and how they are split.

    Attributes:
        source: ``bundled:tweets`` or a Hub data set id; excludes the file keys.
        train: File or files (csv, tsv, jsonl, parquet), absolute once loaded.
        validation: Likewise; without it, ``validation_fraction`` of train is split off, stratified.
        test: Likewise; without it, ``test_fraction`` of train is split off first, stratified.
        text: Column of the text.
        label: Column of the label.
        split_seed: Seed of the splits.
    """

    source: str | None = None
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    text: str = "text"
    label: str = "label"
    validation_fraction: float = 0.1
    test_fraction: float = 0.0
    split_seed: int = 0


class TrainingSpec(_Part):
    """Training settings; each may be searched, these are the defaults of trial 0.

    Attributes:
        epochs: Passes over the training rows; excludes ``steps``.
        steps: Optimizer steps.
        batch_size: Rows per optimizer step on one device, before ``accumulation``.
        accumulation: Micro-batches per optimizer step.
        max_length: Tokens; longer rows are truncated.
        keep_layers: Encoder layers to keep, by index; None keeps all.
        freeze: Parts left untrained: ``embeddings``.
        train_rows: Rows to train on, drawn by the split seed, stratified; None takes all.
        precision: ``auto`` is bf16 where CPU or GPU has it in hardware, else fp32.
        dropout: Set by the model's own config fields; None leaves the model's values.
        warmup: Share of the steps with rising learning rate, in [0, 1).
        gradient_clipping: Largest gradient norm; None does not clip.
        evaluate_every: Fidelity between evaluations besides the rungs; None is one epoch (or 1/4 of ``steps``).
    """

    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 16
    evaluation_batch_size: int = 64
    accumulation: int = 1
    max_length: int = 128
    keep_layers: tuple[int, ...] | None = None
    freeze: tuple[Literal["embeddings"], ...] = ()
    train_rows: int | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    learning_rate: float = 5e-5
    dropout: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: Literal["linear", "constant"] = "linear"
    gradient_clipping: float | None = 1.0
    label_smoothing: float = 0.0
    evaluate_every: float | None = None


class ObjectiveSpec(_Part):
    """What is trained.

    Attributes:
        task: A task's name, or ``package.module:Class`` of a user's own objective.
        model: Hub id, local folder, ``bundled:minilm-l6`` or ``models:/name@alias``.
    """

    task: str = "text-classification"
    model: str
    data: DataSpec
    training: TrainingSpec = Field(default_factory=TrainingSpec)


class SamplerSpec(_Part):
    """How hyperparameters are drawn.

    Attributes:
        name: ``sobol`` is scrambled Sobol, indexed by trial number.
    """

    name: Literal["sobol", "tpe", "random", "gp"] = "sobol"


class PrunerSpec(_Part):
    """When a trial is stopped early.

    Attributes:
        first_rung: Share of the full run at which trials are first compared.
        reduction_factor: eta in Li et al., arXiv:1810.05934.
    """

    name: Literal["successive-halving", "median", "none"] = "successive-halving"
    first_rung: float = 0.0625
    reduction_factor: int = 3


class SearchSpec(_Part):
    """The search space and the way through it."""

    space: Mapping[str, Distribution] = Field(default_factory=dict)
    seed: int = 0
    sampler: SamplerSpec = Field(default_factory=SamplerSpec)
    pruner: PrunerSpec = Field(default_factory=PrunerSpec)


class MetricSpec(_Part):
    """What is optimised; YAML key ``from`` is ``source`` here."""

    name: str = "accuracy"
    direction: Literal["minimize", "maximize"] = "maximize"
    source: Literal["best", "last"] = Field(default="best", alias="from")


class BudgetSpec(_Part):
    """How much may be spent.

    Attributes:
        trials: Finished trials, exactly.
        hours: Wall hours of the driver; None is unlimited.
    """

    trials: int = 20
    hours: float | None = None


class ResourcesSpec(_Part):
    """What a trial gets.

    Attributes:
        cpus_per_trial: Logical CPUs; compute threads are its floor, at least 1.
        gpus_per_trial: GPUs; fractions share one.
        workers: Trials side by side; None is as many as fit.
        address: Ray cluster to join; None starts Ray here.
    """

    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    workers: int | None = None
    address: str | None = None


class TrackingSpec(_Part):
    """Where the record goes.

    Attributes:
        uri: MLflow tracking URI; None is ``sqlite:///<storage>/mlflow.db``.
    """

    uri: str | None = None


class StudySpec(_Part):
    """One study: search space, objective, metric, budget.

    Attributes:
        storage: Storage root; absolute once loaded.
        history: Optuna storage URL (``postgresql://…``); None is a journal file in the storage.
        keep: Models of the best trials that stay on disk and become LoggedModels (trial 0 stays too).
    """

    study: str
    objective: ObjectiveSpec
    search: SearchSpec
    metric: MetricSpec = Field(default_factory=MetricSpec)
    budget: BudgetSpec = Field(default_factory=BudgetSpec)
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)
    tracking: TrackingSpec = Field(default_factory=TrackingSpec)
    storage: str = "mlruns"
    history: str | None = None
    keep: int = 3

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
        return "steps" if self.objective.training.steps is not None else "epochs"

    @property
    def max_fidelity(self) -> float:
        """A full run, in the fidelity unit; the top of the range where it is searched."""
        raise NotImplementedError

    @property
    def ladder(self) -> RungLadder | None:
        """The rungs at which trials are compared, or None without successive halving."""
        raise NotImplementedError

    @property
    def evaluate_at(self) -> tuple[float, ...]:
        """Fidelities to evaluate at: the rungs and every ``evaluate_every``, ascending, without near-doubles."""
        raise NotImplementedError

    def defaults(self) -> dict[str, HyperparameterValue]:
        """Hyperparameters of trial 0: the training value of each searched setting."""
        raise NotImplementedError

    def settings(self, hyperparameters: Mapping[str, HyperparameterValue]) -> dict[str, Any]:
        """Training settings of a trial, JSON-able: the drawn values over the spec's."""
        raise NotImplementedError

    def objective_settings(self) -> dict[str, Any]:
        """All that ``Objective.prepare`` needs, JSON-able: task, model, data, training, space, metric, seed."""
        raise NotImplementedError

    def resolved(self) -> dict[str, Any]:
        """The spec with every default filled in, JSON-able; loads to an equal spec."""
        raise NotImplementedError
