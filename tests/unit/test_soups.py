"""Soups of adapters: merged one after the other, so that the disk need not hold all of them whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sweep.checkpoints import model_folder
from sweep.checkpoints.adapted import AdapterBase
from sweep.domain import MetricRule, Trial, TrialState
from sweep.layout import StudyLayout
from sweep.soups import Soups

WHOLE = 400_000
"""Bytes of a model's weights; those of its adapter are nothing."""


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def adapter_run(folder: Path, number: int) -> Trial:
    checkpoint = folder / f"run-{number}"
    model = model_folder(checkpoint)
    model.mkdir(parents=True)
    save_file({"a": np.full(2, number, np.float32)}, model / "adapter_model.safetensors")
    (model / "config.json").write_text("{}")
    AdapterBase(reference="base", content="", keep_layers=None, weight_bytes=WHOLE).write(model)
    return Trial(
        number=number, hyperparameters={}, state=TrialState.COMPLETE, step=1, checkpoint=str(checkpoint), value=0.5
    )


@pytest.mark.parametrize("count", [2, 5])
def test_a_soup_of_adapters_is_their_average_and_one_of_them_at_a_time_lies_merged_beside_it(
    tmp_path: Path, count: int
) -> None:
    layout, most = StudyLayout(tmp_path / "mlruns", "some"), []
    values = np.random.default_rng(0).normal(size=(count, WHOLE // 4)).astype(np.float32)

    def merge(adapter: Path, to: Path, _: Mapping[str, Any]) -> None:
        to.mkdir()
        number = int(load_file(adapter / "adapter_model.safetensors")["a"][0])
        save_file({"weights": values[number]}, to / "model.safetensors")
        (to / "config.json").write_text("{}")
        most.append(bytes_below(layout.folder))

    def evaluate(model: Path, *_: Any) -> Mapping[str, float]:
        assert sorted(path.name for path in model.parent.iterdir()) == ["model"]
        return {"accuracy": 0.5}

    soups = Soups(
        layout=layout,
        rule=MetricRule(name="accuracy", direction="maximize"),
        runs={(number, 0): adapter_run(tmp_path, number) for number in range(count)},
        evaluate=evaluate,
        merge=merge,
    )
    found = load_file(soups.model(tuple(range(count)), 0) / "model.safetensors")["weights"]
    np.testing.assert_allclose(found, values.astype(np.float64).mean(axis=0), rtol=0, atol=1e-6)
    assert len(most) == count
    assert max(most) < 2.01 * WHOLE
