"""What a study is called in MLflow."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.spec import spec_from_resolved
from sweep.tracking.words import fidelity_unit

SPEC: dict[str, Any] = {
    "study": "demo",
    "objective": {
        "task": "text-classification",
        "model": "bundled:minilm-l6",
        "data": {"source": "bundled:tweets"},
    },
    "search": {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}},
    "storage": "/nowhere",
}


@pytest.mark.parametrize(
    ("training", "searched", "unit"),
    [
        ({}, {}, "epochs"),
        ({"epochs": 2.0}, {}, "epochs"),
        ({"steps": 100}, {}, "steps"),
        ({}, {"steps": {"low": 10, "high": 100}}, "steps"),
        ({}, {"epochs": {"low": 1.0, "high": 3.0}}, "epochs"),
    ],
)
def test_the_unit_of_training_is_that_of_the_spec(
    training: dict[str, Any], searched: dict[str, Any], unit: str
) -> None:
    objective, search = {**SPEC["objective"], "training": training}, {**SPEC["search"], **searched}
    spec = spec_from_resolved({**SPEC, "objective": objective, "search": search})
    assert (spec.fidelity_unit, fidelity_unit(spec.resolved())) == (unit, unit)
