"""The average of models' weights: exact, streamed, and refused where it would mean nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sweep.checkpoints import averaging
from sweep.checkpoints.averaging import average_models, why_not_averaged
from sweep.errors import CheckpointError


def model_in(folder: Path, tensors: dict[str, Any], **configuration: Any) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny", **configuration}))
    return folder


def test_the_average_is_exact_in_each_type_however_small_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    sets = [
        {
            "a": generator.normal(size=(7, 5)).astype(np.float32),
            "b": generator.normal(size=11).astype(np.float16),
            "c": generator.normal(size=(2, 3, 4)),
            "empty": np.zeros((0, 4), np.float32),
            "positions": np.arange(6) + shift,
        }
        for shift in range(3)
    ]
    # The last file holds its tensors in another order.
    models = [model_in(tmp_path / f"m{i}", own) for i, own in enumerate([*sets[:2], dict(reversed(sets[2].items()))])]
    monkeypatch.setattr(averaging, "_CHUNK_VALUES", 4)
    assert why_not_averaged(models) is None
    average_models(models, tmp_path / "soup")
    found = load_file(tmp_path / "soup" / "model.safetensors")
    for name in "abc":
        wanted = np.mean([own[name].astype(np.float64) for own in sets], axis=0).astype(sets[0][name].dtype)
        np.testing.assert_array_equal(found[name], wanted)
    np.testing.assert_array_equal(found["positions"], sets[0]["positions"])
    assert (tmp_path / "soup" / "config.json").read_text() == (models[0] / "config.json").read_text()
    assert len(load_file(models[0] / "model.safetensors")["a"]) == 7, "the ingredients stay as they are"


def test_a_model_may_count_for_several(tmp_path: Path) -> None:
    models = [model_in(tmp_path / f"m{i}", {"a": np.array([value], np.float16)}) for i, value in enumerate((1.0, 4.0))]
    average_models(models, tmp_path / "mean", counts=[2, 1])
    assert load_file(tmp_path / "mean" / "model.safetensors")["a"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("tensors", "configuration", "told"),
    [
        ({"a": np.zeros((2, 2), np.float32)}, {}, r"a is F32 \[2, 3\] in .* and F32 \[2, 2\] in"),
        ({"a": np.zeros((2, 3), np.float64)}, {}, r"a is F32 \[2, 3\] in .* and F64 \[2, 3\] in"),
        ({"a": np.zeros((2, 3), np.float32), "b": np.zeros(1)}, {}, r"b is missing in .* and F64 \[1\] in"),
        ({"a": np.zeros((2, 3), np.float32)}, {"heads": 2}, r"heads of config.json differs"),
        ({"a": np.zeros((2, 3), np.float32)}, {"hidden_dropout_prob": 0.3}, None),
    ],
)
def test_models_that_are_not_alike_are_not_averaged(
    tmp_path: Path, tensors: dict[str, Any], configuration: dict[str, Any], told: str | None
) -> None:
    first = model_in(tmp_path / "first", {"a": np.zeros((2, 3), np.float32)})
    other = model_in(tmp_path / "other", tensors, **configuration)
    objection = why_not_averaged([first, other])
    if told is None:
        assert objection is None
    else:
        assert objection is not None
        assert re.search(told, objection), objection


def test_numbers_that_cannot_be_averaged_are_named(tmp_path: Path) -> None:
    folder = model_in(tmp_path / "m", {"a": np.zeros(2, np.float32)})
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw.replace(b'"F32"', b'"F8_"'))
    assert "holds F8_ numbers" in (why_not_averaged([folder, folder]) or "")


def test_a_torn_or_missing_file_is_told(tmp_path: Path) -> None:
    folder = model_in(tmp_path / "m", {"a": np.zeros(2, np.float32)})
    (folder / "model.safetensors").write_bytes(b"\xff" * 8)
    with pytest.raises(CheckpointError, match="its header is longer than the file"):
        why_not_averaged([folder, folder])
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        why_not_averaged([folder, folder])
