"""A trial's log: all that its process and whatever that starts prints, redacted on its way to the file.

The process writes into a pipe, its warm parent reads there: so the words of libraries, of C code and of commands are
covered too, and the last ones are kept however the process ends.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from sweep.redaction import Redactor
from sweep.redaction.stream import LineRedactor

_CHUNK_BYTES = 1 << 16
_MOST_CHUNKS = 16
_MARK = b"\n[... a part of this log was cut out: it was longer than limits.log_mb allows ...]\n"


class TrialLog:
    """The log of one process, appended to.

    Args:
        path: The file; its folder is made if missing.
        redactor: Knows what to strike out.

    Raises:
        OSError: If the file cannot be opened.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._lines = LineRedactor(redactor)
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def fileno(self) -> int:
        """Descriptor to select on; readable when the process has said something, or is gone."""
        return self._reader

    def become_output(self) -> None:
        """In the process: print here from now on."""
        os.dup2(self._writer, 1)
        os.dup2(self._writer, 2)
        self.close()
        os.close(self._writer)

    def hand_over(self) -> None:
        """In the parent, once the process is forked: only that writes here."""
        os.close(self._writer)

    def pump(self) -> bool:
        """Write down what has been said, without waiting; returns whether more can come."""
        for _ in range(_MOST_CHUNKS):
            try:
                data = os.read(self._reader, _CHUNK_BYTES)
            except BlockingIOError:
                return True
            if not data:
                self._write(self._lines.feed(self._decoder.decode(b"", final=True)) + self._lines.end())
                return False
            self._write(self._lines.feed(self._decoder.decode(data)))
        return True

    def close(self) -> None:
        """Let go of file and pipe."""
        os.close(self._reader)
        os.close(self._file)

    def _write(self, text: str) -> None:
        left = text.encode("utf-8", errors="backslashreplace")
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:  # a full disk: training goes on, what cannot be written is lost
            return


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
