"""What a task needs, in words."""

from __future__ import annotations

import json

from sweep.spec.rules import DATA_EXTENSIONS
from sweep.spec.tasks import sheet_of


def formats_of(task: str) -> tuple[str, ...]:
    """Extensions of the data files that a task reads."""
    return (*DATA_EXTENSIONS, *sheet_of(task).extensions)


def needs_of(task: str) -> str:
    """One sentence: the columns that a task reads, of which files, with a row as an example."""
    sheet = sheet_of(task)
    needed = " and ".join(part for part, usual in sheet.columns.items() if usual is not None)
    besides = [part for part, usual in sheet.columns.items() if usual is None]
    perhaps = f", and {' and '.join(besides)} where data names its column" if besides else ""
    endings = ", ".join(ending.removeprefix(".") for ending in formats_of(task))
    example = json.dumps(sheet.example, ensure_ascii=False)
    folder = "" if sheet.folder is None else f" (or a folder with {sheet.folder})"
    return f"{task} reads {needed}{perhaps}, of {endings} files{folder} with rows such as {example}"
