"""Prepared data that no study names yet: whoever makes or reads it shares a lock that its removal needs alone."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweep.errors import SweepError, UserError

LOCK_NAME = "use.lock"

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})  # whoever may not write there only reads


@contextmanager
def in_use(prepared: Path) -> Iterator[None]:
    """Keep prepared data from being removed; waits while somebody removes some. Leaves no folder it made for nothing.

    Args:
        prepared: A storage's folder of prepared data; made if it is missing.

    Raises:
        SweepError: If it cannot be locked.
    """
    missing = [folder for folder in (prepared, *prepared.parents) if not folder.exists()]
    try:
        descriptor = _locked(prepared, fcntl.LOCK_SH)
    except OSError as err:
        if err.errno not in _READ_ONLY:
            raise _unlockable(prepared, err) from err
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # used by another, or no longer empty
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.listdir(prepared) == [LOCK_NAME]:
                (prepared / LOCK_NAME).unlink()
                for folder in missing:
                    folder.rmdir()
        os.close(descriptor)


@contextmanager
def alone_with(prepared: Path) -> Iterator[None]:
    """Have prepared data for oneself, to remove some of it.

    Raises:
        UserError: If somebody prepares or reads some that no study may name yet.
        SweepError: If it cannot be locked.
    """
    if not prepared.is_dir():
        yield
        return
    try:
        descriptor = _locked(prepared, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        raise UserError(
            f"{prepared}: a study that is just starting, or a check, uses prepared data. Try again in a minute."
        ) from err
    except OSError as err:
        raise _unlockable(prepared, err) from err
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(prepared: Path, how: int) -> int:
    """Descriptor of the lock file, locked; the kernel lets go when its process dies."""
    path = prepared / LOCK_NAME
    while True:
        prepared.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue  # its last user has just removed the empty folder
        try:
            fcntl.flock(descriptor, how)
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a file that was removed meanwhile


def _unlockable(prepared: Path, err: OSError) -> SweepError:
    return SweepError(
        f"{prepared / LOCK_NAME}: cannot be locked ({err.strerror}). "
        "Put `storage` where files can be written and locked."
    )
