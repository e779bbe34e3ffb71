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
    """Each model takes what its name says; the host is slow while it answers the first model it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.rows: list[int] = []
        self.seconds = 0.0

    def one_by_one(
        self, model: Path, prepared: Path, settings: Mapping[str, Any]
    ) -> tuple[Callable[[int], object], int]:
        self.loaded.append(model.name)
        is_first = len(self.loaded) == 1

        def answer(row: int) -> None:
            self.rows.append(row)
            self.seconds += (SLOW if model.name == "slow" else FAST) + (0.01 if is_first else 0.0)

        return answer, 100


def models(*names: str) -> list[dict[str, Any]]:
    return [{"model": name, "prepared": "", "settings": {}} for name in names]


def test_the_median_of_single_answers_is_told_and_a_host_that_is_slow_for_a_while_makes_no_difference() -> None:
    objective = Timed()
    found = latencies(objective, models("fast", "slow", "fast"), lambda: objective.seconds)["milliseconds"]
    assert objective.loaded == ["fast", "slow", "fast", "fast", "slow", "fast"]
    assert objective.rows[: WARM_UP_ROWS + 2] == [0, 1, 2, 0, 4]
    assert len(objective.rows) == 6 * (WARM_UP_ROWS + ROWS)
    assert found == pytest.approx([1000 * FAST, 1000 * SLOW, 1000 * FAST])


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
