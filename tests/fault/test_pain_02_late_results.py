"""A trial that was given up and comes back to life: its late result is kept as superseded, and changes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sweep.domain import AttemptEnd, Decision, Report, TrainRequest, TrialState
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import (
    AttemptLimits,
    Ended,
    Event,
    Reported,
    Started,
    Superseded,
    TrialOver,
)
from sweep.testing.executor import gone_within, is_alive
from sweep.testing.toy_objectives import LOADER
from tests.fault.local_study import LocalStudy

DEADLINE_SECONDS = 0.5


@dataclass
class CutOff:
    """A real executor whose word about attempt 1 of trial 0 does not get through while its process is frozen.

    The process is stopped after its first report, given up after a deadline as a worker that cannot be reached is,
    and woken when ``wake_at`` happens. Trial 1 goes on until the late report has come.
    """

    inner: LocalExecutor
    wake_at: type[Reported] | type[Ended]
    pid: int = 0
    stopped_at: float | None = None
    given_up: bool = False
    answers: list[tuple[int, int, Decision]] = field(default_factory=list)
    late: list[Event] = field(default_factory=list)
    held: list[Event] = field(default_factory=list)

    @property
    def free_slots(self) -> int:
        return self.inner.free_slots

    @property
    def slots(self) -> int:
        return self.inner.slots

    def start(self, request: TrainRequest, log: Path) -> None:
        self.inner.start(request, log)

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        found = list(self.inner.wait(min(timeout_seconds, 0.1)))
        for event in found:
            mine = event.report if isinstance(event, Reported) else event
            if (mine.trial_number, mine.attempt) == (0, 1):
                self.pid = event.pid if isinstance(event, Started) else self.pid
                if self.given_up:
                    self.late.append(event)
            elif mine.trial_number == 0 and isinstance(event, self.wake_at):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGCONT)
        if self.stopped_at is not None and not self.given_up and time.monotonic() - self.stopped_at > DEADLINE_SECONDS:
            self.given_up = True
            found.append(Ended(trial_number=0, attempt=1, end=AttemptEnd.LOST, detail="worker lost: silent"))
        found += self.held
        is_over = any(isinstance(event, Reported) for event in self.late)
        self.held = [event for event in found if isinstance(event, Ended) and event.trial_number == 1 and not is_over]
        return [event for event in found if event not in self.held]

    def decide(self, trial_number: int, attempt: int, decision: Decision) -> None:
        self.answers.append((trial_number, attempt, decision))
        self.inner.decide(trial_number, attempt, decision)
        if (trial_number, attempt) == (0, 1) and self.stopped_at is None:
            os.kill(self.pid, signal.SIGSTOP)
            self.stopped_at = time.monotonic()

    def settle(self) -> None:
        self.inner.settle()

    def leave(self, trial_number: int, attempt: int) -> None:
        self.inner.leave(trial_number, attempt)

    def kill(self, trial_number: int, attempt: int) -> None:
        self.inner.kill(trial_number, attempt)

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize("wake_at", [Reported, Ended], ids=["during the next attempt", "after the trial is finished"])
def test_pain_02_a_frozen_process_that_wakes_past_its_deadline_leaves_one_terminal_record(
    parent: WarmParent, tmp_path: Path, wake_at: type[Reported] | type[Ended]
) -> None:
    study = LocalStudy(tmp_path, parent, "budget.trials=2")
    executor = CutOff(LocalExecutor(2, parent, "toy", loader=LOADER), wake_at)
    study.executor = executor
    study.plans = {0: {"reports": 2, "sleep_seconds": 0.2}, 1: {"reports": 1}}
    assert study.run().state == "COMPLETE"
    assert executor.given_up
    assert any(isinstance(event, Reported) for event in executor.late), "it did wake and report"
    ends = [record for record in study.recorder.records if isinstance(record, TrialOver)]
    assert sorted((end.trial_number, end.state) for end in ends) == [(0, TrialState.COMPLETE), (1, TrialState.COMPLETE)]
    (superseded,) = [record for record in study.recorder.records if isinstance(record, Superseded)]
    assert (superseded.trial_number, superseded.attempt, superseded.step) == (0, 1, 2)
    assert (0, 1, Decision.STOP) in executor.answers, "who runs it is told to end"
    stored = [(r.trial_number, r.step, r.attempt) for r in study.recorder.records if isinstance(r, Report)]
    assert [entry for entry in stored if entry[0] == 0] == [(0, 1, 1), (0, 2, 2)]
    assert study.trials[0].attempt == 2
    assert gone_within(5, executor.pid)


def test_pain_02_a_process_frozen_past_its_deadline_cannot_come_back(parent: WarmParent, tmp_path: Path) -> None:
    """Where its supervisor can be reached, a frozen process is killed for certain before its trial goes on."""
    study = LocalStudy(
        tmp_path, parent, "budget.trials=1", "on.timeout.retries=1", limits=AttemptLimits(silence_seconds=1.0)
    )
    inner = study.executor
    assert isinstance(inner, LocalExecutor)
    executor = CutOff(inner, Ended)
    executor.given_up = True  # nobody but the watchdog gives it up
    study.executor = executor
    study.plans = {0: {"reports": 2}}
    assert study.run().state == "COMPLETE"
    assert not is_alive(executor.pid)
    (late,) = executor.late[-1:]
    assert isinstance(late, Ended)
    assert late.end is AttemptEnd.TIMEOUT
    assert [record.state for record in study.recorder.records if isinstance(record, TrialOver)] == [TrialState.COMPLETE]
    assert not [record for record in study.recorder.records if isinstance(record, Superseded)]
    assert [setback.end for setback in study.trials[0].setbacks] == [AttemptEnd.TIMEOUT]
