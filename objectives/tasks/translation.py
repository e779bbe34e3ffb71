"""Translation, and other work from text to text: one in, another out (Sutskever et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from objectives.data.batching import Indices, Ragged, TokenRows, padded, sorted_batches, stacked
from objectives.data.files import Columns
from objectives.data.masking import IGNORED
from objectives.data.rows import Rows, clean_rows, text_cell
from objectives.data.task import Encoded
from objectives.data.tokens import token_ids
from objectives.finetune.generation import generated, row_losses, token_loss
from objectives.finetune.models import Head
from objectives.finetune.objective import FineTuning
from objectives.finetune.report import DataReport, Studied, against, spread_of, unknown_tokens
from objectives.finetune.task import Frame, Task
from objectives.finetune.text_scores import sentence_chrf, translation_counts, translation_scores
from objectives.finetune.written import Written, mean_loss, text_column, texts_of

METRICS = {"chrf": "maximize", "bleu": "maximize", "exact_match": "maximize", "loss": "minimize"}
COLUMNS = {"text": "text", "target": "target"}
SETTINGS = {
    "beams": {"default": 1, "low": 1, "high": 64, "help": "of the search for a text; 1 is greedy"},
    "max_new_tokens": {"default": 128, "low": 1, "high": 100000, "help": "most tokens of a text that is written"},
    "target_language": {"default": "en", "help": "of the target; zh, ja and ko are counted by characters"},
}
UNUSED = ["augment_delete", "augment_swap", "augment_mask", "classifier_dropout"]
MODEL = "random:t5-tiny"
EXAMPLE = {"text": "guten Tag", "target": "good day"}


class Translation(Task):
    """A text and the one to write."""

    columns = COLUMNS
    answer_columns = ("target",)

    def clean(self, columns: Columns, origin: str) -> Rows:
        """Pairs of texts."""
        return clean_rows(columns, origin, {"text": text_cell, "target": text_cell})

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """Token ids of both; the target's text lies beside, to be compared with what is written."""
        targets = tokenizer(
            text_target=list(rows["target"]), truncation=True, max_length=max_length, return_attention_mask=False
        )
        return Encoded(
            ids=token_ids(tokenizer, max_length, rows["text"]),
            labels=Ragged.of(targets["input_ids"], np.int32),
            others={"target": text_column(rows["target"])},
        )

    def head(self, known: Mapping[str, Any]) -> Head:
        """A decoder with a logit for each token of the vocabulary."""
        return Head(part="sequence-to-sequence model", auto=AutoModelForSeq2SeqLM, configure=lambda config: None)

    def weight(self, rows: TokenRows, batch: Indices, frame: Frame) -> float:
        """Tokens of the targets."""
        return float(sum(len(target) for target in _targets(rows, batch, frame)))

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Cross-entropy of each token of the target after those before it (teacher forcing), with label smoothing."""
        return token_loss(*_predicted(model, rows, batch, frame), float(frame.settings["label_smoothing"]))

    def examine(self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None) -> Written:
        """Write each row's text, greedily or by beam search, and take the likelihood of the right one."""
        model.eval()
        tokenizer = AutoTokenizer.from_pretrained(frame.data.tokenizer)
        written, losses, tokens = [""] * len(rows), np.zeros(len(rows)), np.zeros(len(rows))
        with torch.inference_mode():
            for batch in sorted_batches(rows.lengths(frame.max_length), frame.batch_size):
                losses[batch], tokens[batch] = row_losses(*_predicted(model, rows, batch, frame))
                ids = generated(model, frame.settings, losses[batch], **_read(rows, batch, frame))
                for row, text in zip(batch, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                    written[row] = text.strip()
                if alive is not None:
                    alive()
        right, language = texts_of(rows.others["target"]), str(frame.settings.get("target_language", "en"))
        counts = translation_counts(written, right, language)
        return Written(
            texts=written,
            right=right,
            counts={**counts, "losses": losses, "tokens": tokens},
            scores=self.metrics,
            quality=sentence_chrf(counts),
            source="text",
        )

    def metrics(self, rows: Mapping[str, Any]) -> dict[str, float]:
        """chrF, BLEU, exact matches and loss of any choice of rows."""
        return translation_scores(rows) | {"loss": mean_loss(rows)}

    def report(self, study: Studied) -> DataReport:
        """Lengths of what is read and of what is to be written."""
        source = study.tokens(lambda row: str(row["text"]))
        target = study.targets(lambda row: str(row["target"]))
        written = int(study.frame.settings.get("max_new_tokens", 128))
        longer = {split: np.maximum(source[split], target[split]) for split in source}
        return (
            spread_of(source, "tokens of a text")
            + spread_of(target, "tokens of a target")
            + against(longer, study.frame.max_length, "max_length")
            + against(target, written, "max_new_tokens", "target tokens")
            + unknown_tokens(study)
        )


def _targets(rows: TokenRows, batch: Indices, frame: Frame) -> list[npt.NDArray[np.int32]]:
    """Token ids of the targets, truncated with their end kept."""
    return [rows.cut(rows.labels[int(row)], frame.max_length) for row in batch]


def _read(rows: TokenRows, batch: Indices, frame: Frame) -> dict[str, torch.Tensor]:
    ids, mask = padded(rows, batch, frame.max_length, frame.data.pad_id)
    return {
        "input_ids": torch.from_numpy(ids).to(frame.device),
        "attention_mask": torch.from_numpy(mask).to(frame.device),
    }


def _predicted(model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[batch, longest, vocabulary]`` and labels ``[batch, longest]``; the model shifts them itself."""
    labels = torch.from_numpy(stacked(_targets(rows, batch, frame), IGNORED)).to(frame.device)
    logits: torch.Tensor = model(**_read(rows, batch, frame), labels=labels).logits
    return logits, labels


class TranslationObjective(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(Translation())


OBJECTIVE = TranslationObjective
