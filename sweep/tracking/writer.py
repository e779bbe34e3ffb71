"""The process that delivers a study's spool to MLflow: ``python -m sweep.tracking.writer``.

Its standard input is a pipe from the driver. The first line on it is MLflow's URI, which may hold a password and so
is no matter for a command line. ``finish SECONDS BYTES`` after it, or its end, means that no more records will come:
the process delivers what the spool holds up to there, for a bounded time, tells that nothing runs any more, and ends.
``finish SECONDS BYTES driven`` leaves the telling out: a driver is still at work. What comes later is another driver's,
whose own process waits for this one. Killing it at any moment is safe.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from sweep.layout import StudyLayout
from sweep.redaction import RedactedStream, Redactor, passwords_of
from sweep.tracking.bounded_log import BoundedLog
from sweep.tracking.lock import try_lock
from sweep.tracking.spool import spool_size

GONE_SECONDS = 20.0
"""How long it goes on without a driver."""

_log = logging.getLogger("sweep.tracking.writer")


class Ending:
    """When this process has to end; watched by a thread, since a request may hang.

    Attributes:
        event: Set once no more records will come.
        size: Bytes of the spool that are this driver's, once the event is set.
        is_driven: Whether the study's driver goes on all the same.
    """

    def __init__(self, pipe: IO[bytes], driver: int, spool: Path) -> None:
        self.event = threading.Event()
        self.size = 0
        self.is_driven = False
        self._driver = driver
        self._spool = spool
        self._pipe = pipe
        for target in (self._listen, self._watch_driver):
            threading.Thread(target=target, daemon=True).start()

    def _listen(self) -> None:
        words = self._pipe.readline().split()
        if words[:1] == [b"finish"]:
            self.is_driven = words[3:] == [b"driven"]
            self._end_within(float(words[1]), int(words[2]))
        else:
            self._end_within(GONE_SECONDS)

    def _watch_driver(self) -> None:
        # The pipe may have leaked into a process that outlives the driver.
        while os.getppid() == self._driver and not self.event.is_set():
            time.sleep(1.0)
        if not self.event.is_set():
            self._end_within(GONE_SECONDS)

    def _end_within(self, seconds: float, size: int | None = None) -> None:
        if not self.event.is_set():
            self.size = spool_size(self._spool) if size is None else size
            self.event.set()
        time.sleep(seconds)
        _log.warning("out of time; what is left stays in the spool")
        logging.shutdown()
        os._exit(3)


def main() -> int:
    """Run until the driver is done or gone; 0 when everything was delivered."""
    parser = argparse.ArgumentParser(prog="python -m sweep.tracking.writer", description=__doc__)
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--study", required=True)
    parser.add_argument("--driver", type=int, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tracking_uri = sys.stdin.buffer.readline().decode().rstrip("\n")
    if not tracking_uri:
        # The driver has died since it started this process.
        return 3
    # MLflow and the interpreter itself write there, too.
    redactor = Redactor.from_environment(os.environ).knowing(*passwords_of(tracking_uri))
    layout = StudyLayout(options.storage, options.study)
    sys.stdout = sys.stderr = RedactedStream(BoundedLog(layout.tracking_log), redactor)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    ending = Ending(sys.stdin.buffer, options.driver, layout.spool)
    with _take_lock(layout):
        _log.info("started for process %d", options.driver)
        # Training comes first where cores are short.
        os.nice(5)
        _use_scratch(layout.spool / "scratch")
        from sweep.tracking.settings import quiet_mlflow

        quiet_mlflow(delivering=True)
        from sweep.tracking.tailing import Tailing

        Tailing(layout, tracking_uri, ending).run()
    return 0


def _use_scratch(folder: Path) -> None:
    """Temporary files lie with the study: what a killed writer left goes when the next one begins."""
    shutil.rmtree(folder, ignore_errors=True)
    # Where the disk is full, the machine's own place for them may not be.
    with contextlib.suppress(OSError):
        folder.mkdir()
        tempfile.tempdir = str(folder)


def _take_lock(layout: StudyLayout) -> IO[str]:
    """Wait for the writer of a driver that did not wait for it: it ends soon."""
    while (lock := try_lock(layout.spool)) is None:
        time.sleep(0.2)
    return lock


if __name__ == "__main__":
    sys.exit(main())
