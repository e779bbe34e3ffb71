"""How long models take for one input. Runs in the objective's process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.ports import Objective, TimedObjective

ROWS = 25
"""Rows of the validation split that each model answers, one at a time, spread evenly over it."""

WARM_UP_ROWS = 3
"""Answered before, and not counted: first calls allocate and compile."""


def latencies(
    objective: Objective, models: Sequence[Mapping[str, Any]], now: Callable[[], float] = time.perf_counter
) -> Mapping[str, Any]:
    """Milliseconds for one input of each model: the median over the rows, on the CPU with one compute thread.

    All models are gone through twice, the second time the other way round, and the lower of a model's two medians
    stands: so a host that is busy for a while, or gets slower, makes no model look slower than its equals. What is left
    of that is below the margin of :mod:`sweep.selection.preference`. One model at a time is in memory.

    Args:
        objective: What they were trained by.
        models: ``{"model", "prepared", "settings"}`` of each.
        now: Seconds that never go back.

    Returns:
        JSON-able ``milliseconds``, one for each model; None where the objective cannot answer one by one.
    """
    if not isinstance(objective, TimedObjective):
        return {"milliseconds": None}
    found: list[list[float]] = [[] for _ in models]
    for order in (range(len(models)), reversed(range(len(models)))):
        for i in order:
            one = models[i]
            answer, rows = objective.one_by_one(Path(one["model"]), Path(one["prepared"]), one["settings"])
            found[i].append(_median(answer, rows, now))
            del answer  # before the next model is loaded
    return {"milliseconds": [1000 * min(medians) for medians in found]}


def _median(answer: Callable[[int], object], rows: int, now: Callable[[], float]) -> float:
    """Seconds for one input."""
    for row in range(min(WARM_UP_ROWS, rows)):
        answer(row)
    seconds = []
    for row in range(0, rows, max(1, rows // ROWS)):
        begun = now()
        answer(row)
        seconds.append(now() - begun)
    return statistics.median(seconds)
