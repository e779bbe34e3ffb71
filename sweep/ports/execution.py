"""Where attempts run, and what is heard of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sweep.domain import AttemptEnd, Decision, Report, TrainRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """How long and how much one attempt may take, enforced by whoever supervises it.

    Attributes:
        silence_seconds: Longest time without a report or a sign of life, from its start on; None is for ever.
            Waiting for a decision is no silence.
        wall_seconds: Longest time of the attempt; None is for ever.
        grace_seconds: Between telling an attempt to leave and killing it.
        memory_bytes: Resident memory of its processes on the host; None is unlimited.
        log_bytes: Largest log of its trial; the middle is cut out.
    """

    silence_seconds: float | None = 1800.0
    wall_seconds: float | None = None
    grace_seconds: float = 30.0
    memory_bytes: int | None = None
    log_bytes: int = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker has begun an attempt.

    Attributes:
        worker: Name of the worker: host and slot.
    """

    trial_number: int
    attempt: int
    worker: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """A sign of life between evaluations; for the live view only, never stored.

    Attributes:
        step: Optimizer steps done.
        total_steps: Steps of a full run of this trial.
        loss: Training loss of late.
    """

    trial_number: int
    attempt: int
    step: int
    total_steps: int
    loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """An attempt waits for a decision on this report."""

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt is over; its slot is free.

    Attributes:
        detail: Traceback or reason, for ends that need one.
    """

    trial_number: int
    attempt: int
    end: AttemptEnd
    detail: str | None = None


Event = Started | Progressed | Reported | Ended


class Executor(Protocol):
    """Runs attempts on worker slots. Workers only return reports; the driver only assigns."""

    @property
    def free_slots(self) -> int:
        """How many attempts could start now, as of the last ``wait``; a pure read."""
        ...

    @property
    def slots(self) -> int:
        """How many attempts can run at once."""
        ...

    def start(self, request: TrainRequest, log: Path) -> None:
        """Begin an attempt on a free slot; its output goes to ``log``, appended.

        Raises:
            ExecutionError: If no slot is free.
        """
        ...

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        """Events since the last call, in the order they came; empty after the timeout, or once a slot is free.

        Raises:
            NoWorkersError: If none has come up for too long, or none can run a trial.
            ExecutionError: If the workers cannot be reached for another reason.
        """
        ...

    def decide(self, trial_number: int, attempt: int, decision: Decision) -> None:
        """Answer the report an attempt waits on; unknown attempts are ignored (they have ended)."""
        ...

    def leave(self, trial_number: int, attempt: int) -> None:
        """Ask an attempt to commit a checkpoint at its next step and to end; unknown ones are ignored.

        An ``Ended(PREEMPTED)`` follows, or the next report of an objective that does not ask whether to leave.
        """
        ...

    def kill(self, trial_number: int, attempt: int) -> None:
        """End an attempt at once, processes and all; an ``Ended(LOST)`` follows. Unknown ones are ignored."""
        ...

    def settle(self) -> None:
        """End what still runs, bounded in time, and drop what was not taken yet: no event of before is told later.

        Whoever begins another study on the same workers calls it first, as its attempts have the same names.

        Raises:
            ExecutionError: If the workers cannot be reached.
        """
        ...

    def close(self) -> None:
        """Kill what still runs and give everything back; idempotent."""
        ...
