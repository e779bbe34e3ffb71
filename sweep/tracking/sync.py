"""Delivering what an earlier driver left in the spool."""

from __future__ import annotations

from sweep.errors import RecordingError
from sweep.layout import StudyLayout
from sweep.tracking.lock import holder, try_lock
from sweep.tracking.reader import undelivered
from sweep.tracking.writer_process import WriterProcess


def drain(layout: StudyLayout, tracking_uri: str, timeout_seconds: float) -> int:
    """Deliver a study's waiting records, for a bounded time.

    Returns:
        How many are still undelivered.

    Raises:
        RecordingError: If another process is delivering them already.
    """
    if not layout.spool.is_dir():
        return 0
    lock = try_lock(layout.spool)
    if lock is None:
        raise RecordingError(
            f"{layout.spool}: process {holder(layout.spool)} is delivering these records already. "
            "Wait until the driver has ended, then try again."
        )
    lock.close()
    WriterProcess(layout, tracking_uri).finish(timeout_seconds)
    return undelivered(layout)
