"""A real small file system, filled and freed at will."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_BLOCK = 4096


@dataclass(frozen=True)
class SmallDisk:
    """A mounted tmpfs."""

    root: Path

    @property
    def _ballast(self) -> Path:
        return self.root / ".ballast"

    def fill(self, leave: int = 0) -> None:
        """Write ballast until no more than so many bytes are free."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while (free := self.free_bytes) > leave:
                file.write(bytes(max(_BLOCK, free - leave)) if leave == 0 else bytes(free - leave))

    def take_away(self, count: int) -> None:
        """Take so many bytes of ballast away."""
        os.truncate(self._ballast, max(0, self._ballast.stat().st_size - count))

    def empty(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nobody may write, root no more than others."""
        subprocess.run(["mount", "-o", "remount,ro", str(self.root)], check=True)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(self.root)], check=True)

    @property
    def is_full(self) -> bool:
        """Whether the ballast is there."""
        return self._ballast.exists()

    @property
    def free_bytes(self) -> int:
        """Free for anybody."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize


@contextlib.contextmanager
def perhaps_small_disk(root: Path, megabytes: int) -> Iterator[SmallDisk | str]:
    """A tmpfs of its own at ``root``, or why it cannot be mounted; the folder is there all the same."""
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "sweep-small-disk", str(root)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        yield mounted.stderr.strip()
        return
    try:
        yield SmallDisk(root)
    finally:
        # Lazily: a process that is about to end may still have a file open.
        subprocess.run(["umount", "--lazy", str(root)], check=True)


@contextlib.contextmanager
def small_disk(root: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs of its own at ``root``; skips the test where that is not permitted."""
    with perhaps_small_disk(root, megabytes) as disk:
        if isinstance(disk, str):
            pytest.skip(f"a small file system cannot be mounted: {disk}")
        yield disk
