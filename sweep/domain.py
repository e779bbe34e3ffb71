"""The values that travel between the rooms: frozen, self-validating, free of any library."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

HyperparameterValue = float | int | str | bool | None | tuple[Any, ...]
"""A drawn value; a tuple stands for a list-valued choice such as ``keep_layers``."""

FidelityUnit = Literal["epochs", "steps", "folds"]
"""In what training is measured and compared."""

GAP = "train_validation_gap"
"""The metric that tells of overfitting, of objectives that report it: validation loss less training loss."""


class TrialState(StrEnum):
    """Where a trial is in its life."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    DIVERGED = "DIVERGED"
    OOM = "OOM"
    TIMEOUT = "TIMEOUT"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_finished(self) -> bool:
        """Whether nothing can happen to the trial any more; finished trials fill the budget."""
        return self not in UNFINISHED_STATES


UNFINISHED_STATES = frozenset({TrialState.PENDING, TrialState.RUNNING, TrialState.PAUSED})


class Decision(StrEnum):
    """What the driver answers to a report."""

    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"
    STOP = "STOP"


class AttemptEnd(StrEnum):
    """How one execution of a trial ended, as seen by the worker that supervised it."""

    FINISHED = "FINISHED"  # the objective trained to its end
    STOPPED = "STOPPED"  # it obeyed Decision.STOP
    PAUSED = "PAUSED"  # it obeyed Decision.PAUSE
    DIVERGED = "DIVERGED"  # loss or metric became NaN or infinite
    OOM = "OOM"  # out of memory, on the host or on the device
    TIMEOUT = "TIMEOUT"  # no sign of life, or no end, within the limits
    FAILED = "FAILED"  # the objective raised
    LOST = "LOST"  # the process, the worker or the node died
    PREEMPTED = "PREEMPTED"  # told to leave, it committed a checkpoint at its next step; no failure
    DISK_FULL = "DISK_FULL"  # its checkpoint could not be written; no failure of the trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """An attempt that ended badly without ending its trial.

    Attributes:
        attempt: Its fencing number.
        end: How it ended.
        step: Optimizer step of the trial's newest evaluation then; 0 before the first.
        reason: What happened, for people.
    """

    attempt: int
    end: AttemptEnd
    step: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One execution of a trial on a worker, as far as it was seen.

    Attributes:
        number: Its fencing number.
        worker: Name of the worker: host and slot.
        began_at: Unix seconds.
        ended_at: Unix seconds; None while it runs, or if its driver died with it.
        end: How it ended, where that is known.
    """

    number: int
    worker: str
    began_at: float
    ended_at: float | None = None
    end: AttemptEnd | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One attempt of a trial, as the driver hands it to a worker.

    Attributes:
        trial_number: 0-based key of the trial in its study.
        attempt: 1-based fencing number; a report of an older attempt is superseded.
        hyperparameters: The drawn values.
        seed: Derived from (study seed, trial number) by :func:`trial_seed`.
        start_from: Folder of a committed checkpoint to continue from, or None.
        until_step: Optimizer step to stop at, or None for the trial's own end.
    """

    trial_number: int
    attempt: int
    hyperparameters: Mapping[str, HyperparameterValue]
    seed: int
    start_from: str | None = None
    until_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an objective says at an evaluation, after its checkpoint is committed.

    Attributes:
        trial_number: 0-based key of the trial.
        attempt: Fencing number of the attempt that trained up to here.
        step: Optimizer steps done; >= 1, strictly increasing within a trial.
        fidelity: Training done, in the study's fidelity unit (epochs, steps or folds).
        metrics: Finite numbers by name; NaN and infinities never get here.
        checkpoint: Folder of the committed checkpoint of this step, or None if the objective keeps none.
        wall_seconds: Seconds of training and evaluation over all attempts.
        reported_at: Unix seconds; stays the same when a resumed attempt reports the step again.
    """

    trial_number: int
    attempt: int
    step: int
    fidelity: float
    metrics: Mapping[str, float]
    checkpoint: str | None
    wall_seconds: float
    reported_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """All that an objective needs to run one attempt, in its clean process.

    Attributes:
        assignment: The attempt.
        prepared: Folder written by the objective's ``prepare``.
        model: The spec's model reference.
        settings: Training settings, the drawn hyperparameters already laid over the defaults.
        metric: The rule that names the best evaluation.
        evaluate_at: Fidelities to evaluate at, ascending; the end of training is always one more.
        fidelity_unit: Unit of ``evaluate_at`` and of ``Report.fidelity``.
        checkpoints: The trial's folder for checkpoints (one sub-folder per step).
        artifacts: The trial's folder for files to show (confusion matrix …).
        cpus: Compute threads of each process; at least 1.
        gpus: Share of GPUs of each process; 0 means the CPU.
        micro_batch_split: Parts into which each micro-batch is cut, so that it fits into memory; the rows of an
            optimizer step stay the same. A power of two, at least 1.
        devices: Processes that train together, each on a device of its own; at least 1.
        strategy: How they do: with ``ddp`` each has the whole model, with ``fsdp`` a share of it.
        patience_seconds: Longest wait of one of them for another.
    """

    assignment: Assignment
    prepared: str
    model: str
    settings: Mapping[str, Any]
    metric: MetricRule
    evaluate_at: Sequence[float]
    fidelity_unit: FidelityUnit
    checkpoints: str
    artifacts: str
    cpus: int = 1
    gpus: float = 0.0
    micro_batch_split: int = 1
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    patience_seconds: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRule:
    """The one rule for "best", shared by pruner, ranking, retention and export.

    Attributes:
        name: Key in ``Report.metrics``.
        direction: ``minimize`` or ``maximize``.
        source: ``best`` takes the best evaluation so far, ``last`` the newest.
    """

    name: str
    direction: Literal["minimize", "maximize"]
    source: Literal["best", "last"] = "best"

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is: turns a difference into a gain."""
        return 1.0 if self.direction == "maximize" else -1.0

    def better(self, value: float, than: float) -> bool:
        """Whether ``value`` is strictly better; NaN is never better and always worse."""
        if math.isnan(value):
            return False
        if math.isnan(than):
            return True
        return value > than if self.direction == "maximize" else value < than

    def chosen(self, history: Sequence[Report]) -> Report | None:
        """The report that stands for a trial: the earliest of the best ones, or the last.

        Args:
            history: Reports in order of their steps.

        Returns:
            The report, or None for an empty history.
        """
        chosen: Report | None = None
        for report in history:
            is_better = chosen is None or self.better(report.metrics[self.name], chosen.metrics[self.name])
            if self.source == "last" or is_better:
                chosen = report
        return chosen

    def rank_key(self, value: float) -> float:
        """Sort key: smaller is better; NaN sorts last."""
        if math.isnan(value):
            return math.inf
        return -value if self.direction == "maximize" else value


@dataclass(frozen=True, slots=True, kw_only=True)
class RungLadder:
    """Fidelities at which trials are compared.

    Attributes:
        min_fidelity: First rung, in the study's fidelity unit; > 0.
        max_fidelity: A full run, in the same unit.
        reduction_factor: eta in Li et al., arXiv:1810.05934; > 1.

    Raises:
        ValueError: If the bounds are reversed or eta <= 1.
    """

    min_fidelity: float
    max_fidelity: float
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.min_fidelity <= self.max_fidelity:
            raise ValueError(f"first rung {self.min_fidelity} must be in (0, {self.max_fidelity}]")
        if self.reduction_factor <= 1:
            raise ValueError(f"reduction_factor {self.reduction_factor} must be above 1")

    @property
    def rungs(self) -> tuple[float, ...]:
        """The levels below the full run, ascending."""
        levels = []
        level = self.min_fidelity
        while level < self.max_fidelity * (1 - 1e-9):
            levels.append(level)
            level *= self.reduction_factor
        return tuple(levels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A trial whose hyperparameters are given instead of drawn.

    Attributes:
        hyperparameters: All of them, each from the search space.
        confirms: In a final, number of the searched study's trial that it trains anew.
        seed_index: In a final, 0-based index of the fresh seed; all finalists have the same seed at the same index.
    """

    hyperparameters: Mapping[str, HyperparameterValue]
    confirms: int | None = None
    seed_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration's whole life, as the study's history tells it.

    Attributes:
        number: 0-based key in the study.
        state: Where it is in its life.
        hyperparameters: The drawn values.
        attempt: Attempts begun so far.
        value: Objective value by the metric rule; None before the first evaluation.
        step: Optimizer step of the evaluation that ``value`` comes from.
        checkpoint: Folder of that evaluation's checkpoint, while it is kept.
        values: Objective value by milli-fidelity, as the pruner sees it.
        metrics: All metrics of that evaluation.
        error: Why it ended, for a trial that did not finish well.
        wall_seconds: Seconds of training and evaluation over all attempts.
        test: Metrics on the test split, once it was opened for this trial.
        started_at: Unix seconds of the ask.
        ended_at: Unix seconds of the tell.
        setbacks: Attempts that ended badly without ending it, in order.
        attempts: Attempts that a worker began, in order; an older history knows none.
        confirms: In a final, number of the searched study's trial that it trains anew.
        seed_index: In a final, index of the fresh seed.
    """

    number: int
    state: TrialState
    hyperparameters: Mapping[str, HyperparameterValue]
    attempt: int = 0
    value: float | None = None
    step: int | None = None
    checkpoint: str | None = None
    values: Mapping[int, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    wall_seconds: float = 0.0
    test: Mapping[str, float] | None = None
    started_at: float | None = None
    ended_at: float | None = None
    setbacks: tuple[Setback, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    confirms: int | None = None
    seed_index: int | None = None

    @property
    def name(self) -> str:
        """What people call it; a trial of a final goes by the one it trains anew."""
        if self.confirms is None or self.seed_index is None:
            return f"trial {self.number}"
        return f"trial {self.confirms} on seed {self.seed_index + 1}"

    @property
    def is_baseline(self) -> bool:
        """Whether it has the defaults: trial 0 of a search, and each run of a final that trains it anew."""
        return (self.number if self.confirms is None else self.confirms) == 0

    @property
    def micro_batch_split(self) -> int:
        """Parts into which its micro-batches are cut: twice as many after each time it ran out of memory."""
        return 1 << sum(setback.end is AttemptEnd.OOM for setback in self.setbacks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a study has spent so far, over all its sessions.

    Attributes:
        seconds: Wall seconds of its drivers.
        gpu_seconds: Wall seconds of its attempts times their share of GPUs.
    """

    seconds: float = 0.0
    gpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The driver that holds a study.

    Attributes:
        since: Unix seconds.
    """

    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).astimezone().isoformat(" ", "seconds")
        return f"process {self.pid} on {self.host} since {since}"


def fold_metric(name: str) -> str:
    """Key in ``Report.metrics`` of what one fold has of a metric; under ``name`` stands the mean over those so far."""
    return f"fold/{name}"


def whole_fit_metric(name: str) -> str:
    """Key in ``Report.metrics`` of what a model that was trained on all rows has of a metric on these same rows."""
    return f"train/{name}"


def trial_seed(study_seed: int, trial_number: int) -> int:
    """Seed of a trial: stable across machines, versions and resumes; in [0, 2**31)."""
    digest = hashlib.sha256(f"{study_seed}/{trial_number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def confirmation_seed(study_seed: int, seed_index: int) -> int:
    """Seed of all finalists at one index of a final; in [0, 2**31), and of no trial of the search but by chance."""
    digest = hashlib.sha256(f"{study_seed}/confirm/{seed_index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def seed_of(study_seed: int, trial: Trial) -> int:
    """Seed that a trial of a search or of a final is trained with."""
    if trial.seed_index is not None:
        return confirmation_seed(study_seed, trial.seed_index)
    return trial_seed(study_seed, trial.number)


def baselines_of(trials: Iterable[Trial]) -> dict[int | None, Trial]:
    """The trials with the defaults by seed index; that of a search has none."""
    return {trial.seed_index: trial for trial in trials if trial.is_baseline}


def ranked(trials: Sequence[Trial], rule: MetricRule) -> list[Trial]:
    """Complete trials, best first; ties go to the lower trial number."""
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    return sorted(complete, key=lambda t: (rule.rank_key(t.value if t.value is not None else math.nan), t.number))


def kept_numbers(trials: Iterable[Trial], rule: MetricRule, *, keep: int) -> set[int]:
    """Trials whose models stay: the best ones and the baseline."""
    return {trial.number for trial in ranked(list(trials), rule)[:keep]} | {0}
