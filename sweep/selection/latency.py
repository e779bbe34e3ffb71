"""How long models take for one input. Runs in the objective's process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.ports import Objective, TimedObjective

ROWS = 50
"""Rows of the validation split that each model answers, one at a time, spread evenly over it."""

WARM_UP_ROWS = 3
"""Answered before, and not counted: first calls allocate and compile."""


def latencies(
    objective: Objective, models: Sequence[Mapping[str, Any]], now: Callable[[], float] = time.perf_counter
) -> Mapping[str, Any]:
    """Milliseconds for one input of each model: the median over the rows, on the CPU with one compute thread.

    The models take turns at each row, so that a host that is busy for a while is so for all of them alike. Models of
    one architecture are to be told apart by nothing: measure one of them. What noise is left between others is below
    the margin of :mod:`sweep.selection.preference`, or decides between models whose scores are the same within chance.

    Args:
        objective: What they were trained by.
        models: ``{"model", "prepared", "settings"}`` of each; all are in memory at once.
        now: Seconds that never go back.

    Returns:
        JSON-able ``milliseconds``, one for each model; None where the objective cannot answer one by one.
    """
    if not isinstance(objective, TimedObjective):
        return {"milliseconds": None}
    answers = [objective.one_by_one(Path(one["model"]), Path(one["prepared"]), one["settings"]) for one in models]
    rows = min(count for _, count in answers)
    for answer, _ in answers:
        for row in range(min(WARM_UP_ROWS, rows)):
            answer(row)
    seconds: list[list[float]] = [[] for _ in answers]
    for row in range(0, rows, max(1, rows // ROWS)):
        for (answer, _), taken in zip(answers, seconds, strict=True):
            begun = now()
            answer(row)
            taken.append(now() - begun)
    return {"milliseconds": [1000 * statistics.median(taken) for taken in seconds]}
