"""Rows of the validation and test splits that a model has already seen in training, word for word or nearly so."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.rows import Rows
from objectives.data.task import DataTask

Prints = npt.NDArray[np.uint64]
"""A hash of 8 bytes for each row, so that splits larger than memory can be compared."""


def leakage(splits: Mapping[str, Rows], task: DataTask) -> list[str]:
    """A warning for each split that shares texts with the training rows."""
    exact, alike = _prints(splits["train"], task)
    warnings = []
    for name in ("validation", "test"):
        if name not in splits:
            continue
        own = _prints(splits[name], task)
        double = np.isin(own[0], exact)
        near = np.isin(own[1], alike) & ~double
        if double.any():
            count = int(double.sum())
            warnings.append(f"{count} {name} rows have a text that is also a training text: scores will flatter.")
        if near.any():
            warnings.append(
                f"{int(near.sum())} {name} rows differ from a training text in case, blanks or punctuation alone: "
                "scores will flatter."
            )
    return warnings


def keys_of(rows: Rows, task: DataTask, *, answers: bool = False) -> Iterator[str]:
    """What a model sees of each row, or the right answer, as one text."""
    columns = [values for part, values in rows.columns.items() if (part in task.answer_columns) == answers]
    for values in zip(*columns, strict=True) if columns else itertools.repeat((), len(rows)):
        yield values[0] if len(values) == 1 and isinstance(values[0], str) else json.dumps(values, ensure_ascii=False)


def _prints(rows: Rows, task: DataTask) -> tuple[Prints, Prints]:
    """Of what a model sees of each row, and of its gist."""
    exact, gist = np.empty(len(rows), dtype=np.uint64), np.empty(len(rows), dtype=np.uint64)
    for chunk in rows.chunks():
        for row, key in enumerate(keys_of(chunk, task), start=chunk.start):
            exact[row], gist[row] = _print(key), _print(task.gist(key))
    return exact, gist


def _print(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())


def contradicted(splits: Mapping[str, Rows], task: DataTask) -> int:
    """Texts that stand in several rows, with different answers."""
    if not task.answer_columns:
        return 0
    first: dict[str, str] = {}
    both: Iterator[tuple[str, Any]] = (
        pair for r in splits.values() for pair in zip(keys_of(r, task), keys_of(r, task, answers=True), strict=True)
    )
    return len({key for key, answer in both if first.setdefault(key, answer) != answer})
