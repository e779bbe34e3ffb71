"""Something on disk that nobody needs, and how to remove it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweep.checkpoints.commit import discard
from sweep.checkpoints.space import files_below


@dataclass(frozen=True, slots=True, kw_only=True)
class Surplus:
    """A file or folder that nobody needs.

    Attributes:
        path: Where it lies.
        disk_bytes: What removing it gives back; less, where hard links share it.
        reason: Why nobody needs it, for people.
        remove: Removes it; a second call does nothing.
    """

    path: Path
    disk_bytes: int
    reason: str
    remove: Callable[[], None]


def surplus_checkpoint(folder: Path, reason: str) -> Surplus:
    """A whole checkpoint, taken out of sight in one step."""
    return Surplus(path=folder, disk_bytes=bytes_of(folder), reason=reason, remove=lambda: discard(folder))


def surplus_folder(folder: Path, reason: str) -> Surplus:
    """A folder that no reader looks at."""
    return Surplus(
        path=folder,
        disk_bytes=bytes_of(folder),
        reason=reason,
        remove=lambda: shutil.rmtree(folder, ignore_errors=True),
    )


def surplus_file(path: Path, reason: str, *, within: Path) -> Surplus:
    """A file; folders that it leaves empty go with it, up to ``within``, which stays."""

    def remove() -> None:
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == within or not parent.is_dir() or os.listdir(parent):
                break
            parent.rmdir()

    return Surplus(path=path, disk_bytes=bytes_of(path), reason=reason, remove=remove)


def bytes_of(path: Path) -> int:
    """Length of a file, or of all files below a folder."""
    if path.is_dir() and not path.is_symlink():
        return sum(status.st_size for _, status in files_below(path))
    return path.lstat().st_size
