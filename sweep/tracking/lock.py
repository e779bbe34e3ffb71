"""One writer at a time: a lock the kernel gives back when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

FILE = "writer.lock"


def try_lock(folder: Path) -> IO[str] | None:
    """Take the lock if it is free; it is held until the file is closed or the process is gone."""
    file = (folder / FILE).open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder(folder: Path) -> str:
    """Process id of whoever took the lock last."""
    try:
        return (folder / FILE).read_text(encoding="ascii").strip() or "unknown"
    except FileNotFoundError:
        return "unknown"
