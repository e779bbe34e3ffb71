from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
)

from objectives.finetune.dropout import FIELDS, KINDS, apply_dropout, fields_of, set_dropout
from objectives.finetune.layers import keep_layers
from objectives.finetune.models import (
    Head,
    content_of_weights,
    load_config,
    load_model,
    load_tokenizer,
    locate_model,
    outline,
)
from objectives.finetune.precision import choose_precision
from objectives.finetune.regularisation import decay_groups, freeze
from objectives.loading import load_objective, task_names
from objectives.tasks.text_classification import Classification, TextClassification
from objectives.testing import tiny_model
from sweep.errors import ModelError, UserError

SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
STACKS = {
    "bert": lambda: AutoConfig.for_model("bert", **SMALL),
    "roberta": lambda: AutoConfig.for_model("roberta", **SMALL),
    "electra": lambda: AutoConfig.for_model("electra", **SMALL, embedding_size=16),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=40,
        dim=16,
        n_layers=4,
        n_heads=2,
        hidden_dim=24,
        max_position_embeddings=32,
        pad_token_id=0,
    ),
    "modernbert": lambda: ModernBertConfig(**SMALL, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2),
    "gpt2": lambda: GPT2Config(vocab_size=40, n_embd=16, n_layer=4, n_head=2, n_positions=32, pad_token_id=0),
    "llama": lambda: LlamaConfig(**SMALL, num_key_value_heads=2),
    "qwen2": lambda: AutoConfig.for_model("qwen2", **SMALL, num_key_value_heads=2),
    "qwen3": lambda: AutoConfig.for_model("qwen3", **SMALL, num_key_value_heads=2, head_dim=8),
    "mistral": lambda: AutoConfig.for_model("mistral", **SMALL, num_key_value_heads=2),
}
IDS = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 9, 2, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def _head(*labels: str) -> Head:
    return Classification().head({"labels": labels or ("a", "b"), "pad_id": 0})


def _logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(input_ids=IDS, attention_mask=MASK).logits
    return logits


@pytest.mark.parametrize("family", sorted(FIELDS))
def test_dropout_sets_every_field_of_the_family(family: str) -> None:
    config = AutoConfig.for_model(family)
    set_dropout(config, 0.25)
    assert [getattr(config, name) for name in fields_of(family, "dropout")] == [0.25] * len(_dropouts(family))


@pytest.mark.parametrize("family", sorted(FIELDS))
@pytest.mark.parametrize("kind", KINDS[1:])
def test_one_kind_of_dropout_leaves_the_others(family: str, kind: str) -> None:
    config = AutoConfig.for_model(family)
    before = {name: getattr(config, name) for name in _dropouts(family)}
    own = fields_of(family, kind)
    if not own:
        with pytest.raises(ModelError, match=rf"{kind}: the family '{family}' has none; .* have\. Leave"):
            set_dropout(config, 0.25, kind)
        return
    set_dropout(config, 0.25, kind)
    assert {name: getattr(config, name) for name in before} == before | dict.fromkeys(set(own) & set(before), 0.25)
    assert [getattr(config, name) for name in own] == [0.25] * len(own)


def test_a_kind_of_dropout_goes_before_dropout_for_all() -> None:
    config = AutoConfig.for_model("bert")
    apply_dropout(config, {"classifier_dropout": 0.5, "dropout": 0.2, "attention_dropout": 0.0, "layer_drop": None})
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.2, 0.0)
    assert config.classifier_dropout == 0.5


def _dropouts(family: str) -> tuple[str, ...]:
    fields = FIELDS[family]
    return (*fields.hidden, *fields.attention, *fields.classifier)


@pytest.mark.parametrize("family", sorted(STACKS))
def test_dropout_reaches_the_training_forward_pass(family: str) -> None:
    outputs = []
    for dropout in (0.0, 0.5):
        config = STACKS[family]()
        set_dropout(config, dropout)
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").train()
        runs = [model(input_ids=IDS, attention_mask=MASK).logits for _ in range(2)]
        outputs.append(torch.equal(*runs))
    assert outputs == [True, False]


def test_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'bloom' are unknown; known are albert, bart, bert"):
        set_dropout(AutoConfig.for_model("bloom"), 0.1)


def test_dropout_out_of_range_is_refused() -> None:
    with pytest.raises(ModelError, match=r"1.0 is not in \[0, 1\)"):
        set_dropout(AutoConfig.for_model("bert"), 1.0)


@pytest.mark.parametrize("family", sorted(STACKS))
def test_kept_layers_compute_the_same_after_saving_and_loading(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(STACKS[family]())
    whole = _logits(model)
    keep_layers(model, (0, 3))
    cut = _logits(model)
    assert not torch.equal(whole, cut)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.num_hidden_layers == 2
    torch.testing.assert_close(_logits(again), cut, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", sorted(STACKS))
def test_layers_without_the_first_load_again_the_same_or_are_refused(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(STACKS[family]())
    if family == "modernbert":  # its first layer alone has no norm before attention
        with pytest.raises(ModelError, match=r"keep_layers: \[1, 3\] .*attn_norm.* Keep layer 0\."):
            keep_layers(model, (1, 3))
        return
    keep_layers(model, (1, 3))
    cut = _logits(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(_logits(again), cut, rtol=0, atol=1e-6)


def test_layers_that_cannot_be_loaded_again_are_refused_before_weights_are_needed() -> None:
    with pytest.raises(ModelError, match="Keep layer 0"):
        outline(STACKS["modernbert"](), _head(), {"keep_layers": (1, 3)})


def test_kept_layers_are_the_chosen_ones() -> None:
    model = AutoModelForSequenceClassification.from_config(STACKS["bert"]())
    chosen = [model.bert.encoder.layer[i] for i in (1, 3)]
    keep_layers(model, (1, 3))
    assert list(model.bert.encoder.layer) == chosen
    assert [layer.attention.self.layer_idx for layer in model.bert.encoder.layer] == [0, 1]


@pytest.mark.parametrize("kept", [(), (0, 4), (-1, 2), (1, 1), (2, 0)])
def test_layers_that_do_not_exist_are_refused(kept: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"keep_layers: .* from 0 and below 4"):
        outline(STACKS["bert"](), _head(), {"keep_layers": kept})


def test_layers_of_an_unknown_architecture_are_refused() -> None:
    config = AutoConfig.for_model("t5", d_model=16, d_ff=24, num_layers=2, num_heads=2, d_kv=8, vocab_size=40)
    with pytest.raises(ModelError, match=r"keep_layers: the layers of .* are not found"):
        outline(config, _head(), {"keep_layers": (0,)})


@pytest.mark.parametrize("family", sorted(STACKS))
def test_frozen_embeddings_get_no_gradient_and_no_optimizer_state(family: str) -> None:
    model = AutoModelForSequenceClassification.from_config(STACKS[family]())
    freeze(model, ("embeddings",))
    model(input_ids=IDS, attention_mask=MASK).logits.sum().backward()
    table = model.get_input_embeddings().weight
    trained = [p for group in decay_groups(model, 0.1) for p in group["params"]]
    assert table.grad is None
    assert all(p is not table for p in trained)
    assert trained


def test_unknown_part_to_freeze_is_refused() -> None:
    with pytest.raises(ModelError, match="freeze: 'encoder' is unknown"):
        freeze(torch.nn.Linear(1, 1), ("encoder",))


def test_biases_and_normalisation_do_not_decay() -> None:
    model = AutoModelForSequenceClassification.from_config(STACKS["bert"]())
    decaying, other = decay_groups(model, 0.3)
    names = {id(p): name for name, p in model.named_parameters()}
    assert (decaying["weight_decay"], other["weight_decay"]) == (0.3, 0.0)
    assert all(names[id(p)].endswith("weight") and "LayerNorm" not in names[id(p)] for p in decaying["params"])
    assert all(names[id(p)].endswith("bias") or "LayerNorm" in names[id(p)] for p in other["params"])
    assert len(decaying["params"]) + len(other["params"]) == len(names)


HEADS = ("classifier", "pre_classifier", "pooler", "head", "score", "final_norm", "ln_f", "model.norm")


@pytest.mark.parametrize("family", sorted(STACKS))
def test_each_layer_has_a_share_of_the_rate_of_the_one_above_it(family: str) -> None:
    model = AutoModelForSequenceClassification.from_config(STACKS[family]())
    share = {id(p): group["share"] for group in decay_groups(model, 0.1, 0.5) for p in group["params"]}
    assert len(share) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        layer = re.search(r"[.](\d)[.]", name)
        if layer is not None:
            assert share[id(parameter)] == 0.5 ** (4 - int(layer[1])), name
        else:
            is_head = any(part in name for part in HEADS)
            assert share[id(parameter)] == (1.0 if is_head else 0.5**5), name


def test_a_decoder_learns_faster_than_its_encoder() -> None:
    config = AutoConfig.for_model("t5", d_model=16, d_ff=24, num_layers=2, num_heads=2, d_kv=8, vocab_size=40)
    model = AutoModelForSequenceClassification.from_config(config)
    share = {id(p): group["share"] for group in decay_groups(model, 0.1, 0.5) for p in group["params"]}
    stacks = (*model.transformer.encoder.block, *model.transformer.decoder.block)
    assert [{share[id(p)] for p in block.parameters()} for block in stacks] == [{0.5**n} for n in (4, 3, 2, 1)]
    assert share[id(model.transformer.shared.weight)] == 0.5**5


def test_layer_decay_of_a_model_without_layers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"layer_decay: 0.9, but the layers of Linear are not found"):
        decay_groups(torch.nn.Linear(1, 1), 0.1, 0.9)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("bundled:minilm", "Did you mean 'bundled:minilm-l6'?"),
        ("./nowhere/at-all", "is no folder here"),
        ("models:/x@best", "is no folder here"),
        (
            "no-such-model-anywhere",
            r"'no-such-model-anywhere' cannot be loaded: \w+: .* or give a local folder",
        ),
    ],
)
def test_a_model_that_cannot_be_had_is_one_clear_error(reference: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_config(reference)
    assert caught.match(message.replace("?", r"\?") if "Did" in message else message)


def test_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate_model(str(tmp_path))


def test_damaged_weights_are_one_clear_error(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"classifier of .* cannot be loaded"):
        load_model(str(tmp_path), _head("a", "b"), {})


def _load_classifier(folder: str) -> object:
    return load_model(folder, _head(), {})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b""),
        ("config.json", b"[]"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"model_type": "bert", "hidden_size": 0}'),
        ("config.json", b'{"model_type": "bert", "hidden_size": "x"}'),
        ("config.json", b'{"model_type": "bert", "num_attention_heads": 0}'),
        ("config.json", b'{"model_type": ["bert"]}'),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 1000),
        ("model.safetensors", b"\0" * 1000),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"3"),
        ("tokenizer_config.json", b"[]"),
    ],
)
def test_a_damaged_file_of_a_model_is_one_clear_error(tmp_path: Path, file: str, content: bytes) -> None:
    folder = tiny_model(tmp_path / "model")
    (folder / file).write_bytes(content)
    load = load_tokenizer if file.startswith("tokenizer") else _load_classifier
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    assert str(folder) in str(caught.value)
    assert str(caught.value).isprintable()


def test_trained_model_whose_head_does_not_fit_is_refused(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    assert load_model(str(tmp_path), _head("a", "b", "c"), {}).config.num_labels == 3  # type: ignore[union-attr]
    with pytest.raises(ModelError, match=r"classifier of .* cannot be loaded"):
        load_model(str(tmp_path), _head("a", "b", "c"), {}, trained=True)


def test_padding_does_not_change_what_a_model_that_pools_the_last_token_says(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32, pad_token_id=39)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    model: Any = load_model(str(tmp_path), _head("a", "b"), {}).eval()
    assert model.config.pad_token_id == 0
    with torch.inference_mode():
        alone = model(input_ids=IDS[1:, :4]).logits[0]
    torch.testing.assert_close(_logits(model)[1], alone, rtol=0, atol=1e-6)


def test_tokenizer_without_padding_pads_with_its_end_token(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    tokenizer.pad_token = None
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).pad_token == "[SEP]"


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        choose_precision("fp16", torch.device("cpu"))


def test_tasks_are_found_by_name_or_by_class() -> None:
    assert "text-classification" in task_names()
    assert isinstance(load_objective("text-classification"), TextClassification)
    named = "objectives.tasks.text_classification:TextClassification"
    assert isinstance(load_objective(named), TextClassification)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text-clasification", "Did you mean 'text-classification'"),
        ("no.such:Thing", r"module 'no\.such' cannot be imported"),
        ("objectives.tasks.text_classification:TextClasification", "Did you mean 'TextClassification'"),
    ],
)
def test_unknown_task_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_objective(name)


def test_loaded_weights_lie_where_kernels_round_alike(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    model = load_model(str(tmp_path), _head(), {})
    assert {parameter.data_ptr() % 64 for parameter in model.parameters()} == {0}


def test_the_content_of_a_model_is_that_of_the_files_it_is_loaded_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(tmp_path / "model")
    content = content_of_weights(str(folder))
    # As the Hub's cache holds it, beside a variant that somebody else has loaded.
    snapshot = tmp_path / "hub/models--owner--name/snapshots/0123"
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert content_of_weights("owner/name") == content
    (snapshot / "model.fp16.safetensors").write_bytes(b"a variant")
    assert content_of_weights("owner/name") == content
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(snapshot, max_shard_size="50KB")
    (snapshot / "model.safetensors").unlink(missing_ok=True)
    shards = content_of_weights("owner/name")
    assert shards != content
    (snapshot / "model-00009-of-00009.safetensors").write_bytes(b"of another save")
    assert content_of_weights("owner/name") == shards
    next(snapshot.glob("model-00001-*")).write_bytes(b"other weights")
    assert content_of_weights("owner/name") != shards
    next(snapshot.glob("model-00001-*")).unlink()
    with pytest.raises(ModelError, match="the weights of 'owner/name' cannot be loaded: FileNotFoundError"):
        content_of_weights("owner/name")
    (snapshot / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match="the weights of 'owner/name' cannot be loaded"):
        content_of_weights("owner/name")
