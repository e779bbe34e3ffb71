"""Corpora: documents that stay in their files and are read some at a time, so that they may be larger than memory."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.files import (
    GZIP,
    UTF_16,
    check_regular,
    not_json,
    not_text,
    not_utf_8,
    pick,
    read_columns,
)
from objectives.data.rows import Rows, is_empty, text_cell
from objectives.data.tables import parquet_parts, table_rows
from sweep.errors import InvalidDataError

_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_BLOCK_BYTES = 2**20
_LONGEST_DOCUMENT = 2**20
_CHUNK_CHARACTERS, _CHUNK_DOCUMENTS = 2**19, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus(Rows):
    """Rows of one text each, which are in the files alone: about 100 bytes are kept of each document.

    Attributes:
        read: Begins to read all texts anew.
        count: How many there are.
        chosen: Which of them are meant, ``[texts]``; None means all.
    """

    read: Callable[[], Iterator[str]]
    count: int
    chosen: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return self.count if self.chosen is None else int(self.chosen.sum())

    def __getitem__(self, part: str) -> Sequence[Any]:
        return [text for chunk in self.chunks() for text in chunk[part]]

    def take(self, indices: Sequence[int]) -> Corpus:
        """The texts at ``indices``, in the order of the files."""
        chosen = np.zeros(self.count, dtype=np.bool_)
        chosen[np.arange(self.count)[self.chosen if self.chosen is not None else slice(None)][indices]] = True
        return replace(self, chosen=chosen, dropped=0)

    def chunks(self) -> Iterator[Rows]:
        """The texts, some at a time, read from the files."""
        texts: list[str] = []
        start = characters = 0
        for number, text in enumerate(self.read()):
            # More than were counted: the files were changed, which is refused at their end.
            if number >= self.count or (self.chosen is not None and not self.chosen[number]):
                continue
            texts.append(text)
            characters += len(text)
            if characters >= _CHUNK_CHARACTERS or len(texts) >= _CHUNK_DOCUMENTS:
                yield Rows(columns={"text": texts}, origin=self.origin, start=start)
                start, characters, texts = start + len(texts), 0, []
        if texts:
            yield Rows(columns={"text": texts}, origin=self.origin, start=start)


def open_files(paths: Sequence[str], column: str, when_read: Callable[[], None] = lambda: None) -> Corpus:
    """The documents of files, one after another; see :func:`documents_of`.

    Args:
        paths: Files; the suffix tells the format.
        column: Of the text, where files are tables.
        when_read: Called whenever they have been read; may refuse what was changed meanwhile.

    Raises:
        InvalidDataError: If a file cannot be read, or has nothing to learn from.
    """
    return open_corpus({path: partial(documents_of, Path(path), column) for path in paths}, when_read)


def open_corpus(
    parts: Mapping[str, Callable[[], Iterator[Any]]], when_read: Callable[[], None] = lambda: None
) -> Corpus:
    """The documents of several places, one after another.

    Args:
        parts: What begins to read the cells of a place anew, by its name.
        when_read: Called whenever all have been read.

    Raises:
        InvalidDataError: If a place has nothing to learn from, or a cell is no text.
    """
    count = dropped = 0
    for origin, cells in parts.items():
        rows = kept = 0
        for text in _cleaned(cells(), origin):
            rows += 1
            kept += text is not None
        if not rows:
            raise InvalidDataError(f"{origin}: no rows. Give a file that has some.")
        if not kept:
            raise InvalidDataError(f"{origin}: in all {rows} rows text is empty. Check `data.text`.")
        count, dropped = count + kept, dropped + rows - kept

    def read() -> Iterator[str]:
        for origin, cells in parts.items():
            yield from (text for text in _cleaned(cells(), origin) if text is not None)
        when_read()

    return Corpus(columns={"text": ()}, origin=", ".join(parts), dropped=dropped, read=read, count=count)


def documents_of(path: Path, column: str) -> Iterator[Any]:
    """Cells of a file's documents: paragraphs of plain text, a column of lines of JSON, or of another table.

    Text and lines of JSON, also compressed as ``.gz``, csv and parquet are read in parts; other tables are read whole.
    """
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()
    if ending in (".txt", ".txt.gz"):
        yield from paragraphs_in(text_blocks(path))
    elif ending in (".jsonl", ".jsonl.gz"):
        yield from _json_cells(path, column)
    elif ending == ".csv":
        yield from _csv_cells(path, column)
    elif ending == ".parquet":
        yield from _parquet_cells(path, column)
    else:
        yield from read_columns(path, {"text": column})["text"]


def paragraphs_in(blocks: Iterable[str]) -> Iterator[str]:
    """Paragraphs of a text that comes in parts; one of more than 2^20 characters is cut, at a line's end if it has one.

    How the text is cut into blocks makes no difference.
    """
    buffer, is_first = "", True
    for block in _with_plain_ends(blocks):
        buffer += block
        if is_first:
            buffer = buffer.lstrip("\n")
            is_first = not buffer
        place = 0
        while True:
            found = _BLANK_LINES.search(buffer, place)
            # Blanks at the end of a block may go on in the next one.
            if found is not None and found.end() < len(buffer):
                yield from _cut(buffer[place : found.start()])
                place = found.end()
            else:
                break
        buffer = buffer[place:]
        while len(buffer) > 2 * _LONGEST_DOCUMENT and not _BLANK_LINES.search(buffer, 0, _LONGEST_DOCUMENT + 2):
            piece = _first_piece(buffer)
            yield piece
            buffer = buffer[len(piece) :]
    for paragraph in _BLANK_LINES.split(buffer.rstrip("\n")):
        yield from _cut(paragraph)


def _cut(paragraph: str) -> Iterator[str]:
    while len(paragraph) > _LONGEST_DOCUMENT:
        piece = _first_piece(paragraph)
        yield piece
        paragraph = paragraph[len(piece) :]
    if paragraph.strip():
        yield paragraph


def _first_piece(text: str) -> str:
    end = text.rfind("\n", 1, _LONGEST_DOCUMENT) + 1
    return text[: end or _LONGEST_DOCUMENT]


def _with_plain_ends(blocks: Iterable[str]) -> Iterator[str]:
    """Blocks whose lines end in ``\\n`` where they ended in ``\\r\\n``."""
    held = ""
    for block in blocks:
        text = held + block
        held = "\r" if text.endswith("\r") else ""
        yield (text[:-1] if held else text).replace("\r\n", "\n")
    yield held


def text_blocks(path: Path) -> Iterator[str]:
    """A file's text, a part at a time.

    Raises:
        InvalidDataError: If it is empty, or no UTF-8 text.
    """
    is_packed = path.suffix.lower() == ".gz"
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = lines = 0
    is_blank = True
    try:
        check_regular(path)
        with gzip.open(path, "rb") if is_packed else path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                if not read and block.startswith(GZIP):
                    raise InvalidDataError(f"{path}: is compressed by gzip. Unpack it, for example `gzip -dc`.")
                if (not read and block.startswith(UTF_16)) or b"\0" in block:
                    raise not_text(path, read + max(0, block.find(0)))
                pending = len(decoder.getstate()[0])
                try:
                    text = decoder.decode(block)
                except UnicodeDecodeError as err:
                    line = lines + block.count(b"\n", 0, max(0, err.start - pending)) + 1
                    raise not_utf_8(path, read - pending + err.start, err, line) from err
                text = text.removeprefix("\ufeff") if not read else text
                read, lines = read + len(block), lines + block.count(b"\n")
                is_blank = is_blank and not text.strip()
                yield text
            try:
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as err:
                raise not_utf_8(path, read - len(decoder.getstate()[0]), err, lines + 1) from err
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise InvalidDataError(f"{path}: is no whole gzip file ({err}). Write it again.") from err
    except OSError as err:
        raise InvalidDataError(f"{path}: cannot be read ({err.strerror or err}). Check path and rights.") from err
    if is_blank:
        raise InvalidDataError(f"{path}: the file is empty. Give a file that has rows.")


def _json_cells(path: Path, column: str) -> Iterator[Any]:
    names: dict[str, None] = {}
    for number, line in enumerate(_lines(text_blocks(path)), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as err:
            raise not_json(path, number, err) from err
        if not isinstance(record, dict):
            raise InvalidDataError(f"{path}:{number}: not a JSON object. Write one JSON object a line.")
        names.update(dict.fromkeys(record))
        yield record.get(column)
    pick({name: [] for name in names}, column, "text", str(path))


def _csv_cells(path: Path, column: str) -> Iterator[str]:
    rows = table_rows(path, _lines_with_ends(text_blocks(path)))
    header = next(rows, [])
    pick({name: [] for name in header}, column, "text", str(path))
    place = header.index(column)
    yield from (row[place] for row in rows)


def _parquet_cells(path: Path, column: str) -> Iterator[Any]:
    try:
        check_regular(path)
        for part in parquet_parts(path, [column]):
            yield from pick(part, column, "text", str(path))
    except OSError as err:
        raise InvalidDataError(f"{path}: cannot be read ({err.strerror or err}). Check path and rights.") from err


def _lines_with_ends(blocks: Iterable[str]) -> Iterator[str]:
    """Lines as a file of text gives them that is opened without translation: they end in ``\\r``, too."""
    rest = ""
    for block in blocks:
        # What a block ends in may go on in the next one, after a \r too.
        *whole, rest = io.StringIO(rest + block, newline="").readlines() or [""]
        yield from whole
    yield rest


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    rest = ""
    for block in blocks:
        *whole, rest = (rest + block).split("\n")
        yield from whole
    yield rest


def _cleaned(cells: Iterable[Any], origin: str) -> Iterator[str | None]:
    """Texts of documents; None for one that is empty."""
    for number, cell in enumerate(cells, start=1):
        yield None if is_empty(cell) else text_cell(cell, f"{origin}: row {number}", "text")
