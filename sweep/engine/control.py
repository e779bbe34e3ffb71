"""Requests to a running driver, from its own signals or from another process."""

from __future__ import annotations

import json
import os
import signal
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


class StopSignals:
    """Collects stop requests: Ctrl-C and SIGTERM of this process, and the control file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signalled = StopRequest.NONE

    def requested(self) -> StopRequest:
        """The most urgent request so far."""
        return max(self._signalled, self._from_file())

    def clear(self) -> None:
        """Forget requests of an earlier driver."""
        (self._folder / STOP_FILE).unlink(missing_ok=True)

    def _from_file(self) -> StopRequest:
        try:
            return StopRequest[json.loads((self._folder / STOP_FILE).read_text(encoding="utf-8"))["mode"]]
        except FileNotFoundError:
            return StopRequest.NONE
        except (ValueError, KeyError, TypeError):
            # A file we cannot read is still somebody's wish to stop.
            return StopRequest.DRAIN

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signalled = StopRequest(min(self._signalled + 1, StopRequest.NOW))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into requests: the first drains, the second stops now."""
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
