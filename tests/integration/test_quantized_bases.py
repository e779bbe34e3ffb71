"""Adapters on a base whose linear maps are held in four bits: less memory, and what is deployed is what was scored."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from objectives.finetune.adapters import add_adapters, merge_adapters
from objectives.finetune.quantized import QuantizedLinear, quantize, round_weights
from objectives.tasks.text_classification import TextClassification
from objectives.testing import TRAINING, tiny_file, tiny_model, tiny_rows, tiny_settings
from sweep.checkpoints import model_folder
from sweep.domain import TrainRequest
from sweep.errors import ModelError, UserError
from tests.tiny_trial import prepared, tiny_request

__all__ = ["prepared"]

HELD = {"method": "lora", "lora_rank": 4, "lora_targets": "attention", "quantization": "nf4", "learning_rate": 1e-2}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 128},
    "t5": {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 2, "d_kv": 32, "decoder_start_token_id": 0},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tiny")
    return tiny_settings(tiny_model(folder / "model", width=64), tiny_file(folder / "train.jsonl", tiny_rows(120)))


@pytest.fixture
def request_(settings: dict[str, Any], prepared: str, tmp_path: Path) -> TrainRequest:
    tiny = tiny_request(tmp_path, settings, prepared)
    return dataclasses.replace(tiny, settings={**TRAINING, **HELD}, evaluate_at=[1.0])


def _layer_weights(folder: Path) -> dict[str, torch.Tensor]:
    found = load_file(folder / "model.safetensors")
    return {name: value for name, value in found.items() if ".layer." in name and value.ndim == 2}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_merged_is_what_was_trained_and_scored(request_: TrainRequest, precision: str, tmp_path: Path) -> None:
    request = dataclasses.replace(request_, settings={**request_.settings, "precision": precision})
    report = list(TextClassification().train(request))[-1]
    kept, prepared = model_folder(Path(str(report.checkpoint))), Path(request.prepared)
    objective = TextClassification()
    objective.merge(kept, tmp_path / "merged", request.settings)
    for model in (kept, tmp_path / "merged"):
        found = objective.evaluate(model, prepared, "validation", request.settings)
        assert found["accuracy"] == report.metrics["accuracy"]
        assert found["loss"] == pytest.approx(report.metrics["loss"], abs=1e-6)
    # Maps without an adapter are the base's, rounded; nothing else is left of it.
    base, merged = _layer_weights(Path(request.model)), _layer_weights(tmp_path / "merged")
    assert base.keys() == merged.keys()
    plain = [name for name in base if "attention" not in name]
    assert plain
    for name in plain:
        assert not torch.equal(merged[name], base[name])
        rounded, exact = merged[name].reshape(-1, 64), base[name].reshape(-1, 64)
        assert all(len(block.unique()) <= 16 for block in rounded)
        # Half of the widest gap between two of its 16 values.
        assert bool(((rounded - exact).abs() <= 0.153 * exact.abs().amax(1, keepdim=True)).all())
    assert "quantiz" not in (tmp_path / "merged/config.json").read_text()


def test_a_check_tells_the_base_and_what_its_weights_take(request_: TrainRequest) -> None:
    held = TextClassification().check(request_)
    plain = TextClassification().check(
        dataclasses.replace(request_, settings={**request_.settings, "quantization": "none"})
    )
    assert held["parameters"] == plain["parameters"]
    assert held["trainable_parameters"] == plain["trainable_parameters"]
    assert plain["parameter_bytes"] == 4 * plain["parameters"] > plain["adapter_base"]["weight_bytes"]
    # Of each value in a linear map four bytes become half a byte and a sixteenth of a scale.
    inside = sum(value.numel() for value in _layer_weights(Path(request_.model)).values())
    assert plain["parameter_bytes"] - held["parameter_bytes"] == inside * (4 - 1 / 2 - 4 / 64)
    assert held["adapter_base"] == {**plain["adapter_base"], "quantization": "nf4"}


def test_an_evaluation_between_steps_is_exact_and_changes_nothing_of_them() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(64, 96)
    rounded = torch.nn.ModuleList([plain])
    held, rows = QuantizedLinear(plain), torch.randn(5, 64, requires_grad=True)
    round_weights(torch.nn.Sequential(rounded))

    def gradient(layer: torch.nn.Linear) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            loss = layer.train()(rows).float().square().sum()
        return torch.autograd.grad(loss, rows)[0]

    for _ in range(2):
        torch.testing.assert_close(gradient(held), gradient(plain), rtol=1e-2, atol=1e-2)
        with torch.inference_mode():
            assert torch.equal(held.eval()(rows), plain(rows))
    assert held.bias.dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_held_in_four_bits_and_rounded_to_the_same(family: str) -> None:
    config = AutoConfig.for_model(family, vocab_size=40, pad_token_id=0, **FAMILIES[family])
    settings, ids = {**TRAINING, **HELD, "lora_targets": "all"}, torch.tensor([[5, 6, 7, 1], [8, 9, 4, 1]])
    said = []
    for alter in (quantize, round_weights):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config)
        alter(model)
        add_adapters(model, settings)
        torch.manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.normal_(std=0.3)
            if alter is round_weights:
                merge_adapters(model)
            said.append(model.eval()(input_ids=ids).logits)
    torch.testing.assert_close(*said, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "sizes"),
    [("gpt2", {"n_embd": 64, "n_layer": 1, "n_head": 2}), ("distilbert", {"dim": 32, "n_heads": 2, "hidden_dim": 96})],
)
def test_layers_that_cannot_be_held_in_four_bits_are_refused(family: str, sizes: dict[str, Any]) -> None:
    config = AutoConfig.for_model(family, vocab_size=40, pad_token_id=0, **sizes)
    with pytest.raises(ModelError, match=r"quantization: \w+ has no layers with linear maps .* Set it to none"):
        quantize(AutoModelForSequenceClassification.from_config(config))


@pytest.mark.parametrize("place", ["training", "space"])
def test_a_library_that_is_missing_or_too_old_is_told_before_the_data_is_prepared(
    settings: dict[str, Any], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("objectives.finetune.quantized._OLDEST", "99.9")
    wanted = {"quantization": "nf4"} if place == "training" else {}
    space = {"quantization": {"choices": ["none", "nf4"]}} if place == "space" else {}
    asked = {**settings, "training": {**settings["training"], "method": "lora", **wanted}, "space": space}
    told = r"nf4 needs bitsandbytes 99\.9 or newer, which is not .* `pip install 'sweep-finetune\[quantization\]'`"
    with pytest.raises(UserError, match=told):
        TextClassification().prepare(asked, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()
    TextClassification().prepare({**asked, "training": {**asked["training"], "method": "full"}}, tmp_path / "prepared")
