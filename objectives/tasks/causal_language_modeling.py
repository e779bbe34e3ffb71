"""Causal language modelling: each token from those before it, as in Radford et al. 2019 (GPT-2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from objectives.data.batching import Indices, TokenRows, stacked
from objectives.data.masking import IGNORED
from objectives.data.rows import Rows
from objectives.data.streams import Documents, block_offsets, stream_parts
from objectives.data.task import Encoded
from objectives.finetune.language import Answers, LanguageModeling
from objectives.finetune.models import Head
from objectives.finetune.objective import FineTuning
from objectives.finetune.task import Frame
from sweep.errors import ModelError

METRICS = {"loss": "minimize", "perplexity": "minimize", "accuracy": "maximize"}
COLUMNS = {"text": "text"}
SETTINGS = {"packing": {"default": True, "help": "false begins a block with each document"}}
EXTENSIONS = [".txt", ".txt.gz", ".jsonl.gz"]
UNUSED = ["augment_delete", "augment_swap", "augment_mask", "classifier_dropout"]
MODEL = "random:gpt2-tiny"
EXAMPLE = {"text": "A paragraph of the corpus."}


class CausalLanguageModeling(LanguageModeling):
    """Documents, each followed by the end token; a row is a block of ``max_length`` tokens to predict."""

    columns = COLUMNS

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """The tokens of all documents; where they are cut, each trial says.

        Raises:
            ModelError: If the tokenizer has no token to end a text with.
        """
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if end is None:
            raise ModelError("model: its tokenizer has no end token, which documents are separated by. Set eos_token.")
        documents = tokenizer(list(rows["text"]), add_special_tokens=False, verbose=False)["input_ids"]
        return Encoded(ids=stream_parts(documents, end, begins=rows.start == 0))

    def head(self, known: Mapping[str, Any]) -> Head:
        """A logit for each token of the vocabulary."""

        def configure(config: Any) -> None:
            # A family that can also look ahead must not, here.
            config.is_decoder = True
            config.use_cache = False

        return Head(part="language model", auto=AutoModelForCausalLM, configure=configure)

    def examples(self, rows: TokenRows, frame: Frame) -> TokenRows:
        """Blocks of targets, with the token before each."""
        blocks = block_offsets(rows.offsets, frame.max_length, packed=bool(frame.settings.get("packing", True)))
        others = {"before": rows.ids[blocks[:-1] - 1], **Documents.of(rows.offsets, blocks).beside_rows}
        return replace(rows, offsets=blocks, suffix=0, others=others)

    def weight(self, rows: TokenRows, batch: Indices, frame: Frame) -> float:
        """Predicted tokens."""
        # Of these blocks alone: a corpus has millions of them, and each step asks.
        return float(np.minimum(rows.offsets[batch + 1] - rows.offsets[batch], frame.max_length).sum())

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Cross-entropy of the tokens, with label smoothing."""
        logits, targets = _predicted(model, rows, batch, frame)
        smoothing = float(frame.settings["label_smoothing"])
        return torch.nn.functional.cross_entropy(
            logits[targets != IGNORED].float(), targets[targets != IGNORED], label_smoothing=smoothing
        )

    def answers(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> Iterator[Answers]:
        """Each token of the split, once."""
        for logits, targets in zip(*_predicted(model, rows, batch, frame), strict=True):
            length = int((targets != IGNORED).sum())
            yield np.arange(length), logits[:length], targets[:length]


def _predicted(model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[batch, longest, vocabulary]`` and targets ``[batch, longest]`` of blocks, :data:`IGNORED` behind them.

    What a model reads is its targets shifted to the right by one, the token before the block in front.
    """
    others: Mapping[str, Any] = rows.others
    targets = [rows.tokens(int(i), frame.max_length) for i in batch]
    before = others["before"][batch]
    read = [np.concatenate([[first], row[:-1]]) for first, row in zip(before, targets, strict=True)]
    ids, mask = stacked(read, frame.data.pad_id), stacked([np.ones_like(row) for row in read], 0)
    on_device = [torch.from_numpy(part).to(frame.device) for part in (ids, mask, stacked(targets, IGNORED))]
    logits: torch.Tensor = model(input_ids=on_device[0], attention_mask=on_device[1]).logits
    return logits, on_device[2]


class CausalLanguageModelingObjective(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(CausalLanguageModeling())


OBJECTIVE = CausalLanguageModelingObjective
