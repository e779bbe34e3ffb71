"""Reading rows from csv, tsv, jsonl, json and parquet files, with errors that name the line."""

from __future__ import annotations

import csv
import difflib
import functools
import io
import json
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from objectives.data.rows import Rows, shown
from objectives.data.tables import parquet_parts, reason_of, table_rows
from sweep.errors import InvalidDataError

T = TypeVar("T")
Columns = dict[str, list[Any]]

Parser = Callable[[Path, str], Columns | None]
"""Makes columns, by the parts they play, of a file's path and text; None if the file is an ordinary table."""


class Folder(Protocol):
    """Reads a folder in the place of a file."""

    def read(self, folder: Path, names: Mapping[str, str]) -> tuple[Path, Columns]:
        """Columns by part, and where paths in them start; see :class:`objectives.data.folders.FolderFormat`."""
        ...


_MOST_COMPARED = 1000
GZIP = b"\x1f\x8b"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_files(
    paths: Sequence[str],
    names: Mapping[str, str],
    clean: Callable[[Columns, str], Rows],
    formats: Mapping[str, Parser] = MappingProxyType({}),
    folder: Folder | None = None,
) -> Rows:
    """Rows of one or more files, one after another.

    Args:
        paths: Files; the suffix tells the format.
        names: Columns by the parts they play.
        clean: Makes rows of the columns, by part, of a file.
        formats: Further formats by suffix, or others for a suffix that is known: from text to columns by part.
        folder: Reads what is a folder; see :mod:`objectives.data.folders`.

    Raises:
        InvalidDataError: If a file cannot be read, lacks a column or has nothing to learn from.
    """
    found = []
    for path in map(Path, paths):
        if folder is not None and path.is_dir():
            origin, columns = folder.read(path, names)
        else:
            origin, columns = path, read_columns(path, names, formats)
        found.append(clean(columns, str(origin)))
    return Rows(
        columns={part: [value for rows in found for value in rows[part]] for part in found[0].columns},
        origin=", ".join(map(str, paths)),
        dropped=sum(rows.dropped for rows in found),
    )


def read_columns(path: Path, names: Mapping[str, str], formats: Mapping[str, Parser] = MappingProxyType({})) -> Columns:
    """The cells of a file, by the parts that their columns play; see :func:`read_files`."""
    parse = formats.get(path.suffix.lower())
    columns = None if parse is None else _guarded(path, functools.partial(_parsed, path, parse))
    if columns is not None:
        return columns
    table = _guarded(path, _reader(path, list(names.values()), formats))
    if not any(table.values()):
        raise InvalidDataError(f"{path}: no rows. Give a file that has some.")
    return {part: pick(table, name, part, str(path)) for part, name in names.items()}


def pick(columns: Columns, name: str, key: str, origin: str) -> list[Any]:
    """A column by name.

    Raises:
        InvalidDataError: If it is missing; names the columns found and the nearest.
    """
    if name in columns:
        return columns[name]
    found = [str(c) for c in columns]
    near = difflib.get_close_matches(name, found[:_MOST_COMPARED], n=1) or [
        c for c in found if c.lower() == name.lower()
    ]
    hint = f" Did you mean {shown(near[0])}?" if near else ""
    listed = ", ".join(map(shown, found[:12])) or "none"
    raise InvalidDataError(
        f"{origin}: no column {name!r}; columns found: {listed}.{hint} Set `data.{key}` to the right one."
    )


def _reader(path: Path, wanted: Sequence[str], formats: Mapping[str, Parser]) -> Callable[[], Columns]:
    readers = {
        ".csv": lambda: _delimited(path, ","),
        ".tsv": lambda: _delimited(path, "\t"),
        ".jsonl": lambda: _json_lines(path),
        ".json": lambda: _json(path),
        ".parquet": lambda: _parquet(path, wanted),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join([*readers, *formats])
        raise InvalidDataError(f"{path}: unknown format {path.suffix!r}. Use one of {known}.")
    return reader


def _parsed(path: Path, parse: Parser) -> Columns | None:
    return parse(path, decoded(path))


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        check_regular(path)
        return read()
    except OSError as err:
        raise InvalidDataError(f"{path}: cannot be read ({err.strerror or err}). Check path and rights.") from err


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: a pipe waits for ever, a device may never end.

    Raises:
        InvalidDataError: If it is none.
        OSError: If there is nothing of that name.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise InvalidDataError(f"{path}: is a folder. Name the files in it.")
    if not stat.S_ISREG(mode):
        raise InvalidDataError(f"{path}: is no regular file. Write what it gives to a file, and name that.")


def decoded(path: Path) -> str:
    """A file's text.

    Raises:
        InvalidDataError: If it is empty or not UTF-8.
    """
    raw = path.read_bytes()
    if not raw.strip():
        raise InvalidDataError(f"{path}: the file is empty. Give a file that has rows.")
    if raw.startswith(GZIP):
        raise InvalidDataError(f"{path}: is compressed by gzip. Unpack it, for example `gzip -dc`.")
    if raw.startswith(UTF_16) or b"\0" in raw:
        raise not_text(path, max(0, raw.find(0)))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise not_utf_8(path, err.start, err, raw.count(b"\n", 0, err.start) + 1) from err


def not_text(path: Path, byte: int) -> InvalidDataError:
    """The error for a file that is no text, which a byte shows."""
    remedy = f"Convert it, for example `iconv -f utf-16 -t utf-8 {path.name}`"
    return InvalidDataError(f"{path}: is UTF-16 or no text: byte {byte} is not UTF-8 text. {remedy}.")


def not_utf_8(path: Path, byte: int, err: UnicodeDecodeError, line: int) -> InvalidDataError:
    """The error for a byte that is none of UTF-8."""
    return InvalidDataError(
        f"{path}: byte {byte} (0x{err.object[err.start]:02x}, line {line}) is not UTF-8. "
        f"Convert it, for example `iconv -f latin1 -t utf-8 {path.name}`."
    )


def not_json(path: Path, line: int, err: Exception) -> InvalidDataError:
    """The error for a line that is no JSON."""
    return InvalidDataError(f"{path}:{line}: not JSON ({reason_of(err)}). Write one JSON object a line.")


def _delimited(path: Path, delimiter: str) -> Columns:
    content = decoded(path)
    if delimiter != "\t":
        return _table(path, content, delimiter, csv.QUOTE_MINIMAL)
    # Many tab-separated files hold bare quotes and quote nothing: what quotes would then join are rows of their own.
    try:
        plain = _table(path, content, delimiter, csv.QUOTE_NONE)
    except InvalidDataError:
        return _table(path, content, delimiter, csv.QUOTE_MINIMAL)
    try:
        quoted = _table(path, content, delimiter, csv.QUOTE_MINIMAL)
    except InvalidDataError:
        return plain
    return plain if _height(plain) > _height(quoted) else quoted


def _height(columns: Columns) -> int:
    return max(map(len, columns.values()), default=0)


def _table(path: Path, content: str, delimiter: str, quoting: Any) -> Columns:
    found = list(table_rows(path, io.StringIO(content, newline=""), delimiter, quoting))
    return {name: [row[i] for row in found[1:]] for i, name in enumerate(found[0])} if found else {}


def _json_lines(path: Path) -> Columns:
    records = []
    # Not splitlines(): JSON text may hold U+2028 unescaped.
    for number, line in enumerate(decoded(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as err:
            raise not_json(path, number, err) from err
        if not isinstance(records[-1], dict):
            raise InvalidDataError(f"{path}:{number}: not a JSON object. Write one JSON object a line.")
    return _columns(records)


def _json(path: Path) -> Columns:
    content = decoded(path)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as err:
        try:
            return _json_lines(path)
        except InvalidDataError:
            raise InvalidDataError(f"{path}: not JSON ({reason_of(err)}). Write a list of objects.") from err
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if isinstance(value, dict) and value and all(isinstance(v, list) for v in value.values()):
        if len({len(v) for v in value.values()}) > 1:
            raise InvalidDataError(f"{path}: columns of different lengths. Write a list of objects.")
        return value
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise InvalidDataError(f"{path}: neither a list of objects nor an object of columns. Write a list of objects.")
    return _columns(value)


def _columns(records: Iterable[dict[str, Any]]) -> Columns:
    records = list(records)
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _parquet(path: Path, wanted: Sequence[str]) -> Columns:
    first, *others = parquet_parts(path, wanted)
    for part in others:
        for name, cells in part.items():
            first[name] += cells
    return first
