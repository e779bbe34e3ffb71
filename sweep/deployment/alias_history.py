"""How an alias of the registry moved, so that the way back is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 100
"""Moves that are remembered; MLflow bounds the length of a tag."""

Entry = Mapping[str, Any]
"""``{kind: promote | rollback | found, version, from, at, by, why}``; ``from`` is the version before, or None."""


def settled(history: Sequence[Entry], current: int | None) -> list[Entry]:
    """The history, in agreement with where the alias is.

    A last move that was written down and then not made is dropped; one that somebody else made is added.

    Args:
        history: As stored, oldest first.
        current: The version that the alias names now, or None.
    """
    entries = list(history)
    last = entries[-1] if entries else None
    if last is not None and last["version"] != current and last["from"] == current:
        entries.pop()
        last = entries[-1] if entries else None
    if current is not None and (last is None or last["version"] != current):
        before = None if last is None else last["version"]
        why = "moved by somebody else"
        entries.append({"kind": "found", "version": current, "from": before, "at": None, "by": None, "why": why})
    return entries


def earlier(history: Sequence[Entry]) -> list[int]:
    """Versions to go back to, the nearest first.

    A rollback takes the champion off the stack of those before it, so the next one goes further back, not forth again.
    """
    stack: list[int] = []
    for entry in history:
        if entry["kind"] == "rollback":
            while stack and stack[-1] != entry["version"]:
                stack.pop()
        if not stack or stack[-1] != entry["version"]:
            stack.append(entry["version"])
    return stack[-2::-1] if len(stack) > 1 else []


def moved(history: Sequence[Entry], kind: str, version: int, *, at: str, by: str, why: str) -> list[dict[str, Any]]:
    """The history with one more move."""
    before = history[-1]["version"] if history else None
    entry = {"kind": kind, "version": version, "from": before, "at": at, "by": by, "why": why}
    return [*map(dict, history), entry][-_LONGEST:]
