"""Which keys there are, where they live, and what was meant by one that there is not."""

from __future__ import annotations

from functools import cache
from typing import get_args

from pydantic import BaseModel

from sweep.spec.model import StudySpec, TrainingSpec
from sweep.spec.problems import nearest
from sweep.spec.tasks import sheet_of

RANGE_KEYS = ("low", "high", "log", "step", "choices")
OUTSIDE_YAML = frozenset({"extra", "space", "references", "columns"})  # fields that are no keys
NOT_SEARCHED = frozenset({"evaluate_every"})
SHORTHANDS = {
    "objective.data": "source",
    "search.sampler": "name",
    "search.pruner": "name",
    "metric": "name",
    "on.oom": "halvings",
    "on.diverged": "told",
    "on.timeout": "retries",
    "on.failed": "retries",
    "on.lost": "retries",
}


def searchable() -> list[str]:
    """Training settings that may be searched."""
    return [name for name in TrainingSpec.model_fields if name not in OUTSIDE_YAML | NOT_SEARCHED]


def remedy_for(key: str, path: str, known: list[str]) -> str:
    """What to do about an unknown key.

    Args:
        key: The key.
        path: Of the section it was found in.
        known: Keys of that section.
    """
    meant = nearest(key, known)
    home = _homes().get(key)
    if home is not None and home != path and path.count(".") < 2:
        return f"Move it to {home}." if home else "Move it to the top level."
    return f"Did you mean {meant}?" if meant else f"Known keys: {', '.join(known)}."


@cache
def _homes() -> dict[str, str]:
    """Section of each key, for keys that live in one section only."""
    homes: dict[str, list[str]] = {}

    def walk(part: type[BaseModel], path: str) -> None:
        for name, info in part.model_fields.items():
            if name in OUTSIDE_YAML:
                continue
            key = info.serialization_alias or name
            homes.setdefault(key, []).append(path)
            for kind in (info.annotation, *get_args(info.annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    walk(kind, f"{path}.{key}" if path else key)

    walk(StudySpec, "")
    for part in sheet_of("").columns:
        homes.setdefault(part, []).append("objective.data")
    return {key: paths[0] for key, paths in homes.items() if len(paths) == 1}
