"""The driver's handle on the writer process: start, finish, bounded end. Imports nothing of the tracker's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from sweep.errors import RecordingError
from sweep.layout import StudyLayout
from sweep.tracking.spool import spool_size

ALONE_SECONDS = 20.0
"""How long it delivers without anybody waiting for it."""

RESTART_SECONDS = 30.0
"""A writer that something killed is started again, but not more often than so."""

_RESTARTS_AT_END = 3
_GLANCE_SECONDS = 1.0


class WriterProcess:
    """A running ``python -m sweep.tracking.writer``.

    It lives in its own session, so Ctrl-C does not reach it, and ends by itself when this process is gone.
    """

    def __init__(self, layout: StudyLayout, tracking_uri: str) -> None:
        """Start it.

        Raises:
            RecordingError: If it cannot be started.
        """
        self._layout = layout
        self._tracking_uri = tracking_uri
        self._lock = threading.Lock()
        self._is_finishing = False
        self._start()

    def _start(self) -> None:
        layout = self._layout
        log = layout.tracking_log
        command = [
            *(sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-m", "sweep.tracking.writer"),
            *("--storage", str(layout.storage), "--study", layout.study),
            *("--driver", str(os.getpid())),
        ]
        try:
            layout.logs.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
                )
        except OSError as err:
            raise RecordingError(
                f"{log}: the tracking process cannot be started ({err}). "
                "Free memory or processes; `sweep sync` delivers then."
            ) from err
        self._began = time.monotonic()
        # Everybody may read a command line; the URI may hold a password.
        self._say(self._tracking_uri)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def keep_alive(self) -> None:
        """Start it again if something killed it, unless that happened a moment ago."""
        with self._lock:
            is_dead = not self._is_finishing and self._process.poll() is not None
            if is_dead and time.monotonic() - self._began > RESTART_SECONDS:
                self._start_again()

    def finish(
        self, timeout_seconds: float, *, is_driven: bool = False, watch: Callable[[], None] = lambda: None
    ) -> int | None:
        """Let it deliver what is left, at most so long, then end it; idempotent.

        Args:
            timeout_seconds: 0 leaves it alone: it delivers what is there for a while, and ends by itself.
            is_driven: Whether a driver goes on all the same, so that trials may still run.
            watch: Called every second while it delivers.

        Returns:
            Its exit code; None if it had to be killed, or was left alone.
        """
        until = time.monotonic() + timeout_seconds
        with self._lock:
            if self._is_finishing:
                return self._process.poll()
            self._is_finishing = True
            if self._process.poll() is not None:
                self._start_again()
        size, driven = spool_size(self._layout.spool), " driven" if is_driven else ""
        self._say_last(f"finish {timeout_seconds or ALONE_SECONDS} {size}{driven}")
        if not timeout_seconds:
            # It may end before this process does, and somebody has to notice.
            threading.Thread(target=self._process.wait, daemon=True).start()
            return None
        for _ in range(_RESTARTS_AT_END):
            code = self._wait(until, watch)
            if code is None or code >= 0:
                return code
            # Something killed it.
            self._start_again()
            self._say_last(f"finish {max(1.0, until - time.monotonic())} {size}{driven}")
        return self._wait(until, watch)

    def _wait(self, until: float, watch: Callable[[], None]) -> int | None:
        while (left := until - time.monotonic()) > 0:
            try:
                return self._process.wait(min(left, _GLANCE_SECONDS))
            except subprocess.TimeoutExpired:
                watch()
        self._process.kill()
        self._process.wait()
        return None

    def _say_last(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            self._say(line)
            with contextlib.suppress(OSError):
                stdin.close()

    def _start_again(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        # If it cannot be started, the records wait in the spool: training goes on.
        with contextlib.suppress(RecordingError):
            self._start()

    def _say(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            # If it is gone already, the records wait in the spool.
            with contextlib.suppress(OSError):
                stdin.write(f"{line}\n".encode())
                stdin.flush()
