"""What the engine keeps a study with: time, history, what is asked meanwhile, checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from sweep.domain import Planned, Report, Setback, Spent, Trial, TrialState


class Clock(Protocol):
    """Time, so that tests and simulations can own it."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class StudyStore(Protocol):
    """The study's history and its sampler and pruner. One driver writes; each call is durable on return."""

    def ask(self, planned: Planned | None = None) -> Trial:
        """A new trial in state RUNNING, attempt 0.

        Args:
            planned: Its hyperparameters; None has them drawn, or is the baseline with the spec's defaults for trial 0.
        """
        ...

    def begin_attempt(self, trial_number: int) -> int:
        """Count one more attempt; returns its fencing number (1-based)."""
        ...

    def attempt_started(self, trial_number: int, worker: str) -> None:
        """A worker has begun the trial's newest attempt, now; said again, it is ignored."""
        ...

    def report(self, report: Report, value: float) -> None:
        """Store an evaluation. A step already stored is ignored.

        Args:
            report: The evaluation.
            value: Objective value up to here, by the metric rule.
        """
        ...

    def should_prune(self, trial_number: int) -> bool:
        """The pruner's verdict on the newest stored evaluation."""
        ...

    def pause(self, trial_number: int, setback: Setback | None = None) -> None:
        """Mark as PAUSED: unfinished, with nothing running; ``begin_attempt`` wakes it.

        Args:
            trial_number: The trial.
            setback: How its attempt ended, if it ended badly; kept with the trial, once for each attempt.
        """
        ...

    def tell(self, trial_number: int, state: TrialState, chosen: Report | None, error: str | None = None) -> None:
        """Finish a trial. ``chosen`` is the evaluation that stands for it, by the metric rule.

        Telling a finished trial again with the same state is ignored.

        Raises:
            StudyStoreError: If it is finished in another state.
        """
        ...

    def keep_test(self, trial_number: int, metrics: Mapping[str, float]) -> None:
        """Store the metrics of a finished trial on the test split."""
        ...

    @property
    def spent(self) -> Spent:
        """What the study has spent, as of the last :meth:`spend`."""
        ...

    def spend(self, spent: Spent) -> None:
        """Remember what the study has spent so far, over all its sessions."""
        ...

    def reports(self, trial_number: int) -> Sequence[Report]:
        """All stored evaluations of a trial, by step."""
        ...

    def trials(self) -> Sequence[Trial]:
        """All trials by number."""
        ...

    def close(self) -> None:
        """Let go of the store; idempotent."""
        ...


class Agenda(Protocol):
    """How many trials a study wants, and what the next new one trains."""

    def wanted(self, trials: Iterable[Trial]) -> int:
        """How many finished trials there shall be in all, as far as these let it be known."""
        ...

    def begin(self, store: StudyStore, trials: Iterable[Trial]) -> Trial | None:
        """Ask for the next trial; None while it depends on how those that run end."""
        ...


class CheckpointKeeper(Protocol):
    """The one owner of retention."""

    def newest(self, trial_number: int, before: int | None = None) -> str | None:
        """Folder of the newest intact resumable checkpoint of a trial, of a step below ``before``, or None."""
        ...

    def is_intact(self, trial_number: int, step: int) -> bool:
        """Whether the checkpoint of a step is what was written there; every file is read."""
        ...

    def keep(self, trial_number: int, resumable: set[int], weights: set[int]) -> None:
        """Keep the full checkpoints of steps ``resumable`` and the models of ``weights``; delete the rest."""
        ...
