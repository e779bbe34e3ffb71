"""An export with an ONNX file beside the weights."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from objectives.data.batching import TokenRows
from objectives.data.preparation import PreparedData
from objectives.finetune.models import load_model
from objectives.serving.onnx_file import TOLERANCE, write_onnx
from objectives.tasks.text_classification import Classification
from sweep.converted_export import export_converted
from sweep.deployable import deployable
from sweep.deployment.lineage import read_lineage
from sweep.errors import UserError, VerificationError
from sweep.spec.model import StudySpec
from sweep.verification import exported


def test_the_onnx_file_gives_the_weights_logits_for_any_batch_and_length(good: StudySpec, tmp_path: Path) -> None:
    chosen, lineage = deployable(good)
    export_converted(chosen.model, lineage, tmp_path / "out", trust_remote_code=False, onnx=True)
    exported(tmp_path / "out")
    told = read_lineage(tmp_path / "out")
    assert told.onnx is not None
    assert told.onnx["max_difference"] <= 1e-5
    assert "model.onnx" in told.files
    assert "onnxruntime.InferenceSession" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    for texts in (["rain"], ["play the song", "rain"], ["snow " * 30, "menu"] * 7):
        batch = tokenizer(texts, padding=True, return_token_type_ids=False, return_tensors="np")
        found = session.run(["logits"], dict(batch))[0]
        with torch.no_grad():
            wanted = model(**{name: torch.from_numpy(value) for name, value in batch.items()}).logits.numpy()
        assert np.abs(found - wanted).max() < 1e-5
    file = tmp_path / "out" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(VerificationError, match=r"model\.onnx"):
        exported(tmp_path / "out")


@pytest.fixture
def parts(good: StudySpec) -> tuple[torch.nn.Module, PreparedData]:
    chosen, lineage = deployable(good)
    prepared = PreparedData.open(Path(lineage.data["folder"]))
    return load_model(str(chosen.model), Classification().head(prepared.meta), {}, trained=True), prepared


def test_logits_that_differ_by_the_rounding_of_fp32_alone_are_the_same(tmp_path: Path) -> None:
    generator, count = np.random.default_rng(0), 40
    lengths = generator.integers(2, 48, count)
    rows = TokenRows(
        ids=generator.integers(4, 200, lengths.sum()).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=np.zeros(count, dtype=np.int64),
        suffix=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Wide enough for other sums in another order, and with logits of some hundreds.
        config = BertConfig(
            vocab_size=200,
            hidden_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=1024,
            max_position_embeddings=64,
            initializer_range=0.2,
            num_labels=3,
        )
        model = AutoModelForSequenceClassification.from_config(config).eval()
        with torch.no_grad():
            model.classifier.weight.mul_(300)
    told = write_onnx(model, rows, tmp_path / "model.onnx", max_length=48, pad_id=0)
    assert told["rows"] == count
    assert TOLERANCE < told["max_difference"] < 1000 * TOLERANCE


def test_an_onnx_file_that_disagrees_leaves_no_folder_behind(good: StudySpec, tmp_path: Path) -> None:
    chosen, lineage = deployable(good)
    shutil.copytree(chosen.model, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(VerificationError, match=r"logits differ by up to inf.*Nothing was written"):
        export_converted(tmp_path / "model", lineage, tmp_path / "out", trust_remote_code=False, onnx=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    parts: tuple[torch.nn.Module, PreparedData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prepared = parts
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else find(name, *a))
    with pytest.raises(UserError, match=r"onnxscript not installed.*sweep-finetune\[onnx\]"):
        write_onnx(model, prepared.rows("validation"), tmp_path / "m", max_length=16, pad_id=prepared.pad_id)
