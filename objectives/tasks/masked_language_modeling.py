"""Masked language modelling: hidden tokens from those around them, as in Devlin et al., arXiv:1810.04805."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from objectives.data.batching import Indices, Ragged, TokenRows, stacked
from objectives.data.masking import IGNORED, Masker
from objectives.data.rows import Rows
from objectives.data.streams import Documents, block_offsets, stream_parts
from objectives.data.task import Encoded
from objectives.data.tokenizer_training import begins_of
from objectives.finetune.language import Answers, LanguageModeling
from objectives.finetune.models import Head
from objectives.finetune.objective import FineTuning
from objectives.finetune.task import Frame
from sweep.errors import ModelError

METRICS = {"loss": "minimize", "perplexity": "minimize", "accuracy": "maximize"}
COLUMNS = {"text": "text"}
SETTINGS = {
    "packing": {"default": True, "help": "false begins a block with each document"},
    "whole_word_masking": {"default": False, "help": "true hides all tokens of a word together"},
}
EXTENSIONS = [".txt", ".txt.gz", ".jsonl.gz"]
UNUSED = ["augment_delete", "augment_swap", "augment_mask", "classifier_dropout"]
MODEL = "random:bert-tiny"
EXAMPLE = {"text": "A paragraph of the corpus."}

_EVALUATION = (0x6D61736B,)
"""Seed of the masks in evaluation: the same for all trials."""

_BLOCKS_OF_A_STEP = 4096


class MaskedLanguageModeling(LanguageModeling):
    """Documents cut into blocks; in training their masks change from epoch to epoch, in evaluation never."""

    columns = COLUMNS

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """The tokens of all documents; where they are cut and masked, each trial says.

        Raises:
            ModelError: If the tokenizer has no mask, or no token that separates texts.
        """
        if None in (tokenizer.mask_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id):
            raise ModelError(
                "model: its tokenizer lacks a mask, a beginning or an end: it was not made to fill in hidden tokens. "
                "Choose another, such as random:bert-tiny, or task: causal-language-modeling."
            )
        encoded = tokenizer(list(rows["text"]), add_special_tokens=False, verbose=False)
        begins = rows.start == 0
        parts = stream_parts(encoded["input_ids"], tokenizer.sep_token_id, begins=begins)
        words = stream_parts([begins_of(encoded.word_ids(i)) for i in range(len(rows))], True, begins=begins)
        return Encoded(ids=parts, others={"begins": Ragged.of(words, bool)})

    def head(self, known: Mapping[str, Any]) -> Head:
        """A logit for each token of the vocabulary."""
        return Head(part="masked language model", auto=AutoModelForMaskedLM, configure=lambda config: None)

    def examples(self, rows: TokenRows, frame: Frame) -> TokenRows:
        """Blocks that leave room for the special tokens around them."""
        blocks = block_offsets(
            rows.offsets, frame.max_length - 2, packed=bool(frame.settings.get("packing", True)), separator_is_free=True
        )
        begins: Any = rows.others["begins"]
        others = {
            "begins": Ragged(values=begins.values, offsets=blocks),
            **Documents.of(rows.offsets, blocks).beside_rows,
        }
        return replace(rows, offsets=blocks, suffix=0, others=others)

    def weight(self, rows: TokenRows, batch: Indices, frame: Frame) -> float:
        """Hidden tokens."""
        return float(sum((labels != IGNORED).sum() for _, labels in _hidden(rows, batch, frame, _training(frame))))

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Cross-entropy of the hidden tokens, with label smoothing."""
        logits, labels = _predicted(model, rows, batch, frame, _training(frame))
        chosen = labels != IGNORED
        if not chosen.any():
            return logits.sum() * 0.0
        smoothing = float(frame.settings["label_smoothing"])
        return torch.nn.functional.cross_entropy(logits[chosen].float(), labels[chosen], label_smoothing=smoothing)

    def answers(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> Iterator[Answers]:
        """The tokens that the fixed masks hide."""
        for logits, labels in zip(*_predicted(model, rows, batch, frame, _EVALUATION), strict=True):
            chosen = torch.nonzero(labels != IGNORED)[:, 0]
            # One token stands before the block.
            yield chosen.cpu().numpy() - 1, logits[chosen], labels[chosen]


def _training(frame: Frame) -> tuple[int, ...]:
    return (frame.seed, frame.epoch)


@functools.lru_cache(maxsize=4)
def _masker(tokenizer: Path, whole_words: bool) -> tuple[Masker, int, int]:
    """What hides tokens, and those that stand before and behind a block."""
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    special = frozenset(loaded.all_special_ids)
    ordinary = np.array([i for i in range(len(loaded)) if i not in special], dtype=np.int64)
    masker = Masker(mask_id=loaded.mask_token_id, ordinary=ordinary, special=special, whole_words=whole_words)
    return masker, loaded.cls_token_id, loaded.sep_token_id


def _hidden(
    rows: TokenRows, batch: Indices, frame: Frame, seed: tuple[int, ...]
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """What a model reads of each block, and the labels; see :meth:`~objectives.data.masking.Masker.mask`."""
    whole_words = bool(frame.settings.get("whole_word_masking", False))
    _, first, last = _masker(frame.data.tokenizer, whole_words)
    found = []
    for block in batch:
        tokens, begins = rows.tokens(int(block), frame.max_length), rows.others["begins"][int(block)]
        end = [] if tokens[-1] == last else [last]
        ids = np.concatenate([[first], tokens, end]).astype(np.int64)
        flags = np.concatenate([[True], begins, [True] * len(end)])
        found.append(
            _drawn(frame.data.tokenizer, whole_words, ids.tobytes(), flags.astype(bool).tobytes(), (*seed, int(block)))
        )
    return found


@functools.lru_cache(maxsize=_BLOCKS_OF_A_STEP)
def _drawn(
    tokenizer: Path, whole_words: bool, ids: bytes, begins: bytes, seed: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A block with its tokens hidden: a step asks for it twice, once for its weight."""
    masker, _, _ = _masker(tokenizer, whole_words)
    return masker.mask(np.frombuffer(ids, dtype=np.int64), np.frombuffer(begins, dtype=bool), seed)


def _predicted(
    model: Any, rows: TokenRows, batch: Indices, frame: Frame, seed: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[batch, longest, vocabulary]`` and labels ``[batch, longest]`` of blocks."""
    hidden = _hidden(rows, batch, frame, seed)
    ids, labels = (
        torch.from_numpy(stacked(part, fill)).to(frame.device)
        for part, fill in zip(zip(*hidden, strict=True), (frame.data.pad_id, IGNORED), strict=True)
    )
    mask = torch.from_numpy(stacked([np.ones(len(row)) for row, _ in hidden], 0)).to(frame.device)
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits, labels


class MaskedLanguageModelingObjective(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(MaskedLanguageModeling())


OBJECTIVE = MaskedLanguageModelingObjective
