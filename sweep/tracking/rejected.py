"""Records that the tracker refused for good: kept beside the spool, with the reason."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

from sweep.ports import Record
from sweep.redaction import redacted
from sweep.tracking.records import to_json

FILE = "rejected.jsonl"


def set_aside(folder: Path, record: Record | None, reason: str) -> None:
    """Append a record and why it was refused, durably.

    Args:
        folder: The spool.
        record: None for a line of the spool that could not be read.
        reason: What the tracker said.
    """
    line = {"at": time.time(), "reason": redacted(reason), "record": json.loads(to_json(record)) if record else None}
    with (folder / FILE).open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        data = json.dumps(line).encode() + b"\n"
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            # It is tried again; half a line must not join onto a whole one.
            os.ftruncate(file.fileno(), size)
            raise
