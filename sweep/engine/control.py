"""Requests to a running driver, from its own signals or from another process."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum, StrEnum
from pathlib import Path
from types import FrameType

from sweep.layout import StudyLayout

STOP_FILE = "stop.json"


class StopRequest(IntEnum):
    """How urgently the study shall stop; a higher one wins."""

    NONE = 0
    DRAIN = 1  # start nothing new; running trials commit a checkpoint at their next step, and leave
    NOW = 2  # end running attempts at once; their trials continue from the last checkpoint on resume


class StopCause(StrEnum):
    """What kind of thing stopped a study before its budget was spent."""

    REQUEST = "REQUEST"  # somebody asked for it
    HOURS = "HOURS"  # its hours are spent
    DISK = "DISK"  # nothing more can, or may, be written
    WORKERS = "WORKERS"  # no worker is left, and none came for too long
    FAILURES = "FAILURES"  # its trials all fail alike


def request_stop(layout: StudyLayout, request: StopRequest) -> None:
    """Ask the driver of a study to stop; takes effect within a second.

    Args:
        layout: The study's paths.
        request: DRAIN or NOW; on a full disk, it is DRAIN that is heard.
    """
    layout.control.mkdir(parents=True, exist_ok=True)
    temporary = layout.control / f".stop-{os.getpid()}"
    with suppress(OSError):  # an empty file is a wish to stop, too
        temporary.write_text(json.dumps({"mode": request.name}), encoding="utf-8")
    temporary.replace(layout.control / STOP_FILE)


def _has_hung_up(descriptor: int) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, 0)
    return any(news & select.POLLHUP for _, news in waiting.poll(0))


class StopSignals:
    """Collects stop requests: signals to this process, and the control file.

    Args:
        folder: Where the control file is put.
        grace_seconds: Between a SIGTERM or SIGHUP and the time when what still runs is ended at once.
    """

    def __init__(self, folder: Path, grace_seconds: float = 30.0) -> None:
        self._folder = folder
        self._grace_seconds = grace_seconds
        self._interrupts = StopRequest.NONE
        self._now_at = math.inf

    def requested(self) -> StopRequest:
        """The most urgent request so far."""
        return max(self.signalled(), self._from_file())

    def signalled(self) -> StopRequest:
        """The most urgent request by a signal so far."""
        terminated = StopRequest.NONE if self._now_at == math.inf else StopRequest.DRAIN
        if time.monotonic() >= self._now_at:
            terminated = StopRequest.NOW
        return max(self._interrupts, terminated)

    def clear(self) -> None:
        """Forget requests of an earlier driver."""
        (self._folder / STOP_FILE).unlink(missing_ok=True)

    def _from_file(self) -> StopRequest:
        try:
            return StopRequest[json.loads((self._folder / STOP_FILE).read_text(encoding="utf-8"))["mode"]]
        except FileNotFoundError:
            return StopRequest.NONE
        except (OSError, ValueError, KeyError, TypeError):
            # A file we cannot read is still somebody's wish to stop.
            return StopRequest.DRAIN

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._interrupts = StopRequest(min(self._interrupts + 1, StopRequest.NOW))

    def _on_termination(self, signum: int, frame: FrameType | None) -> None:
        self._now_at = min(self._now_at, time.monotonic() + self._grace_seconds)

    def _on_hangup(self, signum: int, frame: FrameType | None) -> None:
        # The terminal is gone: what is still said to it goes nowhere, instead of failing.
        for descriptor in (0, 1, 2):
            if _has_hung_up(descriptor):
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, descriptor)
                os.close(null)
        self._on_termination(signum, frame)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn signals into requests.

        The first SIGINT drains, the second stops now. SIGTERM, and SIGHUP unless it is ignored (``nohup``), drain,
        and stop now once the grace is over.
        """
        handlers = {signal.SIGINT: self._on_interrupt, signal.SIGTERM: self._on_termination}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = self._on_hangup
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
