from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import BertConfig

from objectives.finetune.scratch import NAMES, is_random, random_config
from sweep.errors import ModelError


@pytest.mark.parametrize("name", NAMES)
def test_every_named_shape_is_a_configuration(name: str) -> None:
    config = random_config(f"random:{name}")
    assert config.model_type == name.split("-")[0]
    assert config.hidden_size % config.num_attention_heads == 0


def test_a_configuration_file_is_a_shape_too(tmp_path: Path) -> None:
    BertConfig(hidden_size=48, num_attention_heads=4).save_pretrained(tmp_path)
    for reference in (tmp_path, tmp_path / "config.json"):
        assert random_config(f"random:{reference}").hidden_size == 48


def test_only_a_reference_that_says_so_begins_at_random() -> None:
    assert is_random("random:bert-tiny")
    assert not is_random("bert-tiny")


@pytest.mark.parametrize(
    ("written", "match"),
    [
        (None, "neither a known shape nor a file. Did you mean 'random:bert-tiny'"),
        ("not json", "no configuration that transformers knows: JSONDecodeError"),
        ({"hidden_size": 3}, "It needs a model_type"),
        ({"model_type": "nobody-knows"}, "It needs a model_type"),
        ({"model_type": "bert", "hidden_size": "wide"}, "no configuration that transformers knows"),
    ],
)
def test_a_reference_without_a_shape_is_explained(written: object, match: str, tmp_path: Path) -> None:
    reference = "random:bert-tinny"
    if written is not None:
        (tmp_path / "config.json").write_text(written if isinstance(written, str) else json.dumps(written))
        reference = f"random:{tmp_path}"
    with pytest.raises(ModelError, match=match):
        random_config(reference)
