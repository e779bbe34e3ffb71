"""One driver for a study: a kernel lock that dies with its holder, and who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sweep.errors import StudyBusyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The driver that holds a study.

    Attributes:
        since: Unix seconds.
    """

    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).astimezone().isoformat(" ", "seconds")
        return f"process {self.pid} on {self.host} since {since}"


def _read_holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def driver_lock(path: Path, *, study: str, now: float) -> Iterator[None]:
    """Hold a study for this process; the kernel lets go when the process dies.

    Args:
        path: Lock file.
        study: Name, for the message.
        now: Unix seconds.

    Raises:
        StudyBusyError: If another live process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise StudyBusyError(
                f"study {study!r} is being driven by {_read_holder(path) or 'another process'}. "
                f"Watch it with `sweep status {study}`, or stop it with `sweep stop {study}`."
            ) from err
        holder = Holder(pid=os.getpid(), host=socket.gethostname(), since=now)
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, its holder unnamed
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def current_holder(path: Path) -> Holder | None:
    """Who drives the study now, or None. Never waits."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(path)
    finally:
        os.close(descriptor)
    return None
