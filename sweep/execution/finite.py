"""What of an evaluation may travel on: finite numbers alone."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from sweep.domain import MetricRule, Report
from sweep.ports import DivergedError

LOSSES = frozenset({"loss", "train_loss"})


def finite_report(report: Report, rule: MetricRule, log: logging.Logger) -> Report:
    """The report with finite numbers alone; what is left out is told in the trial's log.

    Args:
        report: What the objective said.
        rule: The study's metric rule.
        log: The trial's log.

    Raises:
        DivergedError: If the study's metric or a loss is NaN or infinite.
    """
    metrics = {}
    for name, value in report.metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            metrics[name] = number
        elif name == rule.name or name in LOSSES:
            raise DivergedError(f"{name} is {value} at step {report.step}")
        else:
            log.info("step %s: %s is %s, which is no finite number; it is left out", report.step, name, value)
    return replace(report, metrics=metrics)
