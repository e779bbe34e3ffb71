"""The studies of a storage, as they are on disk now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import StudyNotFoundError
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

    def spec(self, study: str) -> StudySpec:
        """The spec of a study.

        Raises:
            SweepError: If there is none, or it cannot be read.
        """
        return read_spec(self.layout(study))
