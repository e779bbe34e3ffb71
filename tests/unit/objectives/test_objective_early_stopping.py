from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.finetune.early_stopping import has_stalled
from sweep.domain import MetricRule, Report

ACCURACY = MetricRule(name="accuracy", direction="maximize")
LOSS = MetricRule(name="loss", direction="minimize")


def _history(name: str, values: Sequence[float]) -> list[Report]:
    return [
        Report(
            trial_number=0,
            attempt=1,
            step=step,
            fidelity=step,
            metrics={name: value},
            checkpoint=None,
            wall_seconds=1.0,
            reported_at=1.0,
        )
        for step, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "stalled"),
    [
        ([], 1, 0.0, False),
        ([0.5], 1, 0.0, False),
        ([0.5, 0.5], 1, 0.0, True),
        ([0.5, 0.4, 0.6], 1, 0.0, False),
        ([0.5, 0.4, 0.5], 2, 0.0, True),
        ([0.5, 0.4, 0.3], 3, 0.0, False),
        ([0.5, 0.51, 0.52], 2, 0.1, True),
        ([0.5, 0.55, 0.61], 2, 0.1, False),  # better by small steps than it was when it last was better
        ([0.5] * 9, None, 0.0, False),
    ],
)
def test_a_metric_stalls_when_patience_runs_out(
    values: list[float], patience: int | None, min_delta: float, stalled: bool
) -> None:
    assert has_stalled(_history("accuracy", values), ACCURACY, patience, min_delta) is stalled
    falling = [1 - value for value in values]
    assert has_stalled(_history("loss", falling), LOSS, patience, min_delta) is stalled


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(1, 4), st.floats(0, 0.2))
def test_what_has_not_got_better_since_it_stalled_still_has(
    values: list[float], patience: int, min_delta: float
) -> None:
    if has_stalled(_history("accuracy", values), ACCURACY, patience, min_delta):
        assert has_stalled(_history("accuracy", [*values, 0.0]), ACCURACY, patience, min_delta)
