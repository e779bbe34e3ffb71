"""The tasks there are: what each task's file declares at its top, read without importing it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

_PACKAGE = "objectives.tasks"
_NAMES = ("METRICS", "COLUMNS", "EXTENSIONS")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSheet:
    """What a task's file declares.

    Attributes:
        metrics: Metrics that an evaluation reports, with the direction that is better; the first is the usual one.
        columns: Parts that columns of the data play, with their usual names; None for a part that is left out unless
            its column is named.
        extensions: Extensions of data files that the task reads besides the usual ones.
    """

    metrics: Mapping[str, Literal["minimize", "maximize"]]
    columns: Mapping[str, str | None]
    extensions: tuple[str, ...]


@cache
def task_sheets() -> Mapping[str, TaskSheet]:
    """All tasks by name; a file that declares no ``METRICS`` is none.

    Raises:
        ValueError: If a declaration is not a literal.
    """
    package = importlib.util.find_spec(_PACKAGE)
    folders = list(package.submodule_search_locations or ()) if package is not None else []
    found = {}
    for file in sorted(file for folder in folders for file in Path(folder).glob("*.py")):
        declared = _declared(file)
        if "METRICS" in declared:
            found[file.stem.replace("_", "-")] = TaskSheet(
                metrics=declared["METRICS"],
                columns=declared.get("COLUMNS", {}),
                extensions=tuple(declared.get("EXTENSIONS", ())),
            )
    return found


@cache
def sheet_of(task: str) -> TaskSheet:
    """What a task declares; for a user's own objective, whatever any task does."""
    sheets = task_sheets()
    if task in sheets:
        return sheets[task]
    parts = [part for sheet in sheets.values() for part in sheet.columns]
    return TaskSheet(
        metrics={name: way for sheet in sheets.values() for name, way in sheet.metrics.items()},
        columns={**dict.fromkeys(parts), "text": "text", "label": "label"},
        extensions=tuple(dict.fromkeys(end for sheet in sheets.values() for end in sheet.extensions)),
    )


def _declared(file: Path) -> dict[str, Any]:
    found = {}
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.Assign) and isinstance(name := node.targets[0], ast.Name) and name.id in _NAMES:
            try:
                found[name.id] = ast.literal_eval(node.value)
            except ValueError as err:
                raise ValueError(f"{file}:{node.lineno}: {name.id} is not a literal. Write its values out.") from err
    return found
