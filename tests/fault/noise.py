"""The quick objective, whose accuracy is drawn from the seed: no setting makes a difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from sweep.domain import Report, TrainRequest
from sweep.testing.checkpointing_objective import QuickObjective


class Noise(QuickObjective):
    """Its accuracy is 0.8 with a standard deviation of 0.01, from seed, hyperparameters and step alone."""

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Train as ever, and report what chance says."""
        drawn = sum(map(ord, str(request.assignment.hyperparameters)))
        for report in super().train(request):
            chance = np.random.default_rng((request.assignment.seed, drawn, report.step)).normal()
            yield replace(report, metrics={**report.metrics, "accuracy": 0.8 + 0.01 * float(chance)})
