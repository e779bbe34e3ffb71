"""Latencies of models, and that noise does not tell equals apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sweep.selection import Finalist
from sweep.selection.latency import ROWS, WARM_UP_ROWS, latencies
from sweep.selection.preference import preferred
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.testing.toy_objectives import ToyObjective

SLOW, FAST = 0.004, 0.001


class Timed(QuickObjective):
    """Each model takes what its name says; from the middle on, the host takes five times as long for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: list[tuple[str, int]] = []
        self.seconds = 0.0

    def one_by_one(
        self, model: Path, prepared: Path, settings: Mapping[str, Any]
    ) -> tuple[Callable[[int], object], int]:
        def answer(row: int) -> None:
            self.answered.append((model.name, row))
            self.seconds += (SLOW if model.name == "slow" else FAST) * (5 if row >= 40 else 1)

        return answer, 100


def models(*names: str) -> list[dict[str, Any]]:
    return [{"model": name, "prepared": "", "settings": {}} for name in names]


def test_the_models_take_turns_so_that_a_host_that_gets_slower_makes_no_difference_between_equals() -> None:
    objective = Timed()
    found = latencies(objective, models("fast", "slow", "fast"), lambda: objective.seconds)["milliseconds"]
    counted = objective.answered[3 * WARM_UP_ROWS :]
    assert counted[:4] == [("fast", 0), ("slow", 0), ("fast", 0), ("fast", 2)]
    assert len(counted) == 3 * ROWS
    assert found == pytest.approx([5000 * FAST, 5000 * SLOW, 5000 * FAST])


def test_an_objective_that_cannot_answer_one_by_one_has_no_latency() -> None:
    assert latencies(ToyObjective(), models("fast")) == {"milliseconds": None}


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [(4.0, 3.3, "trial 1"), (4.0, 2.0, "trial 2"), (0.10, 0.02, "trial 1"), (0.30, 0.12, "trial 2")],
)
def test_a_latency_within_the_margin_is_no_difference(first: float, second: float, winner: str) -> None:
    close = [
        Finalist(label=f"trial {i}", latency_ms=latency, model_bytes=100)
        for i, latency in enumerate((first, second), 1)
    ]
    assert preferred(close).label == winner
