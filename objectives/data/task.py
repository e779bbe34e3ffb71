"""What a task says about its data: which columns it needs, and how their rows become numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from objectives.data.batching import Array
from objectives.data.files import Columns, Parser
from objectives.data.folders import FolderFormat
from objectives.data.rows import Rows, words_alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Rows as numbers.

    Attributes:
        ids: Token ids of each row, or what else a model reads.
        labels: Right answers; see :class:`~objectives.data.batching.TokenRows`.
        others: Further values of each example, by name.
        dtype: Of ``ids``.
    """

    ids: Sequence[Any]
    labels: Array | None = None
    others: Mapping[str, Array] = field(default_factory=dict)
    dtype: str = "int32"


class DataTask(Protocol):
    """The part of a task that its data needs; see :class:`objectives.finetune.task.Task` for the rest.

    Attributes:
        columns: The module's ``COLUMNS``: parts that columns of the data play, with their usual names; None for a
            part that is left out unless ``data`` names its column.
        answer_columns: Parts that hold the right answer; what a model sees are the others.
        formats: Further formats of data files; see :func:`objectives.data.files.read_files`.
        folder: How a folder is read in the place of a file; None is not at all.
        is_corpus: Whether a row is a text alone: files are then read some at a time and may be larger than memory.
    """

    columns: Mapping[str, str | None]
    answer_columns: Sequence[str] = ("label",)
    formats: Mapping[str, Parser] = MappingProxyType({})
    is_corpus: bool = False
    folder: FolderFormat | None = None

    def clean(self, columns: Columns, origin: str) -> Rows:
        """Make rows of a table; see :func:`objectives.data.rows.clean_rows`.

        Args:
            columns: Cells by part, as they are in the file.
            origin: The file, for messages.

        Raises:
            InvalidDataError: If a cell is not what it should be.
        """
        ...

    def files_named_in(self, file: Path, names: Mapping[str, str]) -> Sequence[Path]:
        """Further files whose content belongs to the data: those that a data file names.

        Args:
            file: The data file.
            names: Columns by the parts they play.
        """
        return ()

    def strata(self, rows: Rows) -> Sequence[str] | None:
        """A word for each row by which splits are stratified; None splits at random."""
        return None

    def gist(self, seen: str) -> str:
        """What near copies have in common of what a model sees of a row, so that they are told from new rows."""
        return words_alone(seen)

    def describe(self, splits: Mapping[str, Rows]) -> dict[str, Any]:
        """What else to know about the data, JSON-able, kept with it: at least ``labels`` and ``classes``.

        Raises:
            InvalidDataError: If the rows cannot be learnt from.
        """
        return {"labels": [], "classes": {}}

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """Turn rows into numbers, once for a study.

        Args:
            rows: Rows of a split, or some of them that follow one another: see their ``start``.
            tokenizer: Of the model.
            max_length: Most tokens that any trial will use.
            known: What :meth:`describe` found.
        """
        ...
