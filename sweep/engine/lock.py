"""One driver for a study: a kernel lock that dies with its holder, and who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sweep.domain import Holder
from sweep.errors import StudyBusyError, SweepError

_INSISTING_SECONDS = 0.5
"""How long a driver insists: whoever looks for the holder shares the lock for microseconds, and a holder needs as
long to write its name."""


def busy(study: str, holder: Holder | None) -> StudyBusyError:
    """The error for a study that another driver holds, with what can be done about it."""
    remedy = f"Watch it with `sweep status {study}`, or stop it with `sweep stop {study}`."
    if holder is not None and holder.host != socket.gethostname():
        remedy += f" It can be seen on {holder.host} alone whether it lives; if that host is gone, try again later."
    elif holder is not None:
        remedy += f" If it does not answer, `kill -9 {holder.pid}` ends it, and nothing stored is lost."
    return StudyBusyError(f"study {study!r} is being driven by {holder or 'another process'}. {remedy}")


@contextmanager
def driver_lock(path: Path, *, study: str, now: float) -> Iterator[None]:
    """Hold a study for this process; the kernel lets go when the process dies, and not while it is suspended.

    Args:
        path: Lock file; on a network file system the lock holds between hosts, if the file system can lock.
        study: Name, for the message.
        now: Unix seconds.

    Raises:
        StudyBusyError: If another live process holds it.
        SweepError: If the file cannot be locked at all.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as err:
        raise SweepError(f"{path}: cannot be opened for writing ({err}). Make the storage writable.") from err
    try:
        try:
            _insist(descriptor)
        except BlockingIOError as err:
            raise busy(study, _read_holder(path)) from err
        except OSError as err:
            raise SweepError(
                f"{path}: cannot be locked ({err}), so two drivers could write at once. "
                "Put `storage` on a file system with locks."
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


def _insist(descriptor: int) -> None:
    until = time.monotonic() + _INSISTING_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _read_holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
