"""What a tracker is told, record by record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sweep.domain import HyperparameterValue, Report, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyBegun:
    """First record of a driver's session on a study; repeated on resume.

    Attributes:
        spec: The resolved spec, JSON-able.
        data: Summary returned by ``Objective.prepare``.
        environment: Versions of packages, Python, machine.
    """

    study: str
    spec: Mapping[str, Any]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBegun:
    """A trial begins, or begins again.

    Attributes:
        micro_batch_split: Parts into which its micro-batches are cut; above 1 after it ran out of memory.
        confirms: In a final, number of the searched study's trial that it trains anew.
        seed_index: In a final, index of the fresh seed.
    """

    trial_number: int
    attempt: int
    hyperparameters: Mapping[str, HyperparameterValue]
    settings: Mapping[str, Any]
    seed: int
    at: float
    micro_batch_split: int = 1
    confirms: int | None = None
    seed_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOver:
    """An attempt ended without ending its trial (lost, paused)."""

    trial_number: int
    attempt: int
    state: TrialState
    reason: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A report that came after its attempt had been given up; what the other attempts reported stands."""

    trial_number: int
    attempt: int
    step: int
    metrics: Mapping[str, float]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOver:
    """A trial is finished.

    Attributes:
        value: Objective value by the metric rule, if it has one.
        step: Step of that evaluation.
        artifacts: Folder of files to show, or None.
        log: The trial's log file.
    """

    trial_number: int
    state: TrialState
    value: float | None
    step: int | None
    error: str | None
    artifacts: str | None
    log: str | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKept:
    """A checkpoint that stays: becomes a LoggedModel.

    Attributes:
        folder: A folder transformers can load (weights, tokenizer, config, card), or an adapter in their place.
        metrics: Validation metrics at ``step``.
        test: Metrics on the test split, if opened.
    """

    trial_number: int
    step: int
    folder: str
    metrics: Mapping[str, float]
    test: Mapping[str, float] | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFiles:
    """Files of the study as a whole, such as its report: they become artifacts of its run.

    Attributes:
        folder: Where they lie; those that are there at delivery are taken.
        name: Their folder among the artifacts.
    """

    folder: str
    name: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReached:
    """The finalists were confirmed and judged.

    Attributes:
        verdict: As in the study's ``verdict.json``.
    """

    verdict: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOver:
    """Last record of a driver's session.

    Attributes:
        state: ``COMPLETE`` when the budget is spent, ``PAUSED`` when it can go on, ``FAILED``.
        ranking: Trial numbers of complete trials, best first.
        counts: Trials by state.
    """

    state: str
    ranking: Sequence[int]
    counts: Mapping[str, int]
    at: float


Record = (
    StudyBegun
    | AttemptBegun
    | AttemptOver
    | Report
    | Superseded
    | TrialOver
    | ModelKept
    | VerdictReached
    | StudyFiles
    | StudyOver
)


class Recorder(Protocol):
    """Takes the record people look at. Never blocks on a server, never decides."""

    def record(self, record: Record) -> None:
        """Make the record durable; delivery happens elsewhere. Records are idempotent."""
        ...

    def close(self, timeout_seconds: float) -> int:
        """Wait, bounded, for delivery.

        Returns:
            How many records are still undelivered.
        """
        ...
