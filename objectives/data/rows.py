"""Rows of a table by the parts they play, cleaned and checked."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.errors import InvalidDataError

_CHUNK_ROWS = 4096
_LONGEST_SHOWN = 60
_LONGEST_TEXT = 200
_NO_WORDS = re.compile(r"[\W_]+")

Cell = Callable[[Any, str, str], Any]
"""Turns a cell into the value that a task works with; takes the cell, its place for messages, and the column's part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of a split.

    Attributes:
        columns: Values by the part that a column plays for the task (``text``, ``label`` …), all of one length.
        origin: Where they come from, for messages.
        dropped: Rows left out because something was empty.
        start: Place of the first row in its split, where these are only some of it.
    """

    columns: Mapping[str, Sequence[Any]]
    origin: str
    dropped: int = 0
    start: int = 0

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, part: str) -> Sequence[Any]:
        return self.columns[part]

    def take(self, indices: Sequence[int]) -> Rows:
        """The rows at ``indices``, in that order."""
        return Rows(columns={name: [c[i] for i in indices] for name, c in self.columns.items()}, origin=self.origin)

    def chunks(self) -> Iterator[Rows]:
        """The rows, some at a time."""
        for start in range(0, len(self), _CHUNK_ROWS):
            part = {name: values[start : start + _CHUNK_ROWS] for name, values in self.columns.items()}
            yield Rows(columns=part, origin=self.origin, start=start)

    def records(self) -> list[dict[str, Any]]:
        """The rows as values by part."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]

    def digest(self) -> str:
        """sha256 over the content, in order."""
        hasher = hashlib.sha256()
        for record in (record for chunk in self.chunks() for record in chunk.records()):
            hasher.update(f"{json.dumps(record, sort_keys=True)}\n".encode())
        return hasher.hexdigest()


def clean_rows(
    columns: Mapping[str, Sequence[Any]], origin: str, cells: Mapping[str, Cell], may_be_empty: Sequence[str] = ()
) -> Rows:
    """Drop rows in which something is empty (None, NaN, blanks, an empty list); turn the others' cells into values.

    Args:
        columns: Cells by the part that a column plays.
        origin: Where they come from, for messages.
        cells: What becomes of a cell, by part; an error of it names row and remedy.
        may_be_empty: Parts of which an empty cell is a value.

    Raises:
        InvalidDataError: If nothing is left, or a cell is not what it should be.
    """
    used = {part: columns[part] for part in cells if part in columns}
    kept: dict[str, list[Any]] = {part: [] for part in used}
    count = 0
    for count, row in enumerate(zip(*used.values(), strict=True), start=1):
        if any(is_empty(cell) for part, cell in zip(used, row, strict=True) if part not in may_be_empty):
            continue
        values = [cells[part](cell, f"{origin}: row {count}", part) for part, cell in zip(used, row, strict=True)]
        for part, value in zip(used, values, strict=True):
            kept[part].append(value)
    if not count:
        raise InvalidDataError(f"{origin}: no rows. Give a file that has some.")
    rows = Rows(columns=kept, origin=origin, dropped=count - len(next(iter(kept.values()))))
    if not len(rows):
        needed = [part for part in used if part not in may_be_empty]
        keys = " and ".join(f"`data.{part}`" for part in needed)
        raise InvalidDataError(f"{origin}: in all {count} rows {' or '.join(needed)} is empty. Check {keys}.")
    return rows


def text_cell(cell: Any, place: str, part: str) -> str:
    """A text.

    Raises:
        InvalidDataError: If it is none, or holds half of a character.
    """
    if not isinstance(cell, str):
        raise InvalidDataError(
            f"{place}: the {part} is {shown(cell)}, of type {type(cell).__name__}. "
            f"Name the column that holds text with `data.{part}`."
        )
    return whole_characters(cell, place, part)


def whole_characters(value: str, place: str, part: str) -> str:
    """A text that any tokenizer takes.

    Raises:
        InvalidDataError: If it holds half of a character.
    """
    try:
        value.encode()
    except UnicodeEncodeError as err:
        raise InvalidDataError(
            f"{place}: the {part} {shown(value)} holds half of a character (a lone surrogate), "
            "which no tokenizer takes. Remove it, or write the whole character."
        ) from err
    return value


def words_alone(text: str) -> str:
    """A text without what near copies differ in: case, blanks, punctuation, width of letters; itself if all is that."""
    return _NO_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip() or text


def is_empty(cell: Any) -> bool:
    """Whether there is nothing in a cell: None, NaN, blanks, an empty list."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return True
    return not cell.strip() if isinstance(cell, str) else isinstance(cell, list | tuple) and not cell


def shown(value: Any) -> str:
    """A value as it reads in a message: on one line, cut where it is long."""
    if isinstance(value, list | tuple | dict):
        return "{…}" if isinstance(value, dict) else "[…]"
    text = repr(value[: _LONGEST_SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def shortened(text: str) -> str:
    """A text for a person to recognise it by: on one line, cut where it is long, without half characters."""
    line = " ".join(text[: 4 * _LONGEST_TEXT].split()).encode("utf-8", "replace").decode("utf-8")
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"
