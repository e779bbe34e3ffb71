"""Records that the tracker refused for good: kept beside the spool, with the reason, each once."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sweep.ports import Record
from sweep.redaction import redacted
from sweep.tracking.records import to_json

FILE = "rejected.jsonl"


class Rejected:
    """The appending end of the file; what it holds already is not appended again."""

    def __init__(self, folder: Path) -> None:
        """Read what is there.

        Args:
            folder: The spool.
        """
        self._path = folder / FILE
        self._known = {_key(line) for line in _lines(folder)}

    def add(self, record: Record | None, reason: str) -> None:
        """Append a record and why it was refused, durably.

        Args:
            record: None for a line of the spool that could not be read.
            reason: What the tracker said.
        """
        line = {
            "at": time.time(),
            "reason": redacted(reason),
            "record": json.loads(to_json(record)) if record else None,
        }
        # A batch that fails half way is delivered again, refusals and all.
        if _key(line) in self._known:
            return
        with self._path.open("ab", buffering=0) as file:
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
        self._known.add(_key(line))


def count_rejected(folder: Path) -> int:
    """How many records of a spool were refused."""
    return len({_key(line) for line in _lines(folder)})


def _lines(folder: Path) -> Iterator[dict[str, object]]:
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            # Torn by a kill or a full disk; the record was delivered again and is on another line.
            continue


def _key(line: dict[str, object]) -> str:
    return json.dumps(line["record"] or line["reason"], sort_keys=True)
