"""The tasks there are: what each task's file declares at its top, read without importing it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import annotated_types

from sweep.spec.rules import BUNDLED_MODELS
from sweep.spec.values import Shape

_PACKAGE = "objectives.tasks"
_NAMES = ("METRICS", "COLUMNS", "SETTINGS", "EXTENSIONS", "UNUSED", "EXAMPLE", "MODEL", "FOLDER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A training setting that one task has.

    Attributes:
        default: Its value where the spec has none; its type is the setting's.
        choices: The words that it may be; empty where it is no word of a few.
        low: Smallest value.
        high: Largest value.
        help: What it does, in a few words.
    """

    default: str | bool | float
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    help: str = ""

    @property
    def shape(self) -> Shape:
        """What its key may hold."""
        if self.choices:
            return Shape("word", options=self.choices)
        kinds: Mapping[type, Literal["bool", "int", "float", "text"]]
        kinds = {bool: "bool", int: "int", float: "float", str: "text"}
        return Shape(kinds[type(self.default)])

    @property
    def bounds(self) -> list[Any]:
        """Its bounds, as :func:`sweep.spec.bounds.check` takes them."""
        low = [] if self.low is None else [annotated_types.Ge(self.low)]
        return [*low, *([] if self.high is None else [annotated_types.Le(self.high)])]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSheet:
    """What a task's file declares.

    Attributes:
        metrics: Metrics that an evaluation reports, with the direction that is better; the first is the usual one.
        columns: Parts that columns of the data play, with their usual names; None for a part that is left out unless
            its column is named.
        settings: Training settings that it has besides the common ones.
        extensions: Extensions of data files that the task reads besides the usual ones.
        unused: Common training settings that do nothing for it.
        example: A row of its data, by the usual names of the columns.
        folder: Pattern of what a folder holds that the task reads; None if it reads files alone.
        model: Reference of a model to begin with.
        about: What goes in and what comes out.
    """

    metrics: Mapping[str, Literal["minimize", "maximize"]]
    columns: Mapping[str, str | None]
    settings: Mapping[str, Setting]
    extensions: tuple[str, ...]
    unused: frozenset[str] = frozenset()
    example: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None
    model: str = BUNDLED_MODELS[0]
    about: str = ""


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
                settings={name: _setting(value) for name, value in declared.get("SETTINGS", {}).items()},
                extensions=tuple(declared.get("EXTENSIONS", ())),
                unused=frozenset(declared.get("UNUSED", ())),
                example=declared.get("EXAMPLE", {}),
                folder=declared.get("FOLDER"),
                model=declared.get("MODEL", BUNDLED_MODELS[0]),
                about=_about(declared["__doc__"]),
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
        settings={},
        extensions=tuple(dict.fromkeys(end for sheet in sheets.values() for end in sheet.extensions)),
    )


def _setting(declared: Any) -> Setting:
    return Setting(**{**declared, "choices": tuple(declared.get("choices", ()))})


def _about(docstring: str) -> str:
    """The first sentence, without the task's name before it."""
    first = docstring.partition("\n")[0]
    return (first.partition(": ")[2] or first).rstrip(".")


def _declared(file: Path) -> dict[str, Any]:
    tree = ast.parse(file.read_bytes())
    found: dict[str, Any] = {"__doc__": ast.get_docstring(tree) or ""}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(name := node.targets[0], ast.Name) and name.id in _NAMES:
            try:
                found[name.id] = ast.literal_eval(node.value)
            except ValueError as err:
                raise ValueError(f"{file}:{node.lineno}: {name.id} is not a literal. Write its values out.") from err
    return found
