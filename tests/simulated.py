"""A study on scripted curves in virtual time, with the real study store, driven by one driver after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweep.domain import Assignment, AttemptEnd, HyperparameterValue, TrainRequest
from sweep.engine.control import StopRequest
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.engine.requests import Inbox
from sweep.execution.simulated import Fate, SimulatedExecutor, VirtualClock
from sweep.ports import AttemptBegun, CheckpointKeeper, Ended, Event, Reported, TrialOver
from sweep.search import OptunaStore
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from sweep.testing.doubles import MemoryKeeper, MemoryRecorder, SilentObserver

SPEC = """
study: simulated
objective:
  model: bundled:minilm-l6
  data: bundled:tweets
  training: {epochs: 4}
search:
  learning_rate: 1e-6..1e-2 log
  dropout: 0..0.5
metric: {name: accuracy, from: best}
budget: {trials: 20}
storage: .
"""
WRITES = {"ask", "begin_attempt", "report", "pause", "tell", "record"}


def spec_in(folder: Path, *overrides: str, text: str = SPEC) -> StudySpec:
    return parse_spec(text, place="study.yaml", folder=folder, overrides=overrides)


def curve(hyperparameters: Mapping[str, HyperparameterValue], seed: int, fidelity: float) -> Mapping[str, float]:
    rate, dropout = hyperparameters["learning_rate"], hyperparameters["dropout"]
    assert isinstance(rate, float)
    assert isinstance(dropout, float)
    top = 0.95 - 0.05 * (math.log10(rate) + 4) ** 2 - 0.1 * dropout
    return {"accuracy": top * (1 - math.exp(-fidelity)), "loss": 1 - top}


class DriverDied(BaseException):
    """Stands for SIGKILL: nothing of the driver catches it."""


@dataclass
class Mortal:
    """Passes calls on to a store or a recorder; each write costs lives, one before and one after it."""

    inner: Any
    lose_life: Callable[[], None]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in WRITES:
            return found

        def write(*arguments: Any) -> Any:
            self.lose_life()
            result = found(*arguments)
            self.lose_life()
            return result

        return write


class ScriptedExecutor(SimulatedExecutor):
    """Says of an end what the study's script says of it, and keeps the requests."""

    script: Study

    def start(self, request: TrainRequest, log: Path) -> None:
        self.script.requests.append(request)
        super().start(request, log)

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        events = super().wait(timeout_seconds)
        return [self.script.retold(event) for event in events] + self.script.late(events)


class Study:
    """One driver's session after another on the same study."""

    def __init__(self, folder: Path, *overrides: str, slots: int = 2, text: str = SPEC) -> None:
        self.spec = spec_in(folder, *overrides, text=text)
        self.slots = slots
        self.recorder = MemoryRecorder()
        self.observer = SilentObserver()
        self.clock = VirtualClock()
        self.store: OptunaStore | None = None
        self.requests: list[TrainRequest] = []
        self.curve = curve
        self.detail: Callable[[Ended], str | None] = lambda ended: ended.detail
        self.late: Callable[[Sequence[Event]], list[Event]] = lambda events: []
        self.space: Callable[[], str | None] = lambda: None
        self.keeper: CheckpointKeeper = MemoryKeeper()
        self.checkpoint: str | None = None
        self.inbox: Inbox | None = None
        self.budgets: list[int] = []

    def run(
        self,
        fate: Fate | None = None,
        stop_after_reports: int | None = None,
        now: bool = False,
        lives: int | None = None,
    ) -> LoopResult:
        """Drive the study in a new session.

        Args:
            fate: How attempts end early.
            stop_after_reports: Ask the session to stop then.
            now: Whether at once.
            lives: The driver dies by ``DriverDied`` once they are spent; two for each write.
        """
        is_new = self.store is None
        self.store = OptunaStore.create(self.spec) if is_new else OptunaStore.open(self.spec)
        executor = ScriptedExecutor(
            clock=self.clock, curve=self.curve, max_fidelity=4.0, slots=self.slots, fate=fate or (lambda *_: None)
        )
        executor.script = self
        begun = self.observer.reports
        left = lives

        def lose_life() -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    raise DriverDied

        def stop() -> StopRequest:
            if stop_after_reports is None or self.observer.reports - begun < stop_after_reports:
                return StopRequest.NONE
            return StopRequest.NOW if now else StopRequest.DRAIN

        loop = StudyLoop(
            spec=self.spec,
            store=Mortal(self.store, lose_life),
            executor=executor,
            recorder=Mortal(self.recorder, lose_life),
            keeper=self.keeper,
            clock=self.clock,
            observer=self.observer,
            request_for=self.request,
            log_of=self.spec.layout.log,
            artifacts_of=self.spec.layout.artifacts,
            stop_requested=stop,
            space=self.space,
            inbox=self.inbox,
            budget_raised=self.budgets.append,
        )
        try:
            return loop.run()
        finally:
            self.trials = list(self.store.trials())
            self.store.close()

    def retold(self, event: Event) -> Event:
        if isinstance(event, Reported):
            return Reported(report=replace(event.report, checkpoint=self.checkpoint))
        return replace(event, detail=self.detail(event)) if isinstance(event, Ended) else event

    def request(self, assignment: Assignment) -> TrainRequest:
        return TrainRequest(
            assignment=assignment,
            prepared="",
            model="",
            settings={},
            metric=self.spec.rule,
            evaluate_at=self.spec.evaluate_at,
            fidelity_unit=self.spec.fidelity_unit,
            checkpoints="",
            artifacts="",
        )

    def attempts(self, number: int) -> list[int]:
        """Recorded attempts of a trial, as they began."""
        records = self.recorder.records
        return [r.attempt for r in records if isinstance(r, AttemptBegun) and r.trial_number == number]

    def ends(self) -> list[int]:
        """Trials in the order of their recorded ends."""
        return [record.trial_number for record in self.recorder.records if isinstance(record, TrialOver)]


def always(number: int, end: AttemptEnd, *, attempts: int | None = None) -> Fate:
    """The fate of one trial: its attempts end so at their first step, all or the first few."""
    return lambda n, attempt, step: end if n == number and (attempts is None or attempt <= attempts) else None
