"""Garbage in a study's folder besides its checkpoints, and the audited removal of all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from sweep.checkpoints.commit import TEMPORARY_PREFIX, TRASH_PREFIX, is_abandoned
from sweep.checkpoints.keeper import step_of
from sweep.checkpoints.manifest import MANIFEST_NAME, read_manifest
from sweep.checkpoints.surplus import Surplus, surplus_file, surplus_folder
from sweep.errors import CheckpointError, is_disk_full
from sweep.layout import StudyLayout

EVIDENCE_SECONDS = 7 * 86400.0
"""How long the torn ends of a history are kept for people to look at."""

RESERVE_BYTES = 16384
"""Room for the notes of some dozen removals; what the first of them frees holds those that follow."""

_CUT_SHORT = "a write that was cut short"
_DEAD = "left behind by a process that died"


def of_dead_drivers(layout: StudyLayout) -> Iterator[Surplus]:
    """What processes that died left of their writes; nobody drives the study but the caller."""
    for pattern in (".*.json-*", ".*.yaml-*", "control/.stop-*", "artifacts/*/.*.new"):
        for path in sorted(layout.folder.glob(pattern)):
            if not _is_being_written(path):
                yield surplus_file(path, _CUT_SHORT, within=layout.folder)
    for folder in sorted(layout.exports.glob(".trial-*-*")):
        yield surplus_folder(folder, _CUT_SHORT)
    for folder in sorted(layout.folder.glob("checkpoints/soup-*/.*")):
        if folder.name.startswith(TRASH_PREFIX) or is_abandoned(folder):
            yield surplus_folder(folder, _DEAD)


def left_behind(layout: StudyLayout, now: float) -> Iterator[Surplus]:
    """What dead drivers and exports left, and old evidence of torn writes; nobody drives the study.

    Args:
        layout: The study.
        now: Unix seconds.
    """
    yield from of_dead_drivers(layout)
    for folder in sorted(layout.exports.glob(".*-*")):
        if not folder.match(".trial-*-*"):
            yield surplus_folder(folder, _CUT_SHORT)
    for path in sorted(layout.history.glob("*-torn-at-*.bin")):
        if now - path.stat().st_mtime > EVIDENCE_SECONDS:
            yield surplus_file(path, "the torn end of a history, long ago", within=layout.history)


def of_dead_preparers(layout: StudyLayout) -> Iterator[Surplus]:
    """What was left of the making of prepared data, anywhere in the study's storage."""
    for folder in _prepared(layout):
        if folder.name.startswith(TRASH_PREFIX) or (folder.name.startswith(TEMPORARY_PREFIX) and is_abandoned(folder)):
            yield surplus_folder(folder, _DEAD)


def unused_prepared(layout: StudyLayout, named: set[str]) -> Iterator[Surplus]:
    """Prepared data of a storage that no study names, and what was left of its making; nobody uses it.

    Args:
        layout: A study of the storage.
        named: Names of the folders that the storage's studies name.
    """
    yield from of_dead_preparers(layout)
    for folder in _prepared(layout):
        is_hidden = folder.name.startswith((TRASH_PREFIX, TEMPORARY_PREFIX))
        if not is_hidden and (folder / MANIFEST_NAME).exists() and folder.name not in named:
            yield surplus_folder(folder, "prepared data that no study of this storage names")


def keep_room_for_notes(log: Path) -> None:
    """Reserve room beside an audit, as far as there is room: a full disk cannot be freed without a note of it."""
    with suppress(OSError), _reserve(log).open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def remove_audited(surplus: Sequence[Surplus], log: Path, now: float) -> None:
    """Remove what nobody needs; each removal stands durably in the log before it happens.

    Raises:
        CheckpointError: If there is no room for the note of a removal, or a checkpoint cannot be made slim.
        OSError: If the log cannot be written for another reason.
    """
    with log.open("ab", buffering=0) as file:
        for item in surplus:
            line = {"at": now, "path": str(item.path), "bytes": item.disk_bytes, "reason": item.reason}
            _note(file.fileno(), log, json.dumps(line).encode() + b"\n")
            item.remove()
    keep_room_for_notes(log)


def committed_bytes(layout: StudyLayout) -> int:
    """What the manifests of a study's checkpoints say they hold, with the manifests themselves."""
    total = 0
    for folder in layout.checkpoints(0).parent.glob("*/[!.]*"):
        if step_of(folder) is None and not folder.parent.name.startswith("soup-"):
            continue
        try:
            files = read_manifest(folder, verify=False).files
            total += sum(entry.bytes for entry in files.values()) + (folder / MANIFEST_NAME).stat().st_size
        except (CheckpointError, FileNotFoundError):
            continue
    return total


def _append(descriptor: int, text: bytes) -> None:
    """Append durably, whole or not at all."""
    size = os.fstat(descriptor).st_size
    try:
        left = memoryview(text)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _note(descriptor: int, log: Path, text: bytes) -> None:
    try:
        try:
            _append(descriptor, text)
        except OSError as err:
            if not is_disk_full(err):
                raise
            _reserve(log).unlink(missing_ok=True)
            _append(descriptor, text)
    except OSError as err:
        if not is_disk_full(err):
            raise
        raise CheckpointError(
            f"{log}: no room for the note of a removal ({err.strerror}), so nothing more is removed. "
            "Free a few kilobytes by hand, then try again."
        ) from err


def _reserve(log: Path) -> Path:
    return log.with_suffix(".reserve")


def _prepared(layout: StudyLayout) -> list[Path]:
    return sorted(layout.prepared.iterdir()) if layout.prepared.is_dir() else []


def _is_being_written(path: Path) -> bool:
    """Whether the process of this host that a temporary file names is alive."""
    _, _, pid = path.name.rpartition("-")
    return pid.isdecimal() and psutil.pid_exists(int(pid))
