"""Workers in virtual time: the same study, on scripted learning curves, in milliseconds.

After the simulated back end of Syne Tune (Salinas et al., AutoML 2022): an event queue whose clock jumps to the
next event.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweep.domain import AttemptEnd, Decision, HyperparameterValue, Report, TrainRequest
from sweep.errors import ExecutionError
from sweep.ports import Ended, Event, Reported, Started

Curve = Callable[[Mapping[str, HyperparameterValue], int, float], Mapping[str, float]]
"""(hyperparameters, seed, fidelity) -> metrics."""

Fate = Callable[[int, int, int], AttemptEnd | None]
"""(trial_number, attempt, step) -> how the attempt ends instead of reporting that step, or None."""


class VirtualClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Unix seconds, from 1,000,000,000 on."""
        return 1e9 + self.seconds

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self.seconds


@dataclass(slots=True)
class _Attempt:
    request: TrainRequest
    points: list[float]
    next_point: int


@dataclass(slots=True, kw_only=True)
class SimulatedExecutor:
    """Implements :class:`sweep.ports.Executor` on curves instead of training.

    Attributes:
        clock: Moved on by ``wait``.
        curve: Metrics at a fidelity.
        seconds_per_fidelity: Cost of one unit of fidelity.
        max_fidelity: A full run.
        fate: May end an attempt before it reports a step.
    """

    clock: VirtualClock
    curve: Curve
    max_fidelity: float
    slots: int = 2
    seconds_per_fidelity: float = 60.0
    fate: Fate = lambda trial_number, attempt, step: None
    _attempts: dict[tuple[int, int], _Attempt] = field(default_factory=dict)
    _queue: list[tuple[float, int, tuple[int, int], Event]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)
    _committed: dict[int, int] = field(default_factory=dict)

    @property
    def free_slots(self) -> int:
        """Slots without an attempt."""
        return self.slots - len(self._attempts)

    def start(self, request: TrainRequest, log: Path) -> None:
        """Begin an attempt at the point its trial committed last."""
        if self.free_slots < 1:
            raise ExecutionError(f"all {self.slots} slots are busy. Start attempts only while free_slots > 0.")
        number, attempt = request.assignment.trial_number, request.assignment.attempt
        points = [point for point in request.evaluate_at if point < self.max_fidelity]
        points.append(self.max_fidelity)
        begin = max(0, self._committed.get(number, 0) - 1)
        self._attempts[number, attempt] = _Attempt(request, points, begin)
        self._put(0.0, (number, attempt), Started(trial_number=number, attempt=attempt, worker="simulated", pid=0))
        self._advance((number, attempt))

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        """The next event; the clock jumps to it, or by the timeout."""
        while self._queue:
            at, _, key, event = self._queue[0]
            if at > self.clock.seconds + timeout_seconds:
                break
            heapq.heappop(self._queue)
            if key not in self._attempts:
                continue
            self.clock.seconds = max(self.clock.seconds, at)
            if isinstance(event, Ended):
                del self._attempts[key]
            if isinstance(event, Reported):
                self._committed[key[0]] = max(self._committed.get(key[0], 0), event.report.step)
            return [event]
        self.clock.seconds += timeout_seconds
        return []

    def decide(self, trial_number: int, attempt: int, decision: Decision) -> None:
        """Schedule what the decision leads to."""
        key = (trial_number, attempt)
        running = self._attempts.get(key)
        if running is None:
            return
        running.next_point += 1
        if decision is Decision.CONTINUE:
            self._advance(key)
        else:
            self._end(key, AttemptEnd.STOPPED if decision is Decision.STOP else AttemptEnd.PAUSED)

    def leave(self, trial_number: int, attempt: int) -> None:
        """End an attempt as preempted, now; what it has reported is committed."""
        if (trial_number, attempt) in self._attempts:
            self._end((trial_number, attempt), AttemptEnd.PREEMPTED)

    def kill(self, trial_number: int, attempt: int) -> None:
        """End an attempt; its events are forgotten."""
        if (trial_number, attempt) in self._attempts:
            self._end((trial_number, attempt), AttemptEnd.LOST)

    def settle(self) -> None:
        """Forget all attempts and their events."""
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._attempts.clear()
        self._queue.clear()

    def _advance(self, key: tuple[int, int]) -> None:
        running = self._attempts[key]
        if running.next_point >= len(running.points):
            self._end(key, AttemptEnd.FINISHED)
            return
        step = running.next_point + 1
        fidelity = running.points[running.next_point]
        before = running.points[running.next_point - 1] if running.next_point else 0.0
        seconds = (fidelity - before) * self.seconds_per_fidelity
        end = self.fate(*key, step)
        if end is not None:
            self._end(key, end, after=seconds)
            return
        assignment = running.request.assignment
        report = Report(
            trial_number=key[0],
            attempt=key[1],
            step=step,
            fidelity=fidelity,
            metrics=self.curve(assignment.hyperparameters, assignment.seed, fidelity),
            checkpoint=None,
            wall_seconds=fidelity * self.seconds_per_fidelity,
            reported_at=self.clock.now() + seconds,
        )
        self._put(seconds, key, Reported(report=report))

    def _end(self, key: tuple[int, int], end: AttemptEnd, after: float = 0.0) -> None:
        detail = None if end in {AttemptEnd.FINISHED, AttemptEnd.STOPPED, AttemptEnd.PAUSED} else f"simulated {end}"
        self._put(after, key, Ended(trial_number=key[0], attempt=key[1], end=end, detail=detail))

    def _put(self, after: float, key: tuple[int, int], event: Event) -> None:
        heapq.heappush(self._queue, (self.clock.seconds + after, next(self._order), key, event))
