"""CoNLL files: a word and its tag a line, sentences parted by empty lines."""

from __future__ import annotations

from pathlib import Path

from objectives.data.files import Columns
from objectives.data.rows import shown
from sweep.errors import InvalidDataError

_DOCUMENT = "-DOCSTART-"


def read_conll(path: Path, text: str) -> Columns:
    """Sentences as lists of words and of tags; a word is a line's first field, its tag the last.

    Fields are parted by tabs, or by blanks in a line that has no tab.

    Raises:
        InvalidDataError: If a line has one field only.
    """
    tokens: list[list[str]] = [[]]
    tags: list[list[str]] = [[]]
    for number, line in enumerate(text.split("\n"), start=1):
        fields = [field.strip() for field in (line.rstrip("\r").split("\t") if "\t" in line else line.split())]
        if not any(fields) or fields[0] == _DOCUMENT:
            tokens.append([])
            tags.append([])
        elif len(fields) < 2 or not fields[0] or not fields[-1]:
            raise InvalidDataError(
                f"{path}:{number}: {shown(line)} is not a word and its tag. Write both, parted by a tab."
            )
        else:
            tokens[-1].append(fields[0])
            tags[-1].append(fields[-1])
    return {"tokens": [row for row in tokens if row], "tags": [row for row in tags if row]}
