"""Writing a checkpoint so that it is either there, whole, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sweep.checkpoints.manifest import (
    MANIFEST_NAME,
    FileEntry,
    hash_file,
    read_manifest,
    write_manifest,
)
from sweep.durable import sync_folder
from sweep.errors import CheckpointError, is_disk_full

TEMPORARY_PREFIX = ".tmp-"
TRASH_PREFIX = ".trash-"
_STORAGE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ESTALE}
)
_IO_THREADS = 4
_FOREIGN_GRACE_SECONDS = 3600.0


@contextlib.contextmanager
def committing(
    target: Path, meta: Mapping[str, Any], *, stands: Callable[[Mapping[str, Any]], bool] = lambda known: True
) -> Iterator[Path]:
    """Write a checkpoint: fill the folder given, and it appears as ``target`` at the end of the block.

    All files are durable before the manifest is, and the manifest before the folder gets its name. If the
    block raises, nothing stays. An intact checkpoint already at ``target`` that has the same files is kept;
    a damaged, uncommitted or slimmer one is replaced.

    Args:
        target: Folder of the checkpoint; its parents are made.
        meta: JSON-able; read at the end of the block.
        stands: Whether an intact checkpoint with this meta, already at ``target``, may be kept.

    Yields:
        A temporary folder beside ``target``.

    Raises:
        CheckpointError: If the disk is full, read-only or failing, or the block leaves something that is
            not a plain file or folder.
    """
    temporary = temporary_beside(target)
    try:
        try:
            _make_parents(target.parent)
            temporary.mkdir()
            yield temporary
            # Everything from here on is ours, so any OSError is about storage.
            _commit(temporary, target, meta, stands)
        except OSError as err:
            if err.errno not in _STORAGE_ERRNOS:
                raise
            raise _storage_error(target, err) from err
        except Exception as err:
            if not is_disk_full(err):
                raise
            raise _storage_error(target, err) from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_beside(target: Path) -> Path:
    """A new name for what becomes a folder, or is needed for a while; it says whose it is."""
    return target.parent / f"{TEMPORARY_PREFIX}{target.name}-{os.getpid()}-{_host()}-{uuid.uuid4().hex[:8]}"


def discard(folder: Path) -> None:
    """Take a folder out of sight in one step, then delete it; a missing one is ignored."""
    trash = folder.parent / f"{TRASH_PREFIX}{folder.name}-{uuid.uuid4().hex[:8]}"
    with contextlib.suppress(FileNotFoundError):
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def is_abandoned(folder: Path) -> bool:
    """Whether a temporary folder's writer is gone: dead on this host, or silent for an hour on another."""
    try:
        pid, host, _ = folder.name.rsplit("-", 3)[1:]
        if host != _host():
            return time.time() - folder.stat().st_mtime > _FOREIGN_GRACE_SECONDS
        os.kill(int(pid), 0)
    except (ProcessLookupError, FileNotFoundError, ValueError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _commit(
    temporary: Path, target: Path, meta: Mapping[str, Any], stands: Callable[[Mapping[str, Any]], bool]
) -> None:
    folders, names = _walk(temporary)
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        # Hash while the disk is busy: a file's pages are in memory until they are clean.
        synced = [pool.submit(_sync_file, temporary / name) for name in names]
        hashed = {name: pool.submit(hash_file, temporary / name) for name in names}
        files = {name: future.result() for name, future in hashed.items()}
        for future in synced:
            future.result()
    for folder in folders:
        sync_folder(folder)
    write_manifest(temporary, meta, files)
    _publish(temporary, target, files, stands)
    sync_folder(target.parent)


def _publish(
    temporary: Path, target: Path, files: Mapping[str, FileEntry], stands: Callable[[Mapping[str, Any]], bool]
) -> None:
    while True:
        if target.exists():
            with contextlib.suppress(CheckpointError):
                known = read_manifest(target)
                if known.files.keys() >= files.keys() and stands(known.meta):
                    return
            discard(target)
        try:
            temporary.rename(target)
        except OSError as err:
            if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue  # another attempt was quicker; look at what it wrote
        return


def _walk(temporary: Path) -> tuple[list[Path], list[str]]:
    """Sub-folders, deepest first, and relative paths of all files, sorted."""
    folders: list[Path] = []
    names: list[str] = []
    for root, inner, files in os.walk(temporary, topdown=False):
        folders.append(Path(root))
        for name in [*inner, *files]:
            path = Path(root) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise CheckpointError(f"{path}: a checkpoint holds plain files only. Copy the content instead.")
        names.extend((Path(root) / name).relative_to(temporary).as_posix() for name in files)
    if MANIFEST_NAME in names:
        raise CheckpointError(f"{temporary / MANIFEST_NAME}: this name is the commit marker's. Use another.")
    return folders, sorted(names)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_parents(folder: Path) -> None:
    """Make a folder and its missing parents, durably."""
    if folder.is_dir():
        return
    _make_parents(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def _host() -> str:
    """Short token of this host without dashes; process ids mean nothing elsewhere."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def _storage_error(target: Path, err: BaseException) -> CheckpointError:
    what = err.strerror if isinstance(err, OSError) else str(err)
    return CheckpointError(
        f"{target}: the checkpoint cannot be written ({what}); nothing was left behind. "
        "Free disk space or point `storage` at a writable disk, then resume."
    )
