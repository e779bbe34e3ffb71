"""The journal file: one JSON record on each line, written by one driver, read by anybody at any time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from sweep.durable import sync_folder
from sweep.errors import StudyStoreError

JOURNAL_NAME = "journal.log"
_MOST_TO_CUT_BYTES = 1 << 20
_READ_BYTES = 1 << 20


class Journal(BaseJournalBackend):
    """Optuna's journal in Optuna's format, without a lock on each write and with batches.

    Optuna's own backend makes and removes a lock file around every record, which costs several times the
    write; here the driver's lock has settled already who writes.

    Args:
        path: The file; it must exist, its tail mended if it is to be written.
        is_writable: Whether records will be added.
    """

    def __init__(self, path: Path, *, is_writable: bool) -> None:
        self._path = path
        self._is_writable = is_writable
        self._file: int | None = os.open(path, os.O_RDWR | os.O_APPEND if is_writable else os.O_RDONLY)
        self._read = 0
        self._offset = 0
        self._gathered: list[dict[str, Any]] | None = None

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Whole records from a number on; a line still being written, or torn, is not there yet."""
        if log_number_from != self._read:
            self._read = self._offset = 0
        whole, newline, _ = self._read_from(self._offset).rpartition(b"\n")
        for line in whole.split(b"\n") if newline else ():
            record = json.loads(line)
            self._offset += len(line) + 1
            self._read += 1
            if self._read > log_number_from:
                yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add records durably, or to the batch.

        Raises:
            StudyStoreError: If the journal was opened for reading.
            OSError: If they cannot be written; none of them is there then.
        """
        if not self._is_writable:
            raise StudyStoreError(f"{self._path}: opened for reading. Only the study's driver writes.")
        if self._gathered is not None:
            self._gathered.extend(logs)
            return
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        left = memoryview(lines.encode())
        file = self._open_file()
        size = os.fstat(file).st_size
        try:
            while left:
                left = left[os.write(file, left) :]
            # Contents and length are durable; nobody needs the time of the last change.
            getattr(os, "fdatasync", os.fsync)(file)
        except OSError:
            # Whoever reads on must not find half of what failed.
            os.ftruncate(file, size)
            raise

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Gather records and write them at once, or not at all if the block raises."""
        self._gathered = []
        try:
            yield
            gathered = self._gathered
        finally:
            self._gathered = None
        if gathered:
            self.append_logs(gathered)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read_from(self, offset: int) -> bytes:
        parts = []
        while part := os.pread(self._open_file(), _READ_BYTES, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _open_file(self) -> int:
        if self._file is None:
            raise StudyStoreError(f"{self._path}: is closed. Open the study again.")
        return self._file


def make_journal(path: Path) -> None:
    """Make an empty journal durably; one that exists is left alone."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    sync_folder(path.parent)


def mend_torn_tail(path: Path) -> int:
    """Cut what a crash left behind the last whole record; the bytes are kept in a file beside it.

    Args:
        path: The journal; nobody writes it.

    Returns:
        How many bytes were cut.

    Raises:
        StudyStoreError: If more is damaged than a crash can explain.
    """
    with path.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        start = max(0, end - _MOST_TO_CUT_BYTES)
        stream.seek(start)
        tail = stream.read()
        keep = len(tail)
        while keep:
            line_start = tail.rfind(b"\n", 0, keep - 1) + 1
            if _is_record(tail[line_start:keep]):
                break
            keep = line_start
        if keep == 0 and start > 0:
            raise StudyStoreError(
                f"{path}: the last {_MOST_TO_CUT_BYTES} bytes are not records. Restore it from a backup."
            )
        cut = tail[keep:]
        if cut:
            evidence = path.with_name(f"{path.stem}-torn-at-{start + keep}.bin")
            with evidence.open("ab") as kept:
                kept.write(cut)
                kept.flush()
                os.fsync(kept.fileno())
            stream.truncate(start + keep)
            os.fsync(stream.fileno())
    return len(cut)


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
