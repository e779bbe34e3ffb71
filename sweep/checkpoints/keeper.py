"""Which checkpoints of a trial stay on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from sweep.checkpoints.commit import TEMPORARY_PREFIX, TRASH_PREFIX, is_abandoned
from sweep.checkpoints.manifest import MANIFEST_NAME, Manifest, drop, intact, read_manifest
from sweep.checkpoints.space import files_below
from sweep.checkpoints.surplus import Surplus, surplus_checkpoint, surplus_file, surplus_folder
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
    """The part of a checkpoint that loads as a model: weights or an adapter, tokenizer, config."""
    return checkpoint / "model"


class FolderKeeper:
    """The one owner of retention, on a file system.

    Args:
        folder_of: Folder of a trial's checkpoints by trial number.
    """

    def __init__(self, folder_of: Callable[[int], Path]) -> None:
        self._folder_of = folder_of
        self._damaged: set[tuple[Path, int, int]] = set()

    def newest(self, trial_number: int, before: int | None = None) -> str | None:
        """Folder of the newest intact resumable checkpoint of a trial, of a step below ``before``, or None.

        Every file is hashed; a damaged checkpoint is passed over and deleted by the next :meth:`keep`.
        """
        steps = self.resumable_steps(trial_number)
        step = next((step for step in steps if before is None or step < before), None)
        return None if step is None else str(step_folder(self._folder_of(trial_number), step))

    def is_intact(self, trial_number: int, step: int) -> bool:
        """Whether the checkpoint of a step is what was written there; every file is hashed."""
        return intact(step_folder(self._folder_of(trial_number), step))

    def resumable_steps(self, trial_number: int) -> Iterator[int]:
        """Steps of a trial's intact resumable checkpoints, newest first; each is hashed when it is asked for."""
        steps = dict(_steps(self._folder_of(trial_number)))
        for step in sorted(steps, reverse=True):
            try:
                if not _is_resumable(steps[step]):
                    continue
                read_manifest(steps[step])
            except CheckpointError:
                self._damaged.add(_identity(steps[step]))
                continue
            yield step

    def keep(self, trial_number: int, resumable: set[int], weights: set[int]) -> None:
        """Keep the full checkpoints of steps ``resumable`` and the models of ``weights``; delete the rest.

        While there is something to resume, checkpoints of later steps stay too: their reports are on the
        way. Whatever crashed writers left behind is deleted, and so are damaged checkpoints.

        Raises:
            CheckpointError: If a kept checkpoint cannot be made slim; it stays whole.
        """
        for surplus in self.surplus(trial_number, resumable, weights):
            surplus.remove()

    def surplus(self, trial_number: int, resumable: set[int], weights: set[int]) -> Iterator[Surplus]:
        """What :meth:`keep` deletes."""
        trial_folder = self._folder_of(trial_number)
        on_the_way = max(resumable, default=None)
        for step, folder in _steps(trial_folder):
            is_full = step in resumable or (on_the_way is not None and step > on_the_way)
            if not is_full and step not in weights:
                yield surplus_checkpoint(folder, "beyond retention")
                continue
            try:
                manifest = read_manifest(folder, verify=False)
            except CheckpointError as err:
                if _is_lasting(err):
                    yield surplus_checkpoint(folder, "damaged")
                continue
            if _identity(folder) in self._damaged:
                yield surplus_checkpoint(folder, "damaged")
                continue
            if not is_full:
                yield from _state(manifest)
            yield from _unnamed(manifest)
        for folder in _hidden(trial_folder):
            if folder.name.startswith(TRASH_PREFIX) or is_abandoned(folder):
                yield surplus_folder(folder, "left behind by a process that died")


def _steps(trial_folder: Path) -> Iterator[tuple[int, Path]]:
    if trial_folder.is_dir():
        for folder in sorted(trial_folder.iterdir()):
            step = step_of(folder)
            if step is not None:
                yield step, folder


def _hidden(folder: Path) -> list[Path]:
    prefixes = (TEMPORARY_PREFIX, TRASH_PREFIX)
    return [inner for inner in sorted(folder.iterdir()) if inner.name.startswith(prefixes)] if folder.is_dir() else []


def _is_resumable(folder: Path) -> bool:
    return any(name.startswith(STATE_PREFIX) for name in read_manifest(folder, verify=False).files)


def _identity(folder: Path) -> tuple[Path, int, int]:
    """Tells a checkpoint from one that later took its place."""
    try:
        status = (folder / MANIFEST_NAME).stat()
    except OSError:
        return folder, 0, 0
    return folder, status.st_ino, status.st_mtime_ns


def _is_lasting(error: CheckpointError) -> bool:
    """Whether a checkpoint is damaged for good, and not merely unreadable at the moment."""
    cause = error.__cause__
    return not isinstance(cause, OSError) or isinstance(cause, FileNotFoundError | NotADirectoryError)


def _state(manifest: Manifest) -> Iterator[Surplus]:
    """The part of a checkpoint that only resuming needs."""
    sizes = [entry.bytes for name, entry in manifest.files.items() if name.startswith(STATE_PREFIX)]
    if sizes:
        yield Surplus(
            path=manifest.folder / STATE_PREFIX,
            disk_bytes=sum(sizes),
            reason="kept as a model only",
            remove=lambda: drop(manifest.folder, STATE_PREFIX),
        )


def _unnamed(manifest: Manifest) -> Iterator[Surplus]:
    """Files of a committed checkpoint that its manifest does not name."""
    named = {MANIFEST_NAME, *manifest.files}
    for path, _ in files_below(manifest.folder):
        if path.relative_to(manifest.folder).as_posix() not in named:
            yield surplus_file(path, "not in its manifest", within=manifest.folder)
