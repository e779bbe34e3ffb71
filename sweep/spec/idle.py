"""Refuses settings that a spec gives or searches and that would do nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from sweep.spec import rules
from sweep.spec.effects import OnlyWith
from sweep.spec.model import StudySpec
from sweep.spec.problems import BrokenRule
from sweep.spec.reading import Reader, part_of
from sweep.spec.space import Choices
from sweep.spec.tasks import sheet_of
from sweep.spec.values import shape_of

_TRAINING, _SEARCH = "objective.training", "search"


def refuse_idle(found: Mapping[str, Any], reader: Reader, task: str) -> None:
    """Add a problem for each setting without effect; its default value, written out, is none.

    Args:
        found: Nested values as :meth:`Reader.study` gives them.
        reader: Receives the problems.
        task: The study's task; a user's own objective may use any setting as it likes.
    """
    own = rules.is_own(task)
    for path, need in needs().items():
        if own and path.startswith("objective."):
            continue
        others = _values(found, need.path, reader)
        if need.path in reader.failed or any(need.fits(value) for value in others):
            continue
        has = " or ".join(
            json.dumps(value) if value is None or isinstance(value, bool) else str(value) for value in others
        )
        broken = BrokenRule(
            f"has no effect while {need.path} is {has}", f"{need.remedy}, or leave {path.rpartition('.')[2]} out"
        )
        for given in _given(found, path, reader):
            reader.blame(given, broken)
    for name in () if own else sorted(sheet_of(task).unused):
        for given in _given(found, f"{_TRAINING}.{name}", reader):
            reader.blame(given, BrokenRule(f"has no effect on {task}", f"Leave {name} out"))


@cache
def needs() -> Mapping[str, OnlyWith]:
    """What settings need, by their paths, as the sections declare it."""
    return dict(_declared(StudySpec, ""))


def _declared(part: type[BaseModel], path: str) -> Iterator[tuple[str, OnlyWith]]:
    for name, info in part.model_fields.items():
        below = f"{path}.{name}" if path else name
        yield from ((below, found) for found in info.metadata if isinstance(found, OnlyWith))
        if shape_of(info.annotation).kind == "part":
            yield from _declared(part_of(info.annotation), below)


def _given(found: Mapping[str, Any], path: str, reader: Reader) -> list[str]:
    """Where a setting is given another value than its default, or searched."""
    given = []
    if path in reader.nodes and path not in reader.failed and _at(found, path) != _default(path):
        given.append(path)
    searched = f"{_SEARCH}.{path.removeprefix(f'{_TRAINING}.')}"
    if path.startswith(_TRAINING) and searched in reader.nodes and searched not in reader.failed:
        given.append(searched)
    return given


def _values(found: Mapping[str, Any], path: str, reader: Reader) -> list[Any]:
    """The values that a setting may have in a trial."""
    fixed = _at(found, path, _default(path))
    distribution = found.get(_SEARCH, {}).get("space", {}).get(path.removeprefix(f"{_TRAINING}."))
    if distribution is None or not path.startswith(_TRAINING):
        return [fixed]
    drawn = distribution.values if isinstance(distribution, Choices) else (distribution.low, distribution.high)
    return [*drawn, *([fixed] if path in reader.nodes else [])]


def _at(found: Mapping[str, Any], path: str, default: Any = None) -> Any:
    value: Any = found
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def _default(path: str) -> Any:
    part: type[BaseModel] = StudySpec
    *parents, name = path.split(".")
    for key in parents:
        part = part_of(part.model_fields[key].annotation)
    info = part.model_fields[name]
    return None if info.is_required() else info.get_default(call_default_factory=True)
