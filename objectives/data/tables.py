"""Tables read some rows at a time: csv and its kin, and parquet."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from objectives.data.rows import shown
from sweep.errors import InvalidDataError

_LONGEST_FIELD = 2**31 - 1
_OTHER_SEPARATORS = (";", "\t", "|", ",")
_PART_ROWS = 1024
_BUFFER_BYTES = 2**20


def table_rows(
    path: Path, lines: Iterable[str], delimiter: str = ",", quoting: Any = csv.QUOTE_MINIMAL
) -> Iterator[list[str]]:
    """The rows of a table, the header first.

    Args:
        path: Its file, for messages.
        lines: Its text, cut behind line ends alone.
        delimiter: Between fields.
        quoting: As the csv module has it.

    Raises:
        InvalidDataError: If it is no table.
    """
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] | None = None
    usual_limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        for row in reader:
            if not row:
                continue
            if header is None:
                header = row = [name.strip() for name in row]
                _check_header(path, header, delimiter)
            elif len(row) != len(header):
                raise InvalidDataError(
                    f"{path}:{reader.line_num}: {len(row)} fields where the header has {len(header)}. "
                    f"Quote fields that contain {delimiter!r} or a line break."
                )
            yield row
    except csv.Error as err:
        raise InvalidDataError(f"{path}:{reader.line_num}: {reason_of(err)}. Close and double the quotes.") from err
    finally:
        csv.field_size_limit(usual_limit)


def _check_header(path: Path, header: Sequence[str], delimiter: str) -> None:
    other = next((mark for mark in _OTHER_SEPARATORS if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        remedy = "name it .tsv" if other == "\t" else f"separate by {delimiter!r}"
        raise InvalidDataError(
            f"{path}:1: the one column {shown(header[0])} seems to be several, separated by {other!r} and not by "
            f"{delimiter!r}. Convert the file: {remedy}."
        )
    double = next((name for name, count in Counter(header).items() if count > 1), None)
    if double is not None:
        raise InvalidDataError(f"{path}:1: the header names {shown(double)} twice. Rename one of them.")


def parquet_parts(path: Path, wanted: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """The columns of a parquet file, some rows at a time after a part without rows; None for what is not wanted.

    Raises:
        InvalidDataError: If it cannot be read.
    """
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    with path.open("rb") as stream:
        try:
            # A buffer: without one, a column is read as far as its row group goes.
            file = pyarrow.parquet.ParquetFile(stream, buffer_size=_BUFFER_BYTES)
            names = file.schema_arrow.names
            double = next((name for name in wanted if names.count(name) > 1), None)
            if double is not None:
                raise InvalidDataError(f"{path}: two columns have the name {shown(double)}. Rename one of them.")
            yield {name: [] for name in names}
            # The others may hold what Python cannot: dates beyond the year 9999, say.
            for batch in file.iter_batches(_PART_ROWS, columns=[name for name in names if name in wanted]):
                found = batch.to_pydict()
                yield {name: found.get(name, [None] * batch.num_rows) for name in names}
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as err:
            raise InvalidDataError(f"{path}: not a readable parquet file ({reason_of(err)}). Write it again.") from err


def reason_of(err: Exception) -> str:
    """An error's text on one printable line."""
    flat = " ".join(str(err).split())[:200]
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in flat)
