"""Keeping a trial's log small while its process writes to it."""

from __future__ import annotations

import os
from pathlib import Path

_MARK = b"\n[... a part of this log was cut out: it was longer than limits.log_mb allows ...]\n"


def cut_middle(log: Path, max_bytes: int) -> None:
    """Cut a log that is too long to half of that: its first quarter and its last one stay.

    Its writers append, so they go on at its new end; what they write during the cut itself may be lost.

    Raises:
        OSError: If it cannot be read or written.
    """
    if not log.is_file() or log.stat().st_size <= max_bytes:
        return
    kept = max_bytes // 4
    descriptor = os.open(log, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, kept, size - kept)
        tail = tail[tail.find(b"\n") + 1 :]
        end = os.pwrite(descriptor, _MARK + tail, kept) + kept
        os.ftruncate(descriptor, end)
    finally:
        os.close(descriptor)
