"""The study's loop: assign, take reports, decide, until the budget is spent."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sweep.domain import (
    Assignment,
    AttemptEnd,
    Decision,
    Report,
    TrainRequest,
    Trial,
    TrialState,
    ranked,
    trial_seed,
)
from sweep.engine.control import StopRequest
from sweep.engine.view import Observer, RunningTrial, StudySnapshot
from sweep.ports import (
    AttemptBegun,
    AttemptOver,
    CheckpointKeeper,
    Clock,
    Ended,
    Event,
    Executor,
    Progressed,
    Recorder,
    Reported,
    Started,
    StudyStore,
    TrialOver,
)
from sweep.spec.model import StudySpec

MAX_LOST_WITHOUT_PROGRESS = 3
MAX_IDENTICAL_FAILURES = 3
WAIT_SECONDS = 0.4

FINAL_STATES = {
    AttemptEnd.FINISHED: TrialState.COMPLETE,
    AttemptEnd.STOPPED: TrialState.PRUNED,
    AttemptEnd.DIVERGED: TrialState.DIVERGED,
    AttemptEnd.OOM: TrialState.OOM,
    AttemptEnd.TIMEOUT: TrialState.TIMEOUT,
    AttemptEnd.FAILED: TrialState.FAILED,
}


@dataclass(slots=True)
class _Live:
    """An attempt on a worker."""

    trial: Trial
    attempt: int
    view: RunningTrial
    history: list[Report] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """How the loop ended.

    Attributes:
        state: ``COMPLETE`` (budget spent), ``PAUSED`` (stopped; can go on) or ``FAILED``.
        reason: Why it is not COMPLETE.
    """

    state: str
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class StudyLoop:
    """Drives one study. Talks to ports only.

    Attributes:
        request_for: Turns an assignment into what a worker needs.
        log_of: A trial's log file.
        artifacts_of: A trial's folder of files to show.
        stop_requested: Polled; says how urgently to stop.
    """

    spec: StudySpec
    store: StudyStore
    executor: Executor
    recorder: Recorder
    keeper: CheckpointKeeper
    clock: Clock
    observer: Observer
    request_for: Callable[[Assignment], TrainRequest]
    log_of: Callable[[int], Path]
    artifacts_of: Callable[[int], Path]
    stop_requested: Callable[[], StopRequest]
    _trials: dict[int, Trial] = field(default_factory=dict)
    _live: dict[int, _Live] = field(default_factory=dict)
    _waiting: deque[Trial] = field(default_factory=deque)
    _lost: Counter[int] = field(default_factory=Counter)
    _failures: list[str] = field(default_factory=list)
    _stop: StopRequest = StopRequest.NONE
    _abort: str | None = None
    _began: float = 0.0

    def run(self) -> LoopResult:
        """Run until the budget is spent or somebody stops it."""
        self._began = self.clock.monotonic()
        self._adopt()
        while True:
            self._stop = max(self._stop, self._urgency())
            if self._stop is StopRequest.NOW:
                self._kill_all()
                break
            if self._stop is StopRequest.NONE:
                self._fill()
            if not self._live:
                break
            for event in self.executor.wait(WAIT_SECONDS):
                self._handle(event)
            self.observer.tick(self.snapshot())
        self.observer.tick(self.snapshot())
        if self._abort:
            return LoopResult(state="FAILED", reason=self._abort)
        if self._finished() >= self.spec.budget.trials:
            return LoopResult(state="COMPLETE")
        hours = self.spec.budget.hours
        reason = f"the budget of {hours:g} hours is spent" if self._out_of_time() else "stopped on request"
        return LoopResult(state="PAUSED", reason=reason)

    def snapshot(self) -> StudySnapshot:
        """The study now."""
        best = ranked(list(self._trials.values()), self.spec.rule)
        baseline = self._trials.get(0)
        return StudySnapshot(
            counts=self.counts(),
            budget=self.spec.budget.trials,
            running=tuple(live.view for _, live in sorted(self._live.items())),
            best=best[0] if best else None,
            baseline=baseline.value if baseline else None,
            elapsed_seconds=self.clock.monotonic() - self._began,
            stopping=self._stop is not StopRequest.NONE,
        )

    def counts(self) -> dict[str, int]:
        """Trials by state."""
        return dict(Counter(trial.state.value for trial in self._trials.values()))

    # Assigning

    def _adopt(self) -> None:
        for trial in self.store.trials():
            self._trials[trial.number] = trial
            if trial.state.is_finished:
                # Again: a driver may have died between telling the store and recording; records are idempotent.
                self._record_end(trial)
            else:
                self._trials[trial.number] = replace(trial, state=TrialState.PENDING)
                self._waiting.append(trial)
        self._trim_models()

    def _finished(self) -> int:
        return sum(trial.state.is_finished for trial in self._trials.values())

    def _fill(self) -> None:
        while self.executor.free_slots > 0:
            if self._waiting:
                self._assign(self._waiting.popleft())
            elif len(self._trials) < self.spec.budget.trials:
                trial = self.store.ask()
                self._trials[trial.number] = trial
                self._assign(trial)
            else:
                return

    def _assign(self, trial: Trial) -> None:
        attempt = self.store.begin_attempt(trial.number)
        seed = trial_seed(self.spec.search.seed, trial.number)
        assignment = Assignment(
            trial_number=trial.number,
            attempt=attempt,
            hyperparameters=trial.hyperparameters,
            seed=seed,
            start_from=self.keeper.newest(trial.number),
        )
        self.recorder.record(
            AttemptBegun(
                trial_number=trial.number,
                attempt=attempt,
                hyperparameters=trial.hyperparameters,
                settings=self.spec.settings(trial.hyperparameters),
                seed=seed,
                at=self.clock.now(),
            )
        )
        trial = replace(self._trials[trial.number], state=TrialState.RUNNING, attempt=attempt)
        self._trials[trial.number] = trial
        view = RunningTrial(number=trial.number, attempt=attempt, value=trial.value, since=self.clock.monotonic())
        history = list(self.store.reports(trial.number)) if attempt > 1 else []
        self._live[trial.number] = _Live(trial=trial, attempt=attempt, view=view, history=history)
        self.executor.start(self.request_for(assignment), self.log_of(trial.number))

    # Events

    def _handle(self, event: Event) -> None:
        match event:
            case Reported(report=report):
                self._on_report(report)
            case Ended():
                self._on_end(event)
            case Started() | Progressed():
                live = self._current(event.trial_number, event.attempt)
                if live and isinstance(event, Started):
                    live.view = replace(live.view, worker=event.worker)
                elif live and isinstance(event, Progressed):
                    live.view = replace(live.view, step=event.step, total_steps=event.total_steps, loss=event.loss)

    def _current(self, trial_number: int, attempt: int) -> _Live | None:
        live = self._live.get(trial_number)
        return live if live and live.attempt == attempt else None

    def _on_report(self, report: Report) -> None:
        live = self._current(report.trial_number, report.attempt)
        if live is None:
            # A late report of an attempt we gave up: whoever runs it must end.
            self.executor.decide(report.trial_number, report.attempt, Decision.STOP)
            return
        if not live.history or report.step > live.history[-1].step:
            self._store_report(live, report)
        is_newest = report.step == live.history[-1].step
        self.executor.decide(report.trial_number, report.attempt, self._decide(report, is_newest))
        if is_newest:
            chosen = self.spec.rule.chosen(live.history)
            weights = {chosen.step} if chosen else set()
            self.keeper.keep(report.trial_number, {report.step}, weights)

    def _store_report(self, live: _Live, report: Report) -> None:
        # Recorded before it is stored: a crash between the two repeats the report, and records are idempotent.
        self.recorder.record(report)
        live.history.append(report)
        self._lost[report.trial_number] = 0
        chosen = self.spec.rule.chosen(live.history)
        value = (chosen or report).metrics[self.spec.rule.name]
        self.store.report(report, value)
        live.view = replace(live.view, value=value, step=report.step)
        self._trials[report.trial_number] = replace(
            self._trials[report.trial_number],
            value=value,
            step=(chosen or report).step,
            wall_seconds=report.wall_seconds,
        )
        self.observer.reported(report, value)

    def _decide(self, report: Report, is_newest: bool) -> Decision:
        if is_newest and self.store.should_prune(report.trial_number):
            return Decision.STOP
        if self._stop is not StopRequest.NONE:
            return Decision.PAUSE
        return Decision.CONTINUE

    def _on_end(self, event: Ended) -> None:
        live = self._current(event.trial_number, event.attempt)
        if live is None:
            return
        del self._live[event.trial_number]
        number = event.trial_number
        if event.end is AttemptEnd.PAUSED:
            self._pause(number, event.attempt, "paused on request")
        elif event.end is AttemptEnd.LOST:
            self._lost[number] += 1
            reason = event.detail or "the worker was lost"
            self.observer.attempt_lost(number, event.attempt, reason)
            if self._lost[number] > MAX_LOST_WITHOUT_PROGRESS:
                text = f"lost {self._lost[number]} times without a new checkpoint, last: {reason}"
                self._finish(live, TrialState.FAILED, text)
            else:
                self._pause(number, event.attempt, reason)
                self._waiting.append(self._trials[number])
        elif event.end is AttemptEnd.FINISHED and not live.history:
            text = "the objective ended without a report. Report at least one evaluation."
            self._finish(live, TrialState.FAILED, text)
        else:
            self._finish(live, FINAL_STATES[event.end], event.detail)

    def _pause(self, number: int, attempt: int, reason: str) -> None:
        self.store.pause(number)
        self._trials[number] = replace(self._trials[number], state=TrialState.PAUSED)
        self.recorder.record(
            AttemptOver(
                trial_number=number,
                attempt=attempt,
                state=TrialState.PAUSED,
                reason=reason,
                at=self.clock.now(),
            )
        )

    def _finish(self, live: _Live, state: TrialState, error: str | None) -> None:
        number = live.trial.number
        chosen = self.spec.rule.chosen(live.history)
        self.store.tell(number, state, chosen, error)
        now = self.clock.now()
        self._trials[number] = replace(
            self._trials[number],
            state=state,
            error=error,
            ended_at=now,
            value=chosen.metrics[self.spec.rule.name] if chosen else None,
            step=chosen.step if chosen else None,
            metrics=chosen.metrics if chosen else {},
            checkpoint=chosen.checkpoint if chosen else None,
        )
        self._record_end(self._trials[number])
        self._trim_models(number)
        self.observer.trial_over(self._trials[number], self.snapshot())
        self._stop_if_all_fail_alike(state, error)

    def _record_end(self, trial: Trial) -> None:
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

    def _stop_if_all_fail_alike(self, state: TrialState, error: str | None) -> None:
        if state is not TrialState.FAILED:
            self._failures.clear()
            return
        self._failures.append((error or "").strip().rsplit("\n", 1)[-1])
        last = self._failures[-MAX_IDENTICAL_FAILURES:]
        if len(last) == MAX_IDENTICAL_FAILURES and len(set(last)) == 1:
            self._abort = f"{MAX_IDENTICAL_FAILURES} trials in a row failed alike:\n{error}"
            self._stop = StopRequest.NOW

    # Retention and ending

    def _trim_models(self, just_finished: int | None = None) -> None:
        """Keep the models of the best trials and of the baseline; drop those of other finished trials."""
        order = ranked(list(self._trials.values()), self.spec.rule)
        kept = {trial.number for trial in order[: self.spec.keep]} | {0}
        for number, trial in self._trials.items():
            is_settled = just_finished is not None and number != just_finished
            if not trial.state.is_finished or (number in kept and is_settled):
                continue
            wanted = {trial.step} if number in kept and trial.step is not None else set()
            if trial.checkpoint is not None or number == just_finished:
                self.keeper.keep(number, set(), wanted)
            if not wanted:
                self._trials[number] = replace(trial, checkpoint=None)

    def _out_of_time(self) -> bool:
        hours = self.spec.budget.hours
        return hours is not None and self.clock.monotonic() - self._began >= hours * 3600

    def _urgency(self) -> StopRequest:
        requested = self.stop_requested()
        return max(requested, StopRequest.DRAIN) if self._out_of_time() else requested

    def _kill_all(self) -> None:
        for number, live in sorted(self._live.items()):
            self.executor.kill(number, live.attempt)
            self._pause(number, live.attempt, "stopped at once on request")
        self._live.clear()
