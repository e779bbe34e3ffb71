"""A toy that real studies can run: nothing to prepare, one evaluation after another, and the end its settings name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.domain import Report, TrainRequest
from sweep.testing.toy_objectives import ToyObjective


class ScriptedObjective(ToyObjective):
    """As :class:`ToyObjective`, with data that take no preparation.

    Settings: ``reports``, ``then`` and ``sleep_seconds`` as there; ``fail`` in place of ``then`` raises an error
    that names the trial, as a bug of a user's objective would.
    """

    def prepare(self, settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """An empty data set."""
        folder.mkdir(parents=True, exist_ok=True)
        return {
            "folder": str(folder),
            "data_hash": "0" * 64,
            "rows": {"train": 1, "validation": 1},
            "labels": [],
            "training_rows": 1,
            "checkpoint_bytes": 0,
            "warnings": [],
        }

    def check(self, request: TrainRequest) -> Mapping[str, Any]:
        """What an evaluation would report."""
        return {"metrics": ["accuracy"], "step_seconds": 0.0, "parameters": 0}

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Report, then end as told."""
        if request.settings.get("fail"):
            time.sleep(0.01 * request.assignment.trial_number)
            raise ValueError(f"trial {request.assignment.trial_number} has a bug, its rate is {time.time()}")
        yield from super().train(request)
