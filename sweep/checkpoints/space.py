"""Room on the disk: what a study needs, what it has, and why nothing more may be written."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep.layout import StudyLayout
from sweep.ports import Clock

KINDS = ("checkpoints", "exports", "artifacts", "logs", "spool", "history")
"""Folders of a study that are counted by name, in this order: bytes that two share count for the first."""

_BESIDE_TENSORS_BYTES = 2_000_000  # tokenizer, configuration, log
_PARTS_OF_A_FULL_CHECKPOINT = 3  # weights, and AdamW's two moments of each
_SECONDS_BETWEEN_GLANCES = 1.0
_LARGEST_SHARE_OF_LOOKING = 0.02
_SHARE_OF_ROOM_UNSEEN = 0.5


def head_room(checkpoint_bytes: int, running: int) -> int:
    """What running trials may still write when they are told to leave: a full checkpoint each, and what goes with it.

    Args:
        checkpoint_bytes: One resumable checkpoint.
        running: Trials side by side.
    """
    return (checkpoint_bytes + _BESIDE_TENSORS_BYTES) * running


def model_bytes(checkpoint_bytes: int) -> int:
    """Of a checkpoint that is kept as a model only."""
    return checkpoint_bytes // _PARTS_OF_A_FULL_CHECKPOINT


def needed_bytes(checkpoint_bytes: int, *, running: int, kept: int) -> int:
    """Estimate of the checkpoints that a study holds at once, with its head-room.

    A running trial holds up to three full ones (the newest, the one before to fall back on, the one being written)
    and its best model.

    Args:
        checkpoint_bytes: One resumable checkpoint.
        running: Trials side by side.
        kept: Models of finished trials that stay.
    """
    models = (running + kept) * model_bytes(checkpoint_bytes)
    return 3 * running * checkpoint_bytes + models + head_room(checkpoint_bytes, running)


def free_bytes(folder: Path) -> int:
    """Free on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def disk_use(layout: StudyLayout) -> dict[str, int]:
    """Bytes of a study's files by kind (``KINDS`` and ``other``); what hard links share is counted once."""
    seen: set[tuple[int, int]] = set()
    use = {kind: sum(_new_bytes(layout.folder / kind, seen)) for kind in KINDS}
    return {**use, "other": sum(_new_bytes(layout.folder, seen))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a study may take of the disk.

    Attributes:
        layout: The study.
        quota_bytes: Largest size of its own folder; None is unlimited.
        reserve_bytes: What must stay free on the storage's disk.
    """

    layout: StudyLayout
    quota_bytes: int | None
    reserve_bytes: int

    def objection(self, coming_bytes: int) -> str | None:
        """Why so many bytes more may not be written, with the remedy; None if they may."""
        return self.lack_of_space(coming_bytes) or self.excess(self.used_bytes(), coming_bytes)

    def lack_of_space(self, coming_bytes: int) -> str | None:
        """Likewise, by what is free on the disk alone; costs nothing."""
        free = free_bytes(self.layout.folder)
        if free - coming_bytes >= self.reserve_bytes:
            return None
        limit = f"the {_size(self.reserve_bytes)} of limits.free_disk_gb"
        coming = _coming(coming_bytes)
        return f"{self.layout.storage}: {_size(free)} are free, not {coming} and {limit}. {self._remedy('free-')}"

    def excess(self, used_bytes: int, coming_bytes: int) -> str | None:
        """Likewise, by the quota alone."""
        if self.quota_bytes is None or used_bytes + coming_bytes <= self.quota_bytes:
            return None
        used, limit = _size(used_bytes), f"the {_size(self.quota_bytes)} of limits.disk_gb"
        return (
            f"{self.layout.folder}: {used} on disk and {_coming(coming_bytes)} are more than {limit}. {self._remedy()}"
        )

    def used_bytes(self) -> int:
        """The study's size, if there is a quota; looks at each of its files."""
        return 0 if self.quota_bytes is None else sum(disk_use(self.layout).values())

    def _remedy(self, which: str = "") -> str:
        driven = (self.layout.searched or self.layout).study
        return (
            f"Free space, for one by `sweep gc {self.layout.study}`, or change the limit: in a new study's spec, or by "
            f"`sweep resume {driven} --{which}disk-gb …`"
        )


class SpaceWatch:
    """Says why a running study may write nothing more, or None.

    However often it is asked, it glances at the free space once a second. What a study of many files takes is dearer to
    know. It is looked at again before the rest of the quota can be half gone: at the pace of growth seen so far, or by
    what the whole disk has lost since, whichever comes first; else for a small share of the time.

    Args:
        allowance: What the study may take.
        coming_bytes: Head-room: what is still written after it has spoken.
        clock: Time.
    """

    def __init__(self, allowance: Allowance, coming_bytes: int, clock: Clock) -> None:
        self._allowance = allowance
        self._coming_bytes = coming_bytes
        self._clock = clock
        self._next_glance = self._next_look = clock.monotonic()
        self._looked_at = math.inf
        self._used = self._free = self._unseen = 0
        self._pace: float | None = None
        self._excess: str | None = None
        self._said: str | None = None

    def __call__(self) -> str | None:
        """What the newest glance found."""
        now = self._clock.monotonic()
        if now >= self._next_glance:
            free = free_bytes(self._allowance.layout.folder)
            if now >= self._next_look or self._free - free >= self._unseen:
                self._look(now, free)
            self._said = self._allowance.lack_of_space(self._coming_bytes) or self._excess
            self._next_glance = self._clock.monotonic() + _SECONDS_BETWEEN_GLANCES
        return self._said

    def _look(self, now: float, free: int) -> None:
        quota = self._allowance.quota_bytes
        if quota is None:
            self._next_look, self._unseen = math.inf, sys.maxsize
            return
        used = self._allowance.used_bytes()
        ended = self._clock.monotonic()
        self._excess = self._allowance.excess(used, self._coming_bytes)
        self._unseen = max(1, int(_SHARE_OF_ROOM_UNSEEN * (quota - used - self._coming_bytes)))
        pause = 0.0  # before there is a pace, nothing is known of the time that is left
        if now > self._looked_at:
            self._pace = max(self._pace or 0.0, (used - self._used) / (now - self._looked_at))
            pause = min((ended - now) / _LARGEST_SHARE_OF_LOOKING, self._unseen / max(self._pace, 1e-9))
        self._next_look, self._looked_at = ended + pause, now
        self._used, self._free = used, free


def files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Files below a folder and what is known of them; what vanishes meanwhile is left out."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from files_below(Path(entry.path))
            else:
                yield Path(entry.path), entry.stat(follow_symlinks=False)
        except OSError:
            continue


def _new_bytes(folder: Path, seen: set[tuple[int, int]]) -> Iterator[int]:
    for _, status in files_below(folder):
        inode = (status.st_dev, status.st_ino)
        if inode not in seen:
            seen.add(inode)
            yield status.st_size


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _coming(count: int) -> str:
    return f"{_size(count)} for checkpoints to come"
