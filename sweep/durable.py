"""Making durable what the disk may still hold in its memory."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable: which files it has, and by what names.

    Raises:
        OSError: If the folder cannot be opened or synced.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
