from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.range_test import range_chart
from objectives.finetune.range_test import STEPS, judge, rate_at
from objectives.tasks.text_classification import TextClassification
from objectives.testing import TRAINING, tiny_file, tiny_model, tiny_rows, tiny_settings
from sweep.domain import Assignment, MetricRule, TrainRequest
from sweep.errors import UserError


def _curve(begins: float, turns: float, noise: float = 0.0) -> list[float]:
    """A loss of 1 that falls by half between two rates and rises again beyond."""
    drawn = np.random.default_rng(0).normal(0, noise, STEPS)
    losses = []
    for step in range(STEPS):
        place = np.log10(rate_at(step) / begins) / np.log10(turns / begins)
        losses.append(float(1 - 0.5 * np.clip(place, 0, 1) + max(0.0, place - 1) + drawn[step]))
    return losses


@given(st.floats(1e-6, 1e-4), st.floats(10, 300), st.floats(0, 0.02))
def test_the_range_ends_above_where_the_loss_turns_and_begins_a_decade_below_where_it_falls(
    begins: float, ratio: float, noise: float
) -> None:
    found = judge(_curve(begins, begins * ratio, noise))
    assert begins * ratio < found.high < begins * ratio * 4
    assert begins / 20 < found.low < begins
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == STEPS


def test_proposals_are_written_as_people_write_them() -> None:
    found = judge(_curve(3e-6, 3e-4))
    assert all(len(f"{rate:g}".replace("0.", "").lstrip("0")) <= 7 for rate in (found.low, found.high))
    assert found.low == float(f"{found.low:.1e}")


@pytest.mark.parametrize("losses", [[], [0.7] * STEPS, [0.7 + 0.01 * step for step in range(30)]])
def test_a_loss_that_does_not_fall_gives_no_range(losses: list[float]) -> None:
    with pytest.raises(UserError, match=r"falls at no rate from 1e-07 up.*or write a range under search"):
        judge(losses)


def test_the_range_of_a_real_training_is_found_by_the_rate_alone_and_ends_early(tmp_path: Path) -> None:
    settings = tiny_settings(tiny_model(tmp_path / "model"), tiny_file(tmp_path / "train.jsonl", tiny_rows(120)))
    prepared = TextClassification().prepare(settings, tmp_path / "prepared")
    request = TrainRequest(
        assignment=Assignment(trial_number=0, attempt=1, hyperparameters={}, seed=7),
        prepared=prepared["folder"],
        model=settings["model"],
        settings={**TRAINING, "epochs": 0.1},
        metric=MetricRule(name="accuracy", direction="maximize"),
        evaluate_at=[],
        fidelity_unit="epochs",
        checkpoints=str(tmp_path / "checkpoints"),
        artifacts=str(tmp_path / "artifacts"),
    )
    found = TextClassification().find_learning_rate(request)
    assert 1e-7 < found["low"] < 3e-3 < found["high"] < 1  # it learns well at 1e-2
    assert len(found["rates"]) < STEPS
    assert not (tmp_path / "checkpoints").exists()
    json.dumps(found)
    chart = range_chart(found)
    assert [shape["x0"] for shape in chart["layout"]["shapes"]] == [found["low"], found["high"]]
