"""The driver's handle on the writer process: start, finish, bounded end. Imports nothing of the tracker's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

from sweep.errors import RecordingError
from sweep.layout import StudyLayout
from sweep.tracking.spool import spool_size

ALONE_SECONDS = 20.0
"""How long it delivers without anybody waiting for it."""


class WriterProcess:
    """A running ``python -m sweep.tracking.writer``.

    It lives in its own session, so Ctrl-C does not reach it, and ends by itself when this process is gone.
    """

    def __init__(self, layout: StudyLayout, tracking_uri: str) -> None:
        """Start it.

        Raises:
            RecordingError: If it cannot be started.
        """
        self._spool = layout.spool
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
            raise RecordingError(f"{log}: the tracking process cannot be started ({err}).") from err
        # Everybody may read a command line; the URI may hold a password.
        self._say(tracking_uri)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def finish(self, timeout_seconds: float) -> int | None:
        """Let it deliver what is left, at most so long, then end it; idempotent.

        Args:
            timeout_seconds: 0 leaves it alone: it delivers what is there for a while, and ends by itself.

        Returns:
            Its exit code; None if it had to be killed, or was left alone.
        """
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            self._say(f"finish {timeout_seconds or ALONE_SECONDS} {spool_size(self._spool)}")
            with contextlib.suppress(OSError):
                stdin.close()
        if not timeout_seconds:
            # It may end before this process does, and somebody has to notice.
            threading.Thread(target=self._process.wait, daemon=True).start()
            return None
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def _say(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            # If it is gone already, the records wait in the spool.
            with contextlib.suppress(OSError):
                stdin.write(f"{line}\n".encode())
                stdin.flush()
