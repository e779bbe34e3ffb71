"""What of an evaluation may leave the trial process."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest

from sweep.domain import MetricRule
from sweep.execution.finite import finite_report
from sweep.ports import DivergedError
from tests.recording import report

RULE = MetricRule(name="accuracy", direction="maximize")
LOG = logging.getLogger("sweep.trial")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, None, "n/a", np.float32("nan")])
@pytest.mark.parametrize("name", ["accuracy", "loss", "train_loss"])
def test_pain_20_the_metric_or_a_loss_that_is_no_finite_number_is_a_divergence(name: str, value: Any) -> None:
    with pytest.raises(DivergedError, match=f"{name} is .* at step 10"):
        finite_report(report(1, 10, **{name: value}), RULE, LOG)


def test_pain_20_a_side_metric_that_is_no_finite_number_is_left_out_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = report(1, 10, mcc=math.nan, speed=np.float64(2), kind="text")  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO):
        found = finite_report(given, RULE, LOG)
    assert found.metrics == {**report(1, 10).metrics, "speed": 2.0}
    assert type(found.metrics["speed"]) is float
    assert "mcc is nan" in caplog.text
    assert "kind is text" in caplog.text
