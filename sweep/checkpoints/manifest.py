"""The commit marker of a checkpoint: which files it has, and what they contain."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sweep.durable import sync_folder
from sweep.errors import CheckpointError

MANIFEST_NAME = "manifest.json"
_FORMAT = 1
_HASH_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """What the manifest says about a file.

    Attributes:
        sha256: Hex digest of the content.
        bytes: Length of the content.
    """

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A committed checkpoint.

    Attributes:
        folder: Where it lies.
        meta: What its writer wanted to be known (step, metrics …), as JSON gives it back.
        files: Entries by path relative to the folder, with forward slashes.
    """

    folder: Path
    meta: Mapping[str, Any]
    files: Mapping[str, FileEntry]


def read_manifest(folder: Path, verify: bool = True) -> Manifest:
    """Read a checkpoint's manifest and hold its files against it.

    Files that the manifest does not name are ignored.

    Args:
        folder: The checkpoint.
        verify: Hash every file. Otherwise only existence and length are compared.

    Raises:
        CheckpointError: If the manifest is missing, torn or altered, names a path outside of the folder,
            or if a file is missing or differs from its entry.
    """
    path = folder / MANIFEST_NAME
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise CheckpointError(
            f"{folder}: no readable {MANIFEST_NAME} ({err.strerror}), so it was never committed. "
            "Use an earlier checkpoint."
        ) from err
    meta, files = _decode(path, raw)
    for name, entry in files.items():
        _check_file(folder, name, entry, verify)
    return Manifest(folder=folder, meta=meta, files=files)


def intact(folder: Path) -> bool:
    """Whether the folder is a committed checkpoint whose files are what its manifest says."""
    try:
        read_manifest(folder)
    except CheckpointError:
        return False
    return True


def drop(folder: Path, prefix: str) -> None:
    """Make a committed checkpoint slim: take the files under ``prefix`` out of it, then delete them.

    A crash in between leaves files that no reader looks at.

    Args:
        folder: The checkpoint; its content is not verified.
        prefix: Start of the relative paths to drop, such as ``state/``.

    Raises:
        CheckpointError: If the manifest cannot be read or written.
    """
    manifest = read_manifest(folder, verify=False)
    dropped = [name for name in manifest.files if name.startswith(prefix)]
    if not dropped:
        return
    try:
        write_manifest(folder, manifest.meta, {k: v for k, v in manifest.files.items() if k not in dropped})
        for name in dropped:
            (folder / name).unlink(missing_ok=True)
        for parent in sorted({p for name in dropped for p in _parents(folder, name)}, reverse=True):
            with contextlib.suppress(OSError):  # not empty: something else lives there
                parent.rmdir()
    except OSError as err:
        raise CheckpointError(
            f"{folder}: cannot drop {prefix!r} ({err.strerror}). Free space or make the folder writable."
        ) from err


def write_manifest(folder: Path, meta: Mapping[str, Any], files: Mapping[str, FileEntry]) -> None:
    """Write the manifest atomically and durably; the files must be durable before.

    Raises:
        OSError: If it cannot be written.
    """
    temporary = folder / f".{MANIFEST_NAME}.{uuid.uuid4().hex}"
    with temporary.open("wb") as stream:
        stream.write(_encode(meta, files))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / MANIFEST_NAME)
    sync_folder(folder)


def hash_file(path: Path) -> FileEntry:
    """Digest and length of a file, streamed.

    Raises:
        OSError: If it cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_HASH_BUFFER_BYTES))
    size = 0
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            size += count
    return FileEntry(sha256=digest.hexdigest(), bytes=size)


def _encode(meta: Mapping[str, Any], files: Mapping[str, FileEntry]) -> bytes:
    body = {
        "format": _FORMAT,
        "meta": dict(meta),
        "files": {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in files.items()},
    }
    seal = hashlib.sha256(json.dumps(body, ensure_ascii=False).encode()).hexdigest()
    return json.dumps(body | {"seal": seal}, ensure_ascii=False, indent=1).encode() + b"\n"


def _decode(path: Path, raw: bytes) -> tuple[dict[str, Any], dict[str, FileEntry]]:
    torn = f"{path}: torn or altered. Use an earlier checkpoint."
    try:
        body = json.loads(raw)
    except ValueError as err:
        raise CheckpointError(torn) from err
    try:
        meta = dict(body["meta"])
        files = {name: FileEntry(sha256=entry["sha256"], bytes=entry["bytes"]) for name, entry in body["files"].items()}
        # The seal covers what the files' digests do not: the metadata and the list itself.
        unaltered = raw == _encode(meta, files)
    except (KeyError, TypeError, AttributeError, ValueError) as err:
        raise CheckpointError(torn) from err
    if not unaltered:
        raise CheckpointError(torn)
    for name in files:
        if not _is_inside(name):
            raise CheckpointError(
                f"{path}: the path {name!r} leaves the checkpoint. Do not use a checkpoint of unknown origin."
            )
    return meta, files


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "/".join(parts) == name


def _check_file(folder: Path, name: str, entry: FileEntry, verify: bool) -> None:
    path = folder / name
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or any(p.is_symlink() for p in _parents(folder, name)):
            raise CheckpointError(f"{path}: must be a plain file. Use an earlier checkpoint.")
        if status.st_size != entry.bytes:
            raise CheckpointError(
                f"{path}: {status.st_size} bytes instead of the {entry.bytes} in {MANIFEST_NAME}. "
                "Use an earlier checkpoint."
            )
        if verify and hash_file(path) != entry:
            raise CheckpointError(
                f"{path}: sha256 differs from {MANIFEST_NAME}: altered content. Use an earlier checkpoint."
            )
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read ({err.strerror}). Use an earlier checkpoint.") from err


def _parents(folder: Path, name: str) -> list[Path]:
    """Sub-folders between the checkpoint and one of its files."""
    return [folder / parent for parent in PurePosixPath(name).parents if parent.parts]
