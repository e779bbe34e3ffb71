"""Data sets that are a folder: texts sorted by label, recordings with a table of what is said in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from objectives.data.files import Columns, decoded, read_columns
from objectives.data.rows import shown
from sweep.errors import InvalidDataError

_TABLES = ("metadata.csv", "metadata.jsonl")


class FolderFormat(Protocol):
    """How a folder is read."""

    def files(self, folder: Path) -> Sequence[Path]:
        """All files that are read, in order.

        Raises:
            InvalidDataError: If the folder is not of this kind.
        """
        ...

    def read(self, folder: Path, names: Mapping[str, str]) -> tuple[Path, Columns]:
        """Cells by the parts that their columns play, and the file that paths in them are relative to.

        Args:
            folder: The folder.
            names: Columns by part.
        """
        ...


class LabelledTexts:
    """``folder/<label>/*.txt``: a row for each file."""

    def files(self, folder: Path) -> Sequence[Path]:
        """The texts, by label and name."""
        found = sorted(file for file in folder.glob("*/*.txt") if not file.name.startswith("."))
        if not found:
            raise InvalidDataError(
                f"{folder}: is a folder that holds no */*.txt. Sort texts by label: {folder.name}/LABEL/*.txt."
            )
        return [_inside(file, folder) for file in found]

    def read(self, folder: Path, names: Mapping[str, str]) -> tuple[Path, Columns]:
        """Texts and labels."""
        files = self.files(folder)
        texts = [decoded(file) if file.read_bytes().strip() else "" for file in files]
        return folder, {"text": list(texts), "label": [file.parent.name for file in files]}


class Recordings:
    """Recordings beside a ``metadata.csv`` (or ``.jsonl``) with a column ``file_name``: an AudioFolder of datasets."""

    def files(self, folder: Path) -> Sequence[Path]:
        """The table, and the recordings that it names."""
        table = self._table(folder)
        found = [table]
        for number, cell in enumerate(read_columns(table, {"audio": "file_name"})["audio"], start=1):
            file = folder / str(cell)
            if not file.is_file():
                raise InvalidDataError(
                    f"{table}: row {number}: {shown(cell)} is no file in {folder}. Correct its name."
                )
            found.append(_inside(file, folder))
        return found

    def read(self, folder: Path, names: Mapping[str, str]) -> tuple[Path, Columns]:
        """Names of recordings, relative to the table, and texts."""
        table = self._table(folder)
        return table, read_columns(table, {**names, "audio": "file_name"})

    def _table(self, folder: Path) -> Path:
        for name in _TABLES:
            if (folder / name).is_file():
                return folder / name
        raise InvalidDataError(f"{folder}: is a folder without {' or '.join(_TABLES)}. Write one: file_name and text.")


def _inside(file: Path, folder: Path) -> Path:
    if not file.resolve().is_relative_to(folder.resolve()):
        raise InvalidDataError(f"{file}: leads out of {folder}. Copy the file into the folder.")
    return file
