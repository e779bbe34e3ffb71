"""The log of the delivering process, which must not fill the disk over a weekend without a tracker."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

MOST_BYTES = 5_000_000
_DESCRIPTORS = (1, 2)


class BoundedLog(io.TextIOBase):
    """Standard output and error of this process, in a file; a full one becomes ``….1``, and the one before that goes.

    What a full disk does not take is lost: delivering goes on.

    Args:
        path: Where both go already, opened for appending.
        most_bytes: Size at which a new file is begun.
    """

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes

    def write(self, text: str) -> int:
        """Append."""
        with contextlib.suppress(OSError):
            if os.fstat(_DESCRIPTORS[0]).st_size >= self._most_bytes:
                self._begin_anew()
            os.write(_DESCRIPTORS[0], text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""

    def _begin_anew(self) -> None:
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in _DESCRIPTORS:
            os.dup2(file, descriptor)
        os.close(file)
