"""The study's loop: assign, take reports, decide, until the budget is spent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from sweep.domain import (
    Assignment,
    AttemptEnd,
    Decision,
    Planned,
    Report,
    Setback,
    Spent,
    TrainRequest,
    Trial,
    TrialState,
    seed_of,
)
from sweep.engine.agenda import SearchAgenda
from sweep.engine.control import StopCause, StopRequest
from sweep.engine.policies import FINAL_STATES, SETBACKS, FailureStreak, deserves_another
from sweep.engine.records import TrialRecords
from sweep.engine.requests import CancelTrial, Enqueue, Inbox, RaiseBudget
from sweep.engine.retention import trim_models
from sweep.engine.spending import Spending
from sweep.engine.standings import Standings
from sweep.engine.view import Observer, RunningTrial, StudySnapshot
from sweep.errors import NoWorkersError, SweepError, is_disk_full
from sweep.ports import (
    Agenda,
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
)
from sweep.spec.model import StudySpec

WAIT_SECONDS = 0.4
_READING_SECONDS = 0.2

_Read = TypeVar("_Read")


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
        cause: What kind of thing stopped it, if it is not COMPLETE.
        reason: Why, for people.
    """

    state: str
    cause: StopCause | None = None
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class StudyLoop:
    """Drives one study. Talks to ports only.

    Attributes:
        request_for: Turns an assignment into what a worker needs.
        log_of: A trial's log file.
        artifacts_of: A trial's folder of files to show.
        stop_requested: Polled; says how urgently to stop.
        space: Polled; says why nothing more may be written, or None.
        inbox: What people ask for while it runs; None where nobody can.
        budget_raised: Stores a larger budget, in trials, for later sessions.
        agenda: What is to be trained; None is the search that the spec describes.
        spent_before: What the budget has been spent on besides: by the search, before its final.
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
    space: Callable[[], str | None] = lambda: None
    inbox: Inbox | None = None
    budget_raised: Callable[[int], None] = lambda trials: None
    agenda: Agenda | None = None
    spent_before: Spent = field(default_factory=Spent)
    _trials: Standings = field(init=False)
    _live: dict[int, _Live] = field(default_factory=dict)
    _unhandled: Sequence[Event] = ()
    _waiting: deque[Trial] = field(default_factory=deque)
    _redo: dict[int, int] = field(default_factory=dict)
    _wishes: deque[tuple[Path, Enqueue]] = field(default_factory=deque)
    _failures: FailureStreak = field(default_factory=FailureStreak)
    _stop: StopRequest = StopRequest.NONE
    _cause: StopCause = StopCause.REQUEST
    _reason: str = "stopped on request"
    _began: float = 0.0
    _records: TrialRecords = field(init=False)
    _agenda: Agenda = field(init=False)
    _spending: Spending = field(init=False)

    def __post_init__(self) -> None:
        self._agenda = self.agenda or SearchAgenda(self.spec.budget.trials)
        self._trials = Standings(self.spec.rule, self.spec.keep)
        self._spending = Spending(spec=self.spec, store=self.store, clock=self.clock, before=self.spent_before)
        self._records = TrialRecords(
            spec=self.spec,
            recorder=self.recorder,
            clock=self.clock,
            log_of=self.log_of,
            artifacts_of=self.artifacts_of,
        )

    def run(self) -> LoopResult:
        """Run until the budget is spent or something stops it.

        Raises:
            SweepError: If store, recorder or executor fail for another reason than a full disk.
        """
        self._began = self.clock.monotonic()
        try:
            self._adopt()
            try:
                self._run()
            except NoWorkersError as err:
                self._stop_because(StopCause.WORKERS, str(err), StopRequest.NOW)
                self._kill_all()
            self._spending.keep()
        except (SweepError, OSError) as err:
            if not is_disk_full(err):
                raise
            # Nothing more can be written, so nothing may go on; what is stored is whole, and is resumed from.
            for number, live in self._live.items():
                self.executor.kill(number, live.attempt)
            return LoopResult(state="PAUSED", cause=StopCause.DISK, reason=str(err))
        self.observer.tick(self.snapshot())
        if self._stop is not StopRequest.NONE and self._cause is StopCause.FAILURES:
            return LoopResult(state="FAILED", cause=self._cause, reason=self._reason)
        if self._trials.finished >= self._wanted():
            return LoopResult(state="COMPLETE")
        return LoopResult(state="PAUSED", cause=self._cause, reason=self._reason)

    def _run(self) -> None:
        # The workers may come from another study's loop, whose attempts have the same names.
        self.executor.settle()
        while True:
            self._heed_stops()
            if self._stop is StopRequest.NOW:
                self._kill_all()
                return
            self._heed_requests()
            if self._stop is StopRequest.NONE:
                self._fill()
            is_done = self._stop is not StopRequest.NONE or self._trials.finished >= self._wanted()
            if not self._live and is_done:
                return
            events, self._unhandled = self._unhandled or self.executor.wait(WAIT_SECONDS), ()
            self._spending.count(len(self._live))
            for event in events:
                self._handle(event)
            self.observer.tick(self.snapshot())

    def snapshot(self) -> StudySnapshot:
        """The study now."""
        baseline = self._trials.get(0)
        return StudySnapshot(
            counts=self._trials.counts,
            budget=self._wanted(),
            running=tuple(live.view for _, live in sorted(self._live.items())),
            best=self._trials.best,
            baseline=baseline.value if baseline else None,
            elapsed_seconds=self.clock.monotonic() - self._began,
            stopping=self._stop is not StopRequest.NONE,
            is_final=self.agenda is not None,
        )

    def _reading(self, read: Callable[[], _Read]) -> _Read:
        """Read a checkpoint, which may be large, without letting the workers wait; what they say is handled after."""
        with ThreadPoolExecutor(1, thread_name_prefix="read-checkpoint") as pool:
            reading = pool.submit(read)
            while wait_for([reading], _READING_SECONDS).not_done:
                self._unhandled = [*self._unhandled, *self.executor.wait(WAIT_SECONDS)]
                self.observer.tick(self.snapshot())
            return reading.result()

    # Assigning

    def _adopt(self) -> None:
        """Take over what an earlier driver left, as if there had been one driver all the time."""
        for trial in self.store.trials():
            self._trials.put(trial)
        for trial in self._trials:
            # Recorded again: that driver may have died between storing and recording; records are idempotent.
            if trial.state.is_finished:
                self._records.trial_over(trial)
                continue
            reasons = {setback.attempt: setback.reason for setback in trial.setbacks}
            self._pause(trial.number, trial.attempt, reasons.get(trial.attempt, "its driver ended"))
            self._waiting.append(self._trials[trial.number])
        finished = [trial for trial in self._trials if trial.state.is_finished]
        for trial in sorted(finished, key=lambda trial: trial.ended_at or 0.0):
            self._failures.add(trial)
        trim_models(self._trials, self.keeper)

    def _wanted(self) -> int:
        return self._agenda.wanted(self._trials)

    def _fill(self) -> None:
        # What runs will finish; trials waiting beyond the budget stay paused, for a larger one.
        while self.executor.free_slots > 0 and self._trials.finished + len(self._live) < self._wanted():
            if self._waiting:
                self._assign(self._waiting.popleft())
                continue
            trial = self._begin()
            if trial is None:
                return
            self._trials.put(trial)
            self._assign(trial)

    def _begin(self) -> Trial | None:
        """A new trial, as somebody wished it or as the agenda has it; the baseline comes before all wishes."""
        while self._trials.get(0) and self._wishes and self.inbox is not None:
            file, wish = self._wishes.popleft()
            # A wish that a crash left behind, or that was made twice, is not trained twice.
            is_new = all(wish.hyperparameters != trial.hyperparameters for trial in self._trials)
            trial = self.store.ask(Planned(hyperparameters=wish.hyperparameters)) if is_new else None
            self.inbox.done(file)
            if trial is not None:
                return trial
        return self._agenda.begin(self.store, self._trials)

    def _assign(self, trial: Trial) -> None:
        start_from = self._reading(lambda: self.keeper.newest(trial.number, self._redo.get(trial.number)))
        if not self.executor.free_slots:  # any more
            self._waiting.appendleft(trial)
            return
        seed = seed_of(self.spec.search.seed, trial)
        # Recorded before it is stored: a crash between the two begins the same attempt again.
        self._records.attempt_begun(trial, trial.attempt + 1, seed)
        attempt = self.store.begin_attempt(trial.number)
        assignment = Assignment(
            trial_number=trial.number,
            attempt=attempt,
            hyperparameters=trial.hyperparameters,
            seed=seed,
            start_from=start_from,
        )
        trial = replace(self._trials[trial.number], state=TrialState.RUNNING, attempt=attempt)
        self._trials.put(trial)
        view = RunningTrial(
            number=trial.number,
            name=trial.name,
            attempt=attempt,
            value=trial.value,
            since=self.clock.monotonic(),
        )
        history = list(self.store.reports(trial.number)) if attempt > 1 else []
        self._live[trial.number] = _Live(trial=trial, attempt=attempt, view=view, history=history)
        request = replace(self.request_for(assignment), micro_batch_split=trial.micro_batch_split)
        self.executor.start(request, self.log_of(trial.number))

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
                    self.store.attempt_started(event.trial_number, event.worker)
                    live.view = replace(live.view, worker=event.worker)
                elif live and isinstance(event, Progressed):
                    live.view = replace(live.view, step=event.step, total_steps=event.total_steps, loss=event.loss)

    def _current(self, trial_number: int, attempt: int) -> _Live | None:
        live = self._live.get(trial_number)
        return live if live and live.attempt == attempt else None

    def _on_report(self, report: Report) -> None:
        live = self._current(report.trial_number, report.attempt)
        if live is None:
            # A late report of an attempt we gave up: whoever runs it must end, and the other attempt's word stands.
            self._records.superseded(report)
            self.executor.decide(report.trial_number, report.attempt, Decision.STOP)
            return
        if self.spec.rule.name not in report.metrics:
            self._refuse(report)
            return
        if not live.history or report.step > live.history[-1].step:
            self._store_report(live, report)
        if report.step >= self._redo.get(report.trial_number, report.step + 1):
            del self._redo[report.trial_number]
        is_newest = report.step == live.history[-1].step
        self.executor.decide(report.trial_number, report.attempt, self._decide(report, is_newest))
        if is_newest:
            chosen = self.spec.rule.chosen(live.history)
            weights = {chosen.step} if chosen else set()
            # The one before as well: the newest is proven only once somebody has read it.
            self.keeper.keep(report.trial_number, {known.step for known in live.history[-2:]}, weights)

    def _refuse(self, report: Report) -> None:
        """End an attempt whose report says nothing about the study's metric."""
        self.executor.kill(report.trial_number, report.attempt)
        text = (
            f"step {report.step}: the report has no metric {self.spec.rule.name!r}, only {sorted(report.metrics)}. "
            "Report it at every evaluation, or name another in `metric.name`."
        )
        self._on_end(
            Ended(trial_number=report.trial_number, attempt=report.attempt, end=AttemptEnd.FAILED, detail=text)
        )

    def _store_report(self, live: _Live, report: Report) -> None:
        # Recorded before it is stored: a crash between the two repeats the report, and records are idempotent.
        self.recorder.record(report)
        live.history.append(report)
        chosen = self.spec.rule.chosen(live.history)
        value = (chosen or report).metrics[self.spec.rule.name]
        self.store.report(report, value)
        live.view = replace(live.view, value=value, step=report.step)
        step, wall_seconds = (chosen or report).step, report.wall_seconds
        trial = self._trials[report.trial_number]
        trial = replace(trial, value=value, step=step, wall_seconds=wall_seconds)
        self._trials.put(trial)
        self.observer.reported(trial, report)

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
        elif event.end is AttemptEnd.PREEMPTED:
            self._pause(number, event.attempt, event.detail or "left on request")
            self._waiting.append(self._trials[number])
        elif event.end is AttemptEnd.DISK_FULL:
            self._pause(number, event.attempt, f"the disk is full: {event.detail}")
            self._stop_because(StopCause.DISK, event.detail or "the disk is full")
        elif event.end in SETBACKS:
            self._set_back(live, event)
        elif event.end is AttemptEnd.FINISHED and not live.history:
            text = "the objective ended without a report. Report at least one evaluation."
            self._finish(live, TrialState.FAILED, text)
        elif event.end is AttemptEnd.FINISHED and (step := self._damaged_step(live)) is not None:
            # Nobody could deploy it: train that part again, from before it.
            self._redo[number] = step
            detail = f"the checkpoint of step {step}, the trial's best, is damaged"
            self._set_back(live, replace(event, end=AttemptEnd.LOST, detail=detail))
        else:
            self._finish(live, FINAL_STATES[event.end], event.detail)

    def _damaged_step(self, live: _Live) -> int | None:
        """Step of the evaluation that stands for a trial, if its checkpoint is damaged and would be kept."""
        number, chosen = live.trial.number, self.spec.rule.chosen(live.history)
        if chosen is None or chosen.checkpoint is None:
            return None
        value = chosen.metrics[self.spec.rule.name]
        complete = replace(self._trials[number], state=TrialState.COMPLETE, value=value)
        if not self._trials.keeps(complete) or self._reading(lambda: self.keeper.is_intact(number, chosen.step)):
            return None
        return chosen.step

    def _set_back(self, live: _Live, event: Ended) -> None:
        """Give the trial another attempt, or end it, by the spec's policies."""
        number = event.trial_number
        reason = event.detail or f"ended as {event.end}"
        step = live.history[-1].step if live.history else 0
        setback = Setback(attempt=event.attempt, end=event.end, step=step, reason=reason)
        trial = self._trials[number]
        setbacks = (*trial.setbacks, setback)
        batch_size = int(self.spec.settings(trial.hyperparameters)["batch_size"])
        self.observer.attempt_lost(trial, setback)
        if deserves_another(setbacks, self.spec.on, batch_size=batch_size):
            self._trials.put(replace(trial, setbacks=setbacks))
            self._pause(number, event.attempt, reason, setback)
            self._waiting.append(self._trials[number])
            return
        again = sum(known.end is event.end for known in setbacks)
        if event.end is AttemptEnd.LOST:
            reason = f"lost {again} times, in the end without a new checkpoint, last: {reason}"
        self._finish(live, FINAL_STATES[event.end], reason)

    def _pause(self, number: int, attempt: int, reason: str, setback: Setback | None = None) -> None:
        self.store.pause(number, setback)
        self._trials.put(replace(self._trials[number], state=TrialState.PAUSED))
        if attempt:
            self._records.attempt_over(number, attempt, reason)

    def _finish(self, live: _Live, state: TrialState, error: str | None) -> None:
        number = live.trial.number
        chosen = self.spec.rule.chosen(live.history)
        self.store.tell(number, state, chosen, error)
        now = self.clock.now()
        trial = replace(
            self._trials[number],
            state=state,
            error=error,
            ended_at=now,
            value=chosen.metrics[self.spec.rule.name] if chosen else None,
            step=chosen.step if chosen else None,
            metrics=chosen.metrics if chosen else {},
            checkpoint=chosen.checkpoint if chosen else None,
        )
        self._trials.put(trial)
        self._records.trial_over(trial)
        trim_models(self._trials, self.keeper, trial)
        self.observer.trial_over(self._trials[number], self.snapshot())
        alike = self._failures.add(trial)
        if alike >= self.spec.on.failed.stop_after:
            self._stop_because(StopCause.FAILURES, f"{alike} trials in a row failed alike:\n{error}", StopRequest.NOW)

    # Ending

    def _heed_stops(self) -> None:
        requested = self.stop_requested()
        if requested is not StopRequest.NONE:
            self._stop_because(StopCause.REQUEST, "stopped on request", requested)
        if (spent := self._spending.objection()) is not None:
            self._stop_because(StopCause.HOURS, spent)
        if self._stop is StopRequest.NONE and (complaint := self.space()) is not None:
            self._stop_because(StopCause.DISK, complaint)

    def _heed_requests(self) -> None:
        if self.inbox is None:
            return
        self._wishes.clear()
        for file, request in self.inbox.waiting():
            match request:
                case Enqueue():
                    self._wishes.append((file, request))
                    continue
                case CancelTrial(trial_number=number):
                    self._cancel(number)
                case RaiseBudget(trials=trials) if trials > self.spec.budget.trials:
                    budget = self.spec.budget.model_copy(update={"trials": trials})
                    self.spec = self.spec.model_copy(update={"budget": budget})
                    self._agenda = self.agenda or SearchAgenda(trials)
                    self.budget_raised(trials)
            self.inbox.done(file)

    def _cancel(self, number: int) -> None:
        """End an unfinished trial, wherever it is; what it has reported stays."""
        trial = self._trials.get(number)
        if trial is None or trial.state.is_finished:
            return
        live = self._live.pop(number, None)
        if live is not None:
            self.executor.kill(number, live.attempt)
        else:
            self._waiting = deque(other for other in self._waiting if other.number != number)
            view = RunningTrial(number=number, name=trial.name, attempt=trial.attempt)
            live = _Live(trial=trial, attempt=trial.attempt, view=view, history=list(self.store.reports(number)))
        self._finish(live, TrialState.CANCELLED, "stopped on request")

    def _stop_because(self, cause: StopCause, reason: str, urgency: StopRequest = StopRequest.DRAIN) -> None:
        """Start nothing new, and have what runs commit and leave; the first cause is the one that is told."""
        if self._stop is StopRequest.NONE:
            self._cause, self._reason = cause, reason
            if urgency is StopRequest.DRAIN:
                for number, live in self._live.items():
                    self.executor.leave(number, live.attempt)
        self._stop = max(self._stop, urgency)

    def _kill_all(self) -> None:
        for number, live in sorted(self._live.items()):
            self.executor.kill(number, live.attempt)
            self._pause(number, live.attempt, "ended at once, as its study stops")
        self._live.clear()
