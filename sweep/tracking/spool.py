r"""Append-only file of records, one a line, each with its checksum.

::

    <spool>/records.jsonl     8 hex digits of CRC-32, a space, JSON, "\n"; the first line names the spool
    <spool>/acked.json        how far delivery got, and what it made
    <spool>/rejected.jsonl    records that the tracker refused for good, with the reason
    <spool>/scratch/          temporary files of the process that delivers

One process appends, one other reads behind it. A record is durable when ``append`` returns.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
import zlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sweep.durable import sync_folder
from sweep.errors import RecordingError
from sweep.ports import Record
from sweep.tracking.records import VERSION, from_json, identity, to_json

RECORDS = "records.jsonl"

_PREFIX = 9  # checksum and space
_HEADER = '{"kind":"spool"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a spool.

    Attributes:
        record: None for a line that is not a record (the header), or that cannot be read.
        end: Offset in bytes behind the line.
        problem: Why an intact place for a record holds none, or None.
    """

    record: Record | None
    end: int
    problem: str | None = None


class Spool:
    """The appending end of a spool. Thread-safe.

    Attributes:
        uid: Names this spool for ever, in every place its records are delivered to.
    """

    def __init__(self, path: Path, uid: str, size: int, known: set[Hashable]) -> None:
        self.uid = uid
        self._path = path
        self._size = size
        self._known = known
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    @classmethod
    def open(cls, folder: Path) -> Spool:
        """Open or create a spool; a torn tail is cut.

        Raises:
            RecordingError: If the folder cannot be written.
        """
        path = folder / RECORDS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            size = path.stat().st_size if path.exists() else 0
            intact = _intact_size(path) if size else 0
            if intact < size:
                os.truncate(path, intact)
            uid = spool_uid(folder)
            known = {key for entry in read_entries(folder) if entry.record and (key := identity(entry.record))}
            spool = cls(path, uid or uuid.uuid4().hex, intact, known)
            if uid is None:
                spool._write([f'{_HEADER},"version":{VERSION},"uid":"{spool.uid}"}}'])
                sync_folder(folder)
        except OSError as err:
            raise RecordingError(f"{path}: cannot be opened ({err}). Make the storage writable.") from err
        return spool

    def append(self, records: Sequence[Record]) -> int:
        """Make records durable with one fsync; those already held are left out.

        Returns:
            How many were new.

        Raises:
            RecordingError: If they cannot be written; then none of them is held.
        """
        with self._lock:
            lines, keys = [], set[Hashable]()
            for record in records:
                key = identity(record)
                if key is not None:
                    if key in self._known or key in keys:
                        continue
                    keys.add(key)
                lines.append(to_json(record))
            if lines:
                try:
                    self._write(lines)
                except (OSError, ValueError) as err:
                    raise RecordingError(
                        f"{self._path}: cannot be written ({err}). Free some space, then `sweep resume`."
                    ) from err
            self._known |= keys
            return len(lines)

    def close(self) -> None:
        """Let go of the file; idempotent."""
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, lines: Sequence[str]) -> None:
        data = b"".join(_line(text) for text in lines)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
            os.fsync(self._file.fileno())
        except OSError:
            # A half-written record must not join onto the next one.
            os.ftruncate(self._file.fileno(), self._size)
            raise
        self._size += len(data)


def spool_uid(folder: Path) -> str | None:
    """The name in a spool's header, its first line unless that was damaged; None without one."""
    try:
        with (folder / RECORDS).open("rb") as file:
            for line in file:
                text = _text(line)
                if text is not None and text.startswith(_HEADER):
                    return str(json.loads(text)["uid"])
    except FileNotFoundError:
        pass
    return None


def spool_size(folder: Path) -> int:
    """Bytes of a spool; 0 if there is none."""
    try:
        return (folder / RECORDS).stat().st_size
    except FileNotFoundError:
        return 0


def read_entries(folder: Path, start: int = 0) -> Iterator[Entry]:
    """Complete lines from an offset on, which must be the start of a line; a torn tail is not read."""
    try:
        file = (folder / RECORDS).open("rb")
    except FileNotFoundError:
        return
    with file:
        end = file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield _entry(line, end)


def count_records(folder: Path, start: int = 0) -> int:
    """Records from an offset on, without reading what they say."""
    try:
        file = (folder / RECORDS).open("rb")
    except FileNotFoundError:
        return 0
    with file:
        first = 1 if file.seek(start) == 0 else 0
        return max(0, sum(line.endswith(b"\n") for line in file) - first)


def _entry(line: bytes, end: int) -> Entry:
    text = _text(line)
    if text is None:
        return Entry(record=None, end=end, problem="its checksum does not match")
    if text.startswith(_HEADER):
        return Entry(record=None, end=end)
    try:
        return Entry(record=from_json(text), end=end)
    except (RecordingError, ValueError) as err:
        return Entry(record=None, end=end, problem=str(err))


def _line(text: str) -> bytes:
    data = text.encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _text(line: bytes) -> str | None:
    """What a line says, or None if it is torn or altered."""
    data = line[_PREFIX:-1]
    if not line.endswith(b"\n") or line[:_PREFIX] != b"%08x " % zlib.crc32(data):
        return None
    return data.decode("ascii", errors="replace")


def _intact_size(path: Path) -> int:
    """Offset behind the last line whose checksum matches."""
    end, intact = 0, 0
    with path.open("rb") as file:
        for line in file:
            end += len(line)
            if _text(line) is not None:
                intact = end
    return intact
