"""A trial of a tiny classifier: its data, prepared once for a test's file, and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from objectives.tasks.text_classification import TextClassification
from objectives.testing import TRAINING, tiny_file, tiny_model, tiny_rows, tiny_settings
from sweep.domain import Assignment, MetricRule, Report, TrainRequest

TASK = "text-classification"
STATE = ("model/model.safetensors", "state/optimizer.safetensors", "state/state.safetensors")
CLOCKED = {"examples_per_second", "system/cpu_seconds", "system/rss_megabytes"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The objective's settings: a model of three layers, 200 rows."""
    folder = tmp_path_factory.mktemp("tiny")
    return tiny_settings(tiny_model(folder / "model", layers=3), tiny_file(folder / "train.jsonl", tiny_rows(200)))


@pytest.fixture(scope="module")
def prepared(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the prepared rows."""
    return str(TextClassification().prepare(settings, tmp_path_factory.mktemp("prepared"))["folder"])


def tiny_request(folder: Path, settings: Mapping[str, Any], prepared: str, **training: Any) -> TrainRequest:
    """A run of two layers for 16 steps, evaluated at steps 4, 8, 12 and 16."""
    return TrainRequest(
        assignment=Assignment(trial_number=3, attempt=1, hyperparameters={}, seed=7),
        prepared=prepared,
        model=settings["model"],
        settings={**TRAINING, "dropout": 0.2, "keep_layers": (0, 2), "accumulation": 2, **training},
        metric=MetricRule(name="accuracy", direction="maximize"),
        evaluate_at=[0.5, 1.0, 1.5],
        fidelity_unit="epochs",
        checkpoints=str(folder / "checkpoints"),
        artifacts=str(folder / "artifacts"),
    )


def steady(report: Report) -> dict[str, float]:
    """A report's metrics, but for those that are told by a clock."""
    return {name: value for name, value in report.metrics.items() if name not in CLOCKED}
