from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from objectives.finetune.adapters import add_adapters, plain_state
from objectives.tasks.text_classification import TextClassification
from objectives.testing import TRAINING, tiny_file, tiny_model, tiny_rows, tiny_settings
from sweep.checkpoints import adapter_folder, intact, model_folder
from sweep.domain import Assignment, MetricRule, Report, TrainRequest
from sweep.errors import ModelError
from tests.tiny_study import materials, run, sweep, tiny_spec

CLOCKED = {"examples_per_second", "system/cpu_seconds", "system/rss_megabytes"}
LORA = {"method": "lora", "lora_rank": 4, "lora_targets": "all", "lora_dropout": 0.1, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tiny")
    return tiny_settings(tiny_model(folder / "model", layers=3), tiny_file(folder / "train.jsonl", tiny_rows(200)))


@pytest.fixture
def request_(settings: dict[str, Any], tmp_path: Path) -> TrainRequest:
    return TrainRequest(
        assignment=Assignment(trial_number=0, attempt=1, hyperparameters={}, seed=7),
        prepared=str(TextClassification().prepare(settings, Path(settings["model"]).parent / "prepared")["folder"]),
        model=settings["model"],
        settings={**TRAINING, **LORA, "keep_layers": (0, 2), "dropout": 0.1},
        metric=MetricRule(name="accuracy", direction="maximize"),
        evaluate_at=[0.5, 1.0],
        fidelity_unit="epochs",
        checkpoints=str(tmp_path / "checkpoints"),
        artifacts=str(tmp_path / "artifacts"),
    )


def _with(request: TrainRequest, folder: str = "", **settings: Any) -> TrainRequest:
    return dataclasses.replace(
        request, checkpoints=request.checkpoints + folder, settings={**request.settings, **settings}
    )


def _train(request: TrainRequest) -> list[Report]:
    return list(TextClassification().train(request))


def _steady(report: Report) -> dict[str, float]:
    return {name: value for name, value in report.metrics.items() if name not in CLOCKED}


def _tensors(report: Report) -> dict[str, torch.Tensor]:
    checkpoint = Path(str(report.checkpoint))
    files = ("model/model.safetensors", "adapter/adapter_model.safetensors", "state/optimizer.safetensors")
    return {f"{file}/{key}": value for file in files for key, value in load_file(checkpoint / file).items()}


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_learn_and_go_on_bit_for_bit(request_: TrainRequest, method: str) -> None:
    whole = _train(_with(request_, "-whole", method=method, epochs=4.0))
    assert whole[-1].metrics["accuracy"] > 0.8
    broken = TextClassification().train(_with(request_, "-broken", method=method, epochs=4.0))
    first = next(broken)
    broken.close()
    torch.rand(17)
    start = dataclasses.replace(request_.assignment, attempt=2, start_from=first.checkpoint)
    after = _train(dataclasses.replace(_with(request_, "-broken", method=method, epochs=4.0), assignment=start))
    assert _steady(whole[-1]) == _steady(after[-1])
    one, other = _tensors(whole[-1]), _tensors(after[-1])
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_saved_model_is_a_plain_one_with_the_adapters_merged(request_: TrainRequest) -> None:
    report = _train(request_)[-1]
    checkpoint = Path(str(report.checkpoint))
    assert intact(checkpoint)
    plain = AutoModelForSequenceClassification.from_pretrained(model_folder(checkpoint))
    assert not any("lora" in name for name, _ in plain.named_parameters())
    found = TextClassification().evaluate(
        model_folder(checkpoint), Path(request_.prepared), "validation", request_.settings
    )
    assert found["accuracy"] == report.metrics["accuracy"]
    assert found["loss"] == pytest.approx(report.metrics["loss"], abs=1e-5)


def test_only_adapters_and_head_are_trained(request_: TrainRequest) -> None:
    report = next(TextClassification().train(request_))
    state = load_file(Path(str(report.checkpoint)) / "state/optimizer.safetensors")
    assert any(name.startswith("classifier") for name in state)
    assert all(".lora_" in name or name.startswith(("classifier", "bert.pooler")) for name in state)
    base = load_file(Path(request_.model) / "model.safetensors")
    saved = load_file(model_folder(Path(str(report.checkpoint))) / "model.safetensors")
    words = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(saved[words], base[words])
    query = "bert.encoder.layer.1.attention.self.query.weight"
    assert not torch.equal(saved[query], base["bert.encoder.layer.2.attention.self.query.weight"])
    found = TextClassification().check(request_)
    assert found["trainable_parameters"] < found["parameters"] / 3


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks transformers so
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_kept_adapter_is_what_peft_loads_onto_the_base_model(request_: TrainRequest, method: str) -> None:
    from peft import PeftModel

    report = _train(_with(request_, method=method, keep_layers=None, epochs=1.0))[-1]
    checkpoint = Path(str(report.checkpoint))
    plain = AutoModelForSequenceClassification.from_pretrained(model_folder(checkpoint)).eval()
    base = AutoModelForSequenceClassification.from_pretrained(
        request_.model, config=plain.config, ignore_mismatched_sizes=True
    )
    adapted = PeftModel.from_pretrained(base, adapter_folder(checkpoint)).eval()
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 10, 3]])
    with torch.no_grad():
        torch.testing.assert_close(adapted(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=0, atol=1e-5)


FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "llama": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "t5": {"d_model": 16, "d_ff": 24, "num_layers": 2, "num_heads": 2, "d_kv": 8, "decoder_start_token_id": 0},
}


@pytest.mark.parametrize("targets", ["attention", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families_take_adapters_and_merge_to_what_they_compute(family: str, targets: str) -> None:
    config = AutoConfig.for_model(family, vocab_size=40, pad_token_id=0, **FAMILIES[family])
    model = AutoModelForSequenceClassification.from_config(config)
    add_adapters(model, {**TRAINING, **LORA, "lora_targets": targets})
    adapters = {name: p for name, p in model.named_parameters() if p.requires_grad and ".lora_" in name}
    assert adapters
    assert all("att" in name.lower() for name in adapters) == (targets == "attention")
    assert any(p.requires_grad and ".lora_" not in name for name, p in model.named_parameters())
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.values():
            parameter.normal_(std=0.3)
    plain = AutoModelForSequenceClassification.from_config(config)
    missing, unexpected = plain.load_state_dict(plain_state(model) or {}, strict=False)
    assert (missing, unexpected) == ([], [])
    ids = torch.tensor([[5, 6, 7, 1], [8, 9, 4, 1]])
    with torch.no_grad():
        outputs = [each.eval()(input_ids=ids).logits for each in (model, plain)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


def test_a_model_without_layers_takes_no_adapters() -> None:
    with pytest.raises(ModelError, match="lora_targets: Linear has no layers with such linear maps"):
        add_adapters(torch.nn.Linear(2, 2), {**TRAINING, **LORA})


def test_the_warm_parent_imports_no_library_that_few_studies_use() -> None:
    code = "import sys, objectives.warm; print(*{'peft', 'lion_pytorch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_checkpointed_gradients_change_no_result(request_: TrainRequest) -> None:
    plain = _train(_with(request_, "-plain", method="full", learning_rate=1e-2))
    spared = _train(_with(request_, "-spared", method="full", learning_rate=1e-2, gradient_checkpointing=True))
    assert [r.metrics["loss"] for r in plain] == pytest.approx([r.metrics["loss"] for r in spared], rel=1e-5)
    config = json.loads((model_folder(Path(str(spared[-1].checkpoint))) / "config.json").read_text())
    assert "gradient_checkpointing" not in config


def test_a_study_of_adapters_is_exported_merged_with_its_adapter_beside(tmp_path: Path) -> None:
    materials(tmp_path)
    training = ("method=lora", "lora_targets=all", "epochs=1")
    run(tiny_spec(tmp_path, "few", *(f"objective.training.{each}" for each in training), trials=1))
    said = sweep(tmp_path, "export", "few", "--to", "out", "--adapter").stdout
    assert "Exported trial 0" in said
    lineage = json.loads((tmp_path / "out/sweep.json").read_text())
    assert {"model.safetensors", "adapter/adapter_model.safetensors"} <= set(lineage["files"])
    assert "reproduces" in sweep(tmp_path, "verify", "out").stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_training_pass_gives_the_same_and_goes_on_bit_for_bit(request_: TrainRequest) -> None:
    changes = {"method": "full", "learning_rate": 1e-2, "dropout": 0.0}
    plain = _train(_with(request_, "-plain", **changes))
    fast = _train(_with(request_, "-fast", compile=True, **changes))
    assert [r.metrics["loss"] for r in plain] == pytest.approx([r.metrics["loss"] for r in fast], rel=1e-3)
    start = dataclasses.replace(request_.assignment, attempt=2, start_from=fast[0].checkpoint)
    again = _train(dataclasses.replace(_with(request_, "-fast", compile=True, **changes), assignment=start))
    assert again[-1].metrics["loss"] == fast[-1].metrics["loss"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiler_that_does_not_run_is_told(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    with pytest.raises(ModelError, match=r"compile: torch.compile does not run here: .* Set it to false"):
        TextClassification().check(_with(request_, method="full", compile=True))
