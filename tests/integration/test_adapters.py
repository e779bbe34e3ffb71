from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from objectives.finetune.adapters import add_adapters, merge_adapters
from objectives.tasks.text_classification import TextClassification
from objectives.testing import TRAINING
from sweep.checkpoints import intact, model_folder
from sweep.checkpoints.adapted import base_of, weight_bytes
from sweep.domain import Report, TrainRequest
from sweep.errors import ModelError
from tests.tiny_trial import prepared, settings, steady, tiny_request

__all__ = ["prepared", "settings"]

LORA = {"method": "lora", "lora_rank": 4, "lora_targets": "all", "lora_dropout": 0.1, "learning_rate": 1e-2}


@pytest.fixture
def request_(settings: dict[str, Any], prepared: str, tmp_path: Path) -> TrainRequest:
    tiny = tiny_request(tmp_path, settings, prepared)
    changed = {**TRAINING, **LORA, "keep_layers": (0, 2), "dropout": 0.1}
    return dataclasses.replace(tiny, settings=changed, evaluate_at=[0.5, 1.0])


def _with(request: TrainRequest, folder: str = "", **settings: Any) -> TrainRequest:
    return dataclasses.replace(
        request, checkpoints=request.checkpoints + folder, settings={**request.settings, **settings}
    )


def _train(request: TrainRequest) -> list[Report]:
    return list(TextClassification().train(request))


def _tensors(report: Report) -> dict[str, torch.Tensor]:
    checkpoint = Path(str(report.checkpoint))
    files = ("model/adapter_model.safetensors", "state/optimizer.safetensors")
    return {f"{file}/{key}": value for file in files for key, value in load_file(checkpoint / file).items()}


@pytest.mark.parametrize("held", ["none", "nf4"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_learn_and_go_on_bit_for_bit(request_: TrainRequest, method: str, held: str) -> None:
    request_ = _with(request_, method=method, quantization=held, epochs=4.0)
    whole = _train(_with(request_, "-whole"))
    assert whole[-1].metrics["accuracy"] > 0.8
    broken = TextClassification().train(_with(request_, "-broken"))
    first = next(broken)
    broken.close()
    torch.rand(17)
    start = dataclasses.replace(request_.assignment, attempt=2, start_from=first.checkpoint)
    after = _train(dataclasses.replace(_with(request_, "-broken"), assignment=start))
    assert steady(whole[-1]) == steady(after[-1])
    one, other = _tensors(whole[-1]), _tensors(after[-1])
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("method", "layers"), [("dora", None), ("lora", (0, 2))])
def test_what_is_kept_is_an_adapter_that_the_task_and_peft_read_alike_in_a_fresh_process(
    request_: TrainRequest, method: str, layers: tuple[int, ...] | None, tmp_path: Path
) -> None:
    report = _train(_with(request_, method=method, keep_layers=layers))[-1]
    kept = model_folder(Path(str(report.checkpoint)))
    assert intact(kept.parent)
    assert [path.name for path in kept.rglob("*.safetensors")] == ["adapter_model.safetensors"]
    objective, prepared = TextClassification(), Path(request_.prepared)
    found = objective.evaluate(kept, prepared, "validation", request_.settings)
    assert found["accuracy"] == report.metrics["accuracy"]
    assert found["loss"] == pytest.approx(report.metrics["loss"], abs=1e-5)
    objective.merge(kept, tmp_path / "merged", request_.settings)
    assert not list((tmp_path / "merged").glob("adapter*"))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert weight_bytes(kept) == sum(4 * parameter.numel() for parameter in plain.parameters())
    ids = [[2, 5, 6, 7, 3], [2, 8, 9, 10, 3]]
    with torch.no_grad():
        expected = plain(input_ids=torch.tensor(ids)).logits.tolist()
    # As somebody without this package does it.
    code = f"""
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
size = dict(num_labels=3, ignore_mismatched_sizes=True)
base = AutoModelForSequenceClassification.from_pretrained({request_.model!r}, **size)
model = PeftModel.from_pretrained(base, {str(kept)!r}).eval()
print(model(input_ids=torch.tensor({ids})).logits.tolist())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    torch.testing.assert_close(torch.tensor(json.loads(said)), torch.tensor(expected), rtol=0, atol=1e-5)


def test_only_adapters_and_head_are_trained(request_: TrainRequest) -> None:
    report = next(TextClassification().train(request_))
    checkpoint = Path(str(report.checkpoint))
    for file in ("state/optimizer.safetensors", "model/adapter_model.safetensors"):
        names = [name.removeprefix("base_model.model.") for name in load_file(checkpoint / file)]
        assert any(name.startswith("classifier") for name in names)
        assert all(".lora_" in name or name.startswith(("classifier", "bert.pooler")) for name in names)
    found = TextClassification().check(request_)
    assert found["trainable_parameters"] < found["parameters"] / 3
    tensors = [*(checkpoint / "model").glob("*.safetensors"), checkpoint / "state/optimizer.safetensors"]
    written = sum(path.stat().st_size for path in tensors)
    assert found["checkpoint_bytes"] == pytest.approx(written, rel=0.2)


@pytest.mark.parametrize("damage", ["gone", "other"])
def test_a_base_model_that_is_gone_or_another_is_told_and_not_trained_on(
    request_: TrainRequest, damage: str, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(request_.model, tmp_path / "base"))
    request = dataclasses.replace(request_, model=str(base))
    kept = model_folder(Path(str(_train(request)[-1].checkpoint)))
    again = dataclasses.replace(request_.assignment, attempt=2, start_from=str(kept.parent))
    if damage == "gone":
        shutil.rmtree(base)
        told = f"the base model '{base}' that its adapter belongs to is not to be had"
    else:
        model = AutoModelForSequenceClassification.from_pretrained(base)
        torch.nn.init.normal_(model.bert.embeddings.word_embeddings.weight)
        model.save_pretrained(base)
        told = f"its adapter was trained on other weights than '{base}' has now"
        with pytest.raises(ModelError, match=told):
            _train(dataclasses.replace(request, assignment=again))
    with pytest.raises(ModelError, match=told):
        TextClassification().evaluate(kept, Path(request.prepared), "validation", request.settings)


def test_a_resume_hashes_its_base_once(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    start = dataclasses.replace(request_.assignment, attempt=2, start_from=_train(request_)[0].checkpoint)
    hashed: list[str] = []

    def noting(file: BinaryIO, kind: str) -> Any:
        hashed.append(file.name)
        return digest(file, kind)

    digest = hashlib.file_digest
    monkeypatch.setattr("hashlib.file_digest", noting)
    next(TextClassification().train(dataclasses.replace(request_, assignment=start)))
    assert hashed.count(str(Path(request_.model) / "model.safetensors")) == 1


def test_a_base_that_moved_with_its_storage_is_found(request_: TrainRequest, tmp_path: Path) -> None:
    base = shutil.copytree(request_.model, tmp_path / "old/prepared/model-1")
    storage = tmp_path / "old/studies/some/checkpoints/trial-0000"
    request = dataclasses.replace(request_, model=str(base), checkpoints=str(storage))
    kept = model_folder(Path(str(_train(request)[-1].checkpoint)))
    (tmp_path / "old").rename(tmp_path / "new")
    moved = tmp_path / "new" / kept.relative_to(tmp_path / "old")
    found = base_of(moved)
    assert found is not None
    assert found.reference == str(tmp_path / "new/prepared/model-1")
    TextClassification().evaluate(moved, Path(request.prepared), "validation", request.settings)


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
    ids = torch.tensor([[5, 6, 7, 1], [8, 9, 4, 1]])
    with torch.no_grad():
        adapted = model.eval()(input_ids=ids).logits
        merge_adapters(model)
        merged = model(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
    plain = AutoModelForSequenceClassification.from_config(config)
    assert model.state_dict().keys() == plain.state_dict().keys()


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
