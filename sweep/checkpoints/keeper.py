"""Which checkpoints of a trial stay on disk."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sweep.checkpoints.commit import TEMPORARY_PREFIX, TRASH_PREFIX, discard, is_abandoned
from sweep.checkpoints.manifest import MANIFEST_NAME, drop, read_manifest
from sweep.errors import CheckpointError

STATE_PREFIX = "state/"
"""Files needed to continue training; without them a checkpoint is only a model."""

_STEP_FOLDER = re.compile(r"step-(\d{8,})")


def step_folder(trial_folder: Path, step: int) -> Path:
    """Folder of a trial's checkpoint at an optimizer step: ``step-00000012``."""
    return trial_folder / f"step-{step:08d}"


def step_of(folder: Path) -> int | None:
    """The optimizer step of a checkpoint's folder, or None for another folder."""
    match = _STEP_FOLDER.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def model_folder(checkpoint: Path) -> Path:
    """The part of a checkpoint that loads as a model: weights, tokenizer, config."""
    return checkpoint / "model"


class FolderKeeper:
    """The one owner of retention, on a file system.

    Args:
        folder_of: Folder of a trial's checkpoints by trial number.
    """

    def __init__(self, folder_of: Callable[[int], Path]) -> None:
        self._folder_of = folder_of
        self._damaged: set[tuple[Path, int, int]] = set()

    def newest(self, trial_number: int) -> str | None:
        """Folder of the newest intact resumable checkpoint of a trial, or None.

        Every file is hashed; a damaged checkpoint is passed over and deleted by the next :meth:`keep`.
        """
        steps = dict(_steps(self._folder_of(trial_number)))
        for step in sorted(steps, reverse=True):
            folder = steps[step]
            try:
                if not _is_resumable(folder):
                    continue
                read_manifest(folder)
            except CheckpointError:
                self._damaged.add(_identity(folder))
                continue
            return str(folder)
        return None

    def keep(self, trial_number: int, resumable: set[int], weights: set[int]) -> None:
        """Keep the full checkpoints of steps ``resumable`` and the models of ``weights``; delete the rest.

        While there is something to resume, checkpoints of later steps stay too: their reports are on the
        way. Whatever crashed writers left behind is deleted, and so are damaged checkpoints.
        """
        trial_folder = self._folder_of(trial_number)
        if not trial_folder.is_dir():
            return
        on_the_way = max(resumable, default=None)
        for step, folder in _steps(trial_folder):
            is_full = step in resumable or (on_the_way is not None and step > on_the_way)
            if not is_full and step not in weights:
                discard(folder)
                continue
            try:
                if _identity(folder) in self._damaged:
                    raise CheckpointError(f"{folder}: damaged.")
                if not is_full:
                    drop(folder, STATE_PREFIX)
                _clean(folder)
            except CheckpointError:
                discard(folder)
        for folder in _hidden(trial_folder):
            if folder.name.startswith(TRASH_PREFIX) or is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _steps(trial_folder: Path) -> Iterator[tuple[int, Path]]:
    if trial_folder.is_dir():
        for folder in sorted(trial_folder.iterdir()):
            step = step_of(folder)
            if step is not None:
                yield step, folder


def _hidden(trial_folder: Path) -> list[Path]:
    prefixes = (TEMPORARY_PREFIX, TRASH_PREFIX)
    return [folder for folder in trial_folder.iterdir() if folder.name.startswith(prefixes)]


def _is_resumable(folder: Path) -> bool:
    return any(name.startswith(STATE_PREFIX) for name in read_manifest(folder, verify=False).files)


def _identity(folder: Path) -> tuple[Path, int, int]:
    """Tells a checkpoint from one that later took its place."""
    try:
        status = (folder / MANIFEST_NAME).stat()
    except OSError:
        return folder, 0, 0
    return folder, status.st_ino, status.st_mtime_ns


def _clean(folder: Path) -> None:
    """Delete files of a committed checkpoint that its manifest does not name."""
    named = {MANIFEST_NAME, *read_manifest(folder, verify=False).files}
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(root) / name
            if path.relative_to(folder).as_posix() not in named:
                path.unlink(missing_ok=True)
        if Path(root) != folder and not os.listdir(root):
            os.rmdir(root)
