"""Rows of the validation and test splits that a model has already seen in training, word for word or nearly so."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.rows import Rows
from objectives.data.task import DataTask

Prints = npt.NDArray[np.uint64]
"""A hash of 8 bytes for each row, so that splits larger than memory can be compared."""


def leakage(splits: Mapping[str, Rows], task: DataTask) -> list[str]:
    """A warning for each split that shares texts with the training rows."""
    exact, alike = _prints(splits["train"], task, str), _prints(splits["train"], task, task.gist)
    warnings = []
    for name in ("validation", "test"):
        if name not in splits:
            continue
        double = np.isin(_prints(splits[name], task, str), exact)
        near = np.isin(_prints(splits[name], task, task.gist), alike) & ~double
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


def _prints(rows: Rows, task: DataTask, of: Callable[[str], str]) -> Prints:
    hashes = (hashlib.blake2b(of(key).encode(errors="surrogatepass"), digest_size=8) for key in keys_of(rows, task))
    return np.fromiter((int.from_bytes(found.digest()) for found in hashes), dtype=np.uint64, count=len(rows))


def contradicted(splits: Mapping[str, Rows], task: DataTask) -> int:
    """Texts that stand in several rows, with different answers."""
    if not task.answer_columns:
        return 0
    first: dict[str, str] = {}
    both: Iterator[tuple[str, Any]] = (
        pair for r in splits.values() for pair in zip(keys_of(r, task), keys_of(r, task, answers=True), strict=True)
    )
    return len({key for key, answer in both if first.setdefault(key, answer) != answer})
