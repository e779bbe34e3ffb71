"""Small models and data for tests, built from a configuration: no download."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedTokenizerFast

from objectives.finetune.quiet import silence_libraries

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

_WORDS: Mapping[str, Sequence[str]] = {
    "music": ("play", "song", "album", "loud", "band", "listen"),
    "weather": ("rain", "snow", "forecast", "cold", "sunny", "wind"),
    "food": ("book", "table", "dinner", "restaurant", "menu", "eat"),
}
_FILLERS = ("the", "a", "please", "now", "for", "me", "today", "in")

TRAINING: Mapping[str, Any] = {
    "epochs": 2.0,
    "steps": None,
    "batch_size": 8,
    "evaluation_batch_size": 16,
    "accumulation": 1,
    "max_length": 16,
    "keep_layers": None,
    "freeze": (),
    "train_rows": None,
    "precision": "fp32",
    "learning_rate": 1e-2,
    "dropout": None,
    "attention_dropout": None,
    "classifier_dropout": None,
    "layer_drop": None,
    "weight_decay": 0.01,
    "warmup": 0.1,
    "warmup_steps": None,
    "schedule": "linear",
    "cooldown": 0.2,
    "optimizer": "adamw",
    "layer_decay": 1.0,
    "gradient_clipping": 1.0,
    "label_smoothing": 0.0,
    "augment_delete": 0.0,
    "augment_swap": 0.0,
    "augment_mask": 0.0,
    "method": "full",
    "lora_rank": 8,
    "lora_alpha": 16.0,
    "lora_targets": "attention",
    "lora_dropout": 0.0,
    "quantization": "none",
    "gradient_checkpointing": False,
    "compile": False,
    "patience": None,
    "min_delta": 0.0,
    "evaluate_every": None,
}
"""Training settings that suit :func:`tiny_model`, each as a spec would resolve it."""


def tiny_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows of ``text`` and ``label`` in three classes that half of the words give away."""
    generator = torch.Generator().manual_seed(seed)

    def draw(words: Sequence[str]) -> str:
        return words[int(torch.randint(len(words), (), generator=generator))]

    rows = []
    for number in range(count):
        label = sorted(_WORDS)[number % len(_WORDS)]
        length = 2 + int(torch.randint(4, (), generator=generator))
        words = [draw(_WORDS[label] if place % 2 else _FILLERS) for place in range(2 * length)]
        rows.append({"text": " ".join([*words, f"n{number}"]), "label": label})
    return rows


def tiny_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def tiny_tokenizer(folder: Path, texts: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A word tokenizer that knows the words of :func:`tiny_rows` and of ``texts``, saved to a folder."""
    tokenizer = Tokenizer(WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    known = [*texts, " ".join(_FILLERS), *(" ".join(words) for words in _WORDS.values())]
    tokenizer.train_from_iterator(known, WordLevelTrainer(special_tokens=list(SPECIAL_TOKENS)))
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    fast.save_pretrained(folder)
    return fast


def tiny_model(folder: Path, texts: Sequence[str] = (), layers: int = 2, width: int = 32) -> Path:
    """A BERT of about 20,000 parameters (at these sizes) with a tokenizer, saved to a folder."""
    silence_libraries()
    tokenizer = tiny_tokenizer(folder, texts)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def tiny_settings(model: Path, file: Path, **data: Any) -> dict[str, Any]:
    """Objective settings over a tiny model and a training file.

    Args:
        model: Folder of the model.
        file: The training file.
        **data: Values over those of the ``data`` part.
    """
    chosen = {
        "source": None,
        "train": (str(file),),
        "validation": (),
        "test": (),
        "text": "text",
        "label": "label",
        "validation_fraction": 0.2,
        "test_fraction": 0.2,
        "split_seed": 0,
    }
    return {
        "task": "text-classification",
        "model": str(model),
        "data": {**chosen, **data},
        "training": dict(TRAINING),
        "space": {},
        "metric": {"name": "accuracy", "direction": "maximize", "source": "best"},
        "seed": 0,
    }
