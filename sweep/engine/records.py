"""What the engine tells the recorder of a trial's life."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweep.domain import Report, Trial, TrialState
from sweep.ports import AttemptBegun, AttemptOver, Clock, Recorder, Superseded, TrialOver
from sweep.spec.model import StudySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecords:
    """Makes records of trials; each may be made again after a crash, since records are idempotent.

    Attributes:
        log_of: A trial's log file.
        artifacts_of: A trial's folder of files to show.
    """

    spec: StudySpec
    recorder: Recorder
    clock: Clock
    log_of: Callable[[int], Path]
    artifacts_of: Callable[[int], Path]

    def attempt_begun(self, trial: Trial, attempt: int, seed: int) -> None:
        """A trial begins, or begins again."""
        self.recorder.record(
            AttemptBegun(
                trial_number=trial.number,
                attempt=attempt,
                hyperparameters=trial.hyperparameters,
                settings=self.spec.settings(trial.hyperparameters, as_written=True),
                seed=seed,
                at=self.clock.now(),
                micro_batch_split=trial.micro_batch_split,
                confirms=trial.confirms,
                seed_index=trial.seed_index,
            )
        )

    def attempt_over(self, trial_number: int, attempt: int, reason: str) -> None:
        """An attempt is over, its trial is not."""
        self.recorder.record(
            AttemptOver(
                trial_number=trial_number,
                attempt=attempt,
                state=TrialState.PAUSED,
                reason=reason,
                at=self.clock.now(),
            )
        )

    def superseded(self, report: Report) -> None:
        """A report came after its attempt was given up."""
        self.recorder.record(
            Superseded(
                trial_number=report.trial_number,
                attempt=report.attempt,
                step=report.step,
                metrics=report.metrics,
                at=self.clock.now(),
            )
        )

    def trial_over(self, trial: Trial) -> None:
        """A trial is finished."""
        self.recorder.record(
            TrialOver(
                trial_number=trial.number,
                state=trial.state,
                value=trial.value,
                step=trial.step,
                error=trial.error,
                artifacts=str(self.artifacts_of(trial.number)),
                log=str(self.log_of(trial.number)),
                at=trial.ended_at or self.clock.now(),
            )
        )
