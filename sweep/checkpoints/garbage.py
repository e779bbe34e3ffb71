"""Garbage in a study's folder besides its checkpoints, and the audited removal of all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.checkpoints.commit import TEMPORARY_PREFIX, TRASH_PREFIX, is_abandoned
from sweep.checkpoints.keeper import step_of
from sweep.checkpoints.manifest import MANIFEST_NAME, read_manifest
from sweep.checkpoints.surplus import Surplus, surplus_file, surplus_folder
from sweep.errors import CheckpointError, is_disk_full
from sweep.layout import StudyLayout

EVIDENCE_SECONDS = 7 * 86400.0
"""How long the torn ends of a history are kept for people to look at."""

_CUT_SHORT = "a write that was cut short"


def left_behind(layout: StudyLayout, now: float) -> Iterator[Surplus]:
    """Temporary files that processes left, and old evidence of torn writes; nobody drives the study.

    Args:
        layout: The study.
        now: Unix seconds.
    """
    for pattern in (".*.json-*", ".*.yaml-*", "control/.stop-*", "artifacts/*/.*.new"):
        for path in sorted(layout.folder.glob(pattern)):
            yield surplus_file(path, _CUT_SHORT, within=layout.folder)
    for folder in sorted(layout.exports.glob(".*-*")):
        yield surplus_folder(folder, _CUT_SHORT)
    for path in sorted(layout.history.glob("*-torn-at-*.bin")):
        if now - path.stat().st_mtime > EVIDENCE_SECONDS:
            yield surplus_file(path, "the torn end of a history, long ago", within=layout.history)


def unused_prepared(layout: StudyLayout, named: set[str]) -> Iterator[Surplus]:
    """Prepared data of a storage that no study names, and what was left of its making.

    Args:
        layout: A study of the storage.
        named: Names of the folders that the storage's studies name.
    """
    for folder in sorted(layout.prepared.iterdir()) if layout.prepared.is_dir() else []:
        if folder.name.startswith(TRASH_PREFIX) or (folder.name.startswith(TEMPORARY_PREFIX) and is_abandoned(folder)):
            yield surplus_folder(folder, "left behind by a process that died")
        elif (folder / MANIFEST_NAME).exists() and folder.name not in named:
            yield surplus_folder(folder, "prepared data that no study of this storage names")


def remove_audited(surplus: Sequence[Surplus], log: Path, now: float) -> None:
    """Remove what nobody needs; each removal stands durably in the log before it happens.

    Raises:
        CheckpointError: If a checkpoint cannot be made slim.
        OSError: If the log cannot be written.
    """
    with log.open("ab", buffering=0) as file:
        for item in surplus:
            line = {"at": now, "path": str(item.path), "bytes": item.disk_bytes, "reason": item.reason}
            text = json.dumps(line).encode() + b"\n"
            try:
                _append(file.fileno(), text)
            except OSError as err:
                if not is_disk_full(err):
                    raise
                # A disk filled to the last byte has no room for the line either, before this has gone.
                item.remove()
                _append(file.fileno(), text)
            item.remove()


def committed_bytes(layout: StudyLayout) -> int:
    """What the manifests of a study's checkpoints say they hold, with the manifests themselves."""
    total = 0
    for folder in layout.checkpoints(0).parent.glob("trial-*/*"):
        if step_of(folder) is None:
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
