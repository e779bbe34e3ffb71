"""What the engine shows while it runs: snapshots and single happenings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sweep.domain import Report, Setback, Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTrial:
    """A trial on a worker now.

    Attributes:
        name: What people call it.
        step: Optimizer steps done, as far as is known.
        total_steps: Steps of its full run; 0 before the first sign of life.
        loss: Training loss of late.
        value: Objective value so far.
        since: Monotonic seconds when the attempt began.
    """

    number: int
    name: str
    attempt: int
    worker: str = ""
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    value: float | None = None
    since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySnapshot:
    """The study at one moment.

    Attributes:
        counts: Trials by state.
        budget: Finished trials wanted.
        best: The leading complete trial.
        baseline: Objective value of trial 0 so far (the defaults).
        stopping: Whether no further trial will be started.
        is_final: Whether these are the trials of a final.
    """

    counts: Mapping[str, int]
    budget: int
    running: tuple[RunningTrial, ...]
    best: Trial | None
    baseline: float | None
    elapsed_seconds: float
    stopping: bool
    is_final: bool = False

    @property
    def finished(self) -> int:
        """Trials that are finished."""
        return sum(count for state, count in self.counts.items() if TrialState(state).is_finished)


class Observer(Protocol):
    """Watches a study; must be quick and must not raise."""

    def reported(self, trial: Trial, report: Report) -> None:
        """An evaluation was stored; the trial has the objective value up to it."""
        ...

    def attempt_lost(self, trial: Trial, setback: Setback) -> None:
        """An attempt ended badly; its trial goes on, or ends right after."""
        ...

    def trial_over(self, trial: Trial, snapshot: StudySnapshot) -> None:
        """A trial is finished."""
        ...

    def tick(self, snapshot: StudySnapshot) -> None:
        """Called after every batch of events, and at least twice a second."""
        ...
