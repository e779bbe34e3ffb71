"""What the records have told so far about a study: enough to draw, rank and sum it up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.domain import HyperparameterValue, MetricRule, Report, TrialState
from sweep.ports import (
    AttemptBegun,
    AttemptOver,
    ModelKept,
    Record,
    StudyBegun,
    StudyOver,
    TrialOver,
)


@dataclass(slots=True)
class TrialMemory:
    """One trial.

    Attributes:
        reports: Evaluations by step.
        reached: How far it was trained at its last evaluation, in the study's fidelity unit.
        over: Its last record, once it is finished.
    """

    number: int
    hyperparameters: Mapping[str, HyperparameterValue] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    attempt: int = 0
    began_at: float = 0.0
    state: TrialState = TrialState.PENDING
    reports: dict[int, Report] = field(default_factory=dict)
    reached: float = 0.0
    over: TrialOver | None = None
    kept: ModelKept | None = None

    @property
    def history(self) -> list[Report]:
        """Evaluations in order of their steps."""
        return [self.reports[step] for step in sorted(self.reports)]

    @property
    def value(self) -> float | None:
        """Objective value of the finished trial, if it is a finite number."""
        value = self.over.value if self.over else None
        return value if value is not None and math.isfinite(value) else None


@dataclass(slots=True)
class StudyMemory:
    """A study, as its spool tells it.

    Attributes:
        session: ``RUNNING`` while a driver is at it, else how its last session ended.
    """

    begun: StudyBegun | None = None
    over: StudyOver | None = None
    session: str = "RUNNING"
    trials: dict[int, TrialMemory] = field(default_factory=dict)

    @property
    def rule(self) -> MetricRule:
        """The metric rule of the spec; accuracy where the spec does not say."""
        metric = dict(self.begun.spec.get("metric") or {}) if self.begun else {}
        return MetricRule(
            name=str(metric.get("name", "accuracy")),
            direction="minimize" if metric.get("direction") == "minimize" else "maximize",
        )

    def trial(self, number: int) -> TrialMemory:
        """A trial, known or new."""
        return self.trials.setdefault(number, TrialMemory(number))

    def learn(self, record: Record) -> None:
        """Take in one record; taking it in twice changes nothing."""
        match record:
            case StudyBegun():
                self.begun, self.over, self.session = record, None, "RUNNING"
                # Whatever the driver before left running runs no more.
                self._pause_what_runs()
            case StudyOver():
                self.over, self.session = record, record.state
            case AttemptBegun():
                trial = self.trial(record.trial_number)
                trial.hyperparameters, trial.settings = record.hyperparameters, record.settings
                trial.seed, trial.attempt = record.seed, max(trial.attempt, record.attempt)
                trial.began_at = trial.began_at or record.at
                if trial.over is None:
                    trial.state = TrialState.RUNNING
            case AttemptOver():
                trial = self.trial(record.trial_number)
                if trial.over is None and record.attempt >= trial.attempt:
                    trial.state = record.state
            case Report():
                trial = self.trial(record.trial_number)
                trial.reports.setdefault(record.step, record)
                trial.reached = max(trial.reached, record.fidelity)
            case TrialOver():
                trial = self.trial(record.trial_number)
                trial.over, trial.state = record, record.state
            case ModelKept():
                self.trial(record.trial_number).kept = record

    def driver_ended(self) -> None:
        """Nothing runs any more, whether or not a record said so."""
        if self.session == "RUNNING":
            self.session = "INTERRUPTED"
        self._pause_what_runs()

    def _pause_what_runs(self) -> None:
        for trial in self.trials.values():
            if trial.state is TrialState.RUNNING:
                trial.state = TrialState.PAUSED

    def forget_curves(self, number: int) -> None:
        """Drop the evaluations of a finished trial, but for the one that stands for it."""
        trial = self.trial(number)
        step = trial.over.step if trial.over else None
        trial.reports = {step: trial.reports[step]} if step is not None and step in trial.reports else {}

    def ranking(self) -> list[int]:
        """Complete trials, best first; the study's own last word where it has spoken."""
        if self.over is not None:
            return list(self.over.ranking)
        rule = self.rule
        complete = [
            (rule.rank_key(trial.value), trial.number)
            for trial in self.trials.values()
            if trial.state is TrialState.COMPLETE and trial.value is not None
        ]
        return [number for _, number in sorted(complete)]

    def order(self) -> list[int]:
        """Finished trials in order of their ranks: the ranking, then the others by how far they got, then by value.

        Those without a value come last.
        """
        ranking, rule = self.ranking(), self.rule
        others = []
        for number in self.trials.keys() - set(ranking):
            trial = self.trials[number]
            if trial.over is not None:
                value = trial.value
                key = (value is None, -trial.reached, 0.0 if value is None else rule.rank_key(value), number)
                others.append((key, number))
        return [*ranking, *(number for _, number in sorted(others))]
