"""Holds an attempt against its limits: tells when it is too silent, too long or too large."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from sweep.domain import AttemptEnd
from sweep.execution.memory import family_bytes
from sweep.execution.trial_log import cut_middle
from sweep.ports import AttemptLimits

_PERIOD_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A limit that an attempt went beyond.

    Attributes:
        end: How the attempt ends.
        reason: Names the limit and the value.
    """

    end: AttemptEnd
    reason: str


class Watchdog:
    """Watches one attempt from the moment its process exists.

    Args:
        limits: What it may take.
        log: The trial's log, kept short, or None.
    """

    def __init__(self, limits: AttemptLimits, log: Path | None) -> None:
        self._limits = limits
        self._log = log
        self._pid: int | None = None
        self._began = self._heard = self._looked = 0.0
        self._told_to_leave: float | None = None
        self._waits = False
        self._step: int | None = None

    def begin(self, pid: int) -> None:
        """Start the clocks: the process exists."""
        self._pid = pid
        self._began = self._heard = self._looked = time.monotonic()

    def hear(self, step: int) -> None:
        """Take a sign of life."""
        self._heard, self._step = time.monotonic(), step

    def wait(self, waits: bool) -> None:
        """The attempt waits for a decision from now on, or has it."""
        self._waits = waits
        self._heard = time.monotonic()

    def leave(self) -> None:
        """The attempt was told to leave."""
        self._told_to_leave = self._told_to_leave or time.monotonic()

    def excess(self) -> Excess | None:
        """The limit it is beyond, if any; looks at most once a second, and trims the log then."""
        now = time.monotonic()
        if self._pid is None or now - self._looked < _PERIOD_SECONDS:
            return None
        self._looked = now
        if self._log is not None:
            with contextlib.suppress(OSError):  # a log is no reason to end anything
                cut_middle(self._log, self._limits.log_bytes)
        return self._too_slow(now) or self._too_large(self._pid)

    def _too_slow(self, now: float) -> Excess | None:
        limits = self._limits
        last = "before its first step" if self._step is None else f"last at step {self._step}"
        if self._told_to_leave is not None and now - self._told_to_leave > limits.grace_seconds and not self._waits:
            seconds = f"{limits.grace_seconds:g} s (limits.grace_seconds)"
            return Excess(end=AttemptEnd.PREEMPTED, reason=f"told to leave, it did not within {seconds}; {last}")
        if limits.silence_seconds is not None and now - self._heard > limits.silence_seconds and not self._waits:
            minutes = f"{limits.silence_seconds / 60:g} min (limits.silence_minutes)"
            return Excess(end=AttemptEnd.TIMEOUT, reason=f"no sign of life for {minutes}, {last}")
        if limits.wall_seconds is not None and now - self._began > limits.wall_seconds:
            hours = f"{limits.wall_seconds / 3600:g} h (limits.attempt_hours)"
            return Excess(end=AttemptEnd.TIMEOUT, reason=f"not done within {hours}, {last}")
        return None

    def _too_large(self, pid: int) -> Excess | None:
        allowed = self._limits.memory_bytes
        if allowed is None or (used := family_bytes(pid)) <= allowed:
            return None
        return Excess(
            end=AttemptEnd.OOM,
            reason=f"{used / 1e9:.2f} GB of host memory are more than the {allowed / 1e9:g} of limits.memory_gb",
        )
