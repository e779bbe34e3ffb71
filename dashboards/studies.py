"""The studies of a storage, as they are on disk now."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import StudyNotFoundError
from sweep.search.journal import JOURNAL_NAME
from sweep.storages import Storages
from sweep.study_files import read_spec

if TYPE_CHECKING:
    from sweep.layout import StudyLayout
    from sweep.spec.model import StudySpec


@dataclass(frozen=True, slots=True)
class Studies:
    """Finds studies by name in one storage.

    Attributes:
        storage: Absolute storage root.
    """

    storage: Path

    def layouts(self) -> dict[str, StudyLayout]:
        """All studies, newest first."""
        return {layout.study: layout for layout in Storages(self.storage).studies()}

    def names(self) -> list[str]:
        """Their names, in order of the alphabet."""
        return sorted(self.layouts())

    def layout(self, study: str) -> StudyLayout:
        """Where a study lies.

        Raises:
            StudyNotFoundError: If there is none of that name.
        """
        found = self.layouts().get(study)
        if found is None:
            raise StudyNotFoundError(f"no study {study[:80]!r} in {self.storage}. See the list of studies.")
        return found

    def stamp(self, study: str) -> int:
        """Tells a study from another of its name that was removed before; good while its history is kept open.

        Raises:
            StudyNotFoundError: If there is none of that name.
        """
        layout = self.layout(study)
        # A number is given anew once its file is gone, but not while somebody has that file open.
        for path in (layout.history / JOURNAL_NAME, layout.folder):
            with contextlib.suppress(OSError):
                return path.stat().st_ino
        return 0

    def spec(self, study: str) -> StudySpec:
        """The spec of a study.

        Raises:
            SweepError: If there is none, or it cannot be read.
        """
        return read_spec(self.layout(study))
