"""Checkpoints on disk: atomic commit, manifest, retention."""

from sweep.checkpoints.commit import committing
from sweep.checkpoints.keeper import STATE_PREFIX, FolderKeeper, model_folder, step_folder, step_of
from sweep.checkpoints.manifest import MANIFEST_NAME, FileEntry, Manifest, drop, intact, read_manifest

__all__ = [
    "MANIFEST_NAME",
    "STATE_PREFIX",
    "FileEntry",
    "FolderKeeper",
    "Manifest",
    "committing",
    "drop",
    "intact",
    "model_folder",
    "read_manifest",
    "step_folder",
    "step_of",
]
