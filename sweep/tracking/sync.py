"""Delivering what an earlier driver left in the spool, and telling that it runs no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from sweep.errors import RecordingError
from sweep.layout import StudyLayout
from sweep.tracking import rejected
from sweep.tracking.acknowledged import Acknowledged
from sweep.tracking.lock import holder, try_lock
from sweep.tracking.reader import undelivered
from sweep.tracking.writer_process import WriterProcess


def drain(
    layout: StudyLayout,
    tracking_uri: str,
    timeout_seconds: float,
    *,
    is_driven: bool = False,
    watch: Callable[[], None] = lambda: None,
) -> int:
    """Deliver a study's waiting records, for a bounded time.

    Args:
        layout: The study's paths.
        tracking_uri: MLflow's store or server.
        timeout_seconds: The bound.
        is_driven: Whether a driver holds the study; if not, MLflow is told that nothing runs.
        watch: Called every second.

    Returns:
        How many are still undelivered.

    Raises:
        RecordingError: If another process is delivering them already.
    """
    if not layout.spool.is_dir():
        return 0
    _lock(layout).close()
    WriterProcess(layout, tracking_uri).finish(timeout_seconds, is_driven=is_driven, watch=watch)
    return undelivered(layout)


def start_over(layout: StudyLayout) -> None:
    """Have all records delivered once more, also those that were set aside; what is there already stays one.

    Raises:
        RecordingError: If another process is delivering them.
    """
    if layout.spool.is_dir():
        with _lock(layout):
            acked = Acknowledged.load(layout.spool)
            acked.repeat()
            acked.save(layout.spool)
            # Whatever is refused once more comes back here.
            (layout.spool / rejected.FILE).unlink(missing_ok=True)


def settle(layout: StudyLayout, tracking_uri: str) -> bool:
    """Have a process tell MLflow that nothing runs, if MLflow may say otherwise: a whole machine may have died.

    Returns at once. Call it only while no driver holds the study.

    Returns:
        Whether there was something to tell.

    Raises:
        RecordingError: If that process cannot be started.
        OSError: If the storage cannot be written.
    """
    if not layout.spool.is_dir() or Acknowledged.readable(layout.spool).settled:
        return False
    lock = try_lock(layout.spool)
    if lock is None:
        return False
    lock.close()
    WriterProcess(layout, tracking_uri).finish(0.0)
    return True


def _lock(layout: StudyLayout) -> IO[str]:
    lock = try_lock(layout.spool)
    if lock is None:
        raise RecordingError(
            f"{layout.spool}: process {holder(layout.spool)} is delivering these records already. "
            "Wait until the driver has ended, then try again."
        )
    return lock
