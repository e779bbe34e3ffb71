"""Every opening of a study's test split, so that nobody takes a second look for the first."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sweep.errors import SweepError
from sweep.layout import StudyLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class TestOpening:
    """One look at the test split.

    Attributes:
        at: Unix seconds.
        reason: What it was opened for, e.g. ``verdict``.
        models: Labels of the models that were evaluated, e.g. ``trial 3``.
    """

    __test__ = False  # of a split, and no test for pytest to collect

    at: float
    reason: str
    models: Sequence[str]


def openings(layout: StudyLayout) -> list[TestOpening]:
    """The openings of a study's test split, in order; a line that a crash cut off is left out.

    Raises:
        SweepError: If the file is there and cannot be read.
    """
    try:
        lines = layout.test_openings.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as err:
        raise SweepError(f"{layout.test_openings}: cannot be read ({err}). Mind its rights.") from err
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
            opening = TestOpening(at=entry["at"], reason=entry["reason"], models=tuple(entry["models"]))
        except (ValueError, TypeError, KeyError):
            continue
        found.append(opening)
    return found


def record_opening(layout: StudyLayout, opening: TestOpening) -> int:
    """Make an opening durable; call it before the split is evaluated, as a look that fails half-way was a look.

    Returns:
        Which opening it is: 1 for the first.

    Raises:
        SweepError: If it cannot be written; then the split must stay closed.
    """
    path = layout.test_openings
    openings(layout)  # what cannot be read is told as such
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            # A final and a promotion may look at once: each must know of the other.
            fcntl.flock(file, fcntl.LOCK_EX)
            before = len(openings(layout))
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            # A line that a crash cut off must not swallow this one.
            head = b"" if file.read() in (b"", b"\n") else b"\n"
            file.write(head + json.dumps(asdict(opening)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as err:
        raise SweepError(
            f"{path}: cannot be written ({err.strerror}), so the test split stays closed. Free space, then try again."
        ) from err
    return before + 1


def said(count: int) -> str:
    """Which opening it is, in words: ``opened for the second time``."""
    words = {1: "first", 2: "second", 3: "third"}
    return f"opened for the {words.get(count, f'{count}th')} time"
