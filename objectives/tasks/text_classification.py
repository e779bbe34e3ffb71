"""Text classification: one text or two in, one of a few classes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.data.batching import Indices, TokenRows
from objectives.data.files import Columns
from objectives.data.folders import LabelledTexts
from objectives.data.labels import check_labels, label_cell, label_names
from objectives.data.rows import Rows, clean_rows, text_cell
from objectives.data.task import Encoded
from objectives.finetune.classification import class_weights, classification_head, encode_texts
from objectives.finetune.models import Head
from objectives.finetune.objective import FineTuning
from objectives.finetune.prediction import Examination, examine, logits_of
from objectives.finetune.report import DataReport, Studied, against_imbalance, class_shares
from objectives.finetune.scores import confusion_matrix, scores
from objectives.finetune.task import Frame, Task
from objectives.serving.offer import text_classifier_offer
from objectives.serving.onnx_file import write_onnx
from sweep.errors import UserError

METRICS = {"accuracy": "maximize", "macro_f1": "maximize", "mcc": "maximize", "loss": "minimize"}
COLUMNS = {"text": "text", "text_pair": None, "label": "label"}
SETTINGS = {
    "class_weights": {
        "default": "none",
        "choices": ["none", "balanced"],
        "help": "balanced: rare classes count as much as frequent ones",
    }
}
FOLDER = "*/*.txt"
EXAMPLE = {"text": "what a day", "label": "good"}

_CELLS = {"text": text_cell, "text_pair": text_cell, "label": label_cell}


class Classification(Task):
    """The class of a text, or of two texts together."""

    columns = COLUMNS
    augments = True
    folder = LabelledTexts()

    def clean(self, columns: Columns, origin: str) -> Rows:
        """Texts with names of classes."""
        return clean_rows(columns, origin, _CELLS)

    def strata(self, rows: Rows) -> Sequence[str]:
        """The classes."""
        return rows["label"]

    def describe(self, splits: Mapping[str, Rows]) -> dict[str, Any]:
        """Names of the classes, and how many rows each has."""
        names = label_names(splits["train"])
        check_labels(splits, names)
        counts = {split: Counter(rows["label"]) for split, rows in splits.items()}
        return {"labels": names, "classes": {split: {n: c[n] for n in names} for split, c in counts.items()}}

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """Token ids and the number of the class."""
        number = {label: i for i, label in enumerate(known["labels"])}
        labels = np.array([number[name] for name in rows["label"]], dtype=np.int64)
        return replace(encode_texts(rows, tokenizer, max_length), labels=labels)

    def head(self, known: Mapping[str, Any]) -> Head:
        """A logit for each class."""
        return classification_head(known, "single_label_classification")

    def groups(self, rows: TokenRows) -> npt.NDArray[np.int64]:
        """The classes."""
        return np.asarray(rows.labels)

    def weight(self, rows: TokenRows, batch: Indices, frame: Frame) -> float:
        """Rows, each as much as its class weighs."""
        weights = class_weights(frame)
        return float(len(batch) if weights is None else weights[np.asarray(rows.labels[batch])].sum())

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Cross-entropy, with label smoothing and weights of classes."""
        logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device)
        targets = torch.from_numpy(np.asarray(rows.labels[batch])).to(frame.device)
        weights = None if (found := class_weights(frame)) is None else torch.from_numpy(found).to(frame.device)
        smoothing = float(frame.settings["label_smoothing"])
        return torch.nn.functional.cross_entropy(logits.float(), targets, weights, label_smoothing=smoothing)

    def examine(
        self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None
    ) -> Examination:
        """Classes and their probabilities."""
        return examine(model, rows, frame, alive)

    def answer(self, model: Any, rows: TokenRows, row: int, frame: Frame) -> torch.Tensor:
        """Logits of one row."""
        with torch.inference_mode():
            return logits_of(model, rows, np.array([row]), frame.max_length, frame.data.pad_id, frame.device)

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """Accuracy, macro F1, MCC and loss of any choice of rows."""
        truth, predicted = np.asarray(rows["label_id"]), np.asarray(rows["prediction_id"])
        classes = 1 + int(max(truth.max(), predicted.max()))
        return scores(confusion_matrix(truth, predicted, classes)) | {"loss": float(np.mean(rows["loss"]))}

    def report(self, study: Studied) -> DataReport:
        """Classes and lengths."""
        return class_shares(study, against_imbalance(study.frame.settings, "macro_f1")) + super().report(study)

    def serving(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """By a file that needs transformers alone; pairs of texts are refused."""
        if settings.get("data", {}).get("text_pair"):
            raise UserError("task: models of two texts cannot be served by a registry yet. Export the winner.")
        return text_classifier_offer(settings)

    def to_onnx(self, model: Any, rows: TokenRows, file: Path, frame: Frame) -> Mapping[str, Any]:
        """Token ids and mask in, logits out."""
        return write_onnx(model, rows, file, max_length=frame.max_length, pad_id=frame.data.pad_id)


class TextClassification(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(Classification())


OBJECTIVE = TextClassification
