"""Multi-label classification: one text or two in, any number of classes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.data.batching import Indices, TokenRows, sorted_batches
from objectives.data.files import Columns as Cells
from objectives.data.labels import check_several, several_cell, several_names, split_labels
from objectives.data.rows import Rows, clean_rows, text_cell
from objectives.data.task import Encoded
from objectives.finetune.artifacts import write_scores
from objectives.finetune.classification import classification_head, encode_texts
from objectives.finetune.models import Head
from objectives.finetune.objective import FineTuning
from objectives.finetune.prediction import logits_of, texts_of
from objectives.finetune.report import DataReport, Studied, against_imbalance, class_shares
from objectives.finetune.task import Frame, Task
from sweep.ports import Columns

METRICS = {"micro_f1": "maximize", "macro_f1": "maximize", "subset_accuracy": "maximize", "loss": "minimize"}
COLUMNS = {"text": "text", "text_pair": None, "label": "label"}
SETTINGS = {
    "class_weights": {
        "default": "none",
        "choices": ["none", "balanced"],
        "help": "balanced: rare classes count as much as frequent ones",
    }
}
UNUSED = ["augment_delete", "augment_swap", "augment_mask"]
EXAMPLE = {"text": "dinner with a band", "label": ["food", "music"]}

_CELLS = {"text": text_cell, "text_pair": text_cell, "label": several_cell}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a model did on a split.

    Attributes:
        labels: Names of the classes, by id.
        truth: Whether each class is right, ``[rows, classes]``, bool.
        probabilities: Of each class, ``[rows, classes]``; above 1/2 it is given.
        losses: Binary cross-entropy of each row, the mean over the classes, ``[rows]``.
    """

    labels: Sequence[str]
    truth: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]

    @property
    def given(self) -> npt.NDArray[np.bool_]:
        """Whether each class is given, ``[rows, classes]``."""
        return self.probabilities > 0.5

    @property
    def metrics(self) -> dict[str, float]:
        """F1, subset accuracy and loss."""
        return _scores(self.truth, self.given) | {"loss": float(self.losses.mean())}

    def answers(self, records: Iterable[Mapping[str, Any]]) -> Columns:
        """The classes given to each row; its score is the F1 of the two sets, 1 where both are empty."""
        both = (self.truth & self.given).sum(1)
        all_ = self.truth.sum(1) + self.given.sum(1)
        numbers = {f"label_{i}": self.truth[:, i].astype(int).tolist() for i in range(len(self.labels))}
        numbers |= {f"prediction_{i}": self.given[:, i].astype(int).tolist() for i in range(len(self.labels))}
        return {
            "row": list(range(len(self.truth))),
            "text": texts_of(records),
            "label": [self._names(row) for row in self.truth],
            "prediction": [self._names(row) for row in self.given],
            "probability": np.where(self.given, self.probabilities, 1 - self.probabilities).prod(1).tolist(),
            "score": np.where(all_ > 0, 2 * both / np.maximum(all_, 1), 1.0).tolist(),
            "loss": self.losses.tolist(),
            **numbers,
        }

    def show(self, folder: Path) -> None:
        """Write the scores of each class."""
        hits, wrong, missed = _counts(self.truth, self.given)
        write_scores(folder, self.labels, hits, hits + wrong, hits + missed)

    def _names(self, row: npt.NDArray[np.bool_]) -> str:
        return ", ".join(name for name, is_there in zip(self.labels, row, strict=True) if is_there)


class MultiLabel(Task):
    """The classes of a text, or of two texts together: none, one or several."""

    columns = COLUMNS

    def clean(self, columns: Cells, origin: str) -> Rows:
        """Texts with tuples of names of classes; a cell that is empty has none."""
        return clean_rows({**columns, "label": split_labels(columns["label"])}, origin, _CELLS, may_be_empty=("label",))

    def strata(self, rows: Rows) -> Sequence[str]:
        """The rarest class of each row: where the rare ones are in proportion, the frequent ones nearly are."""
        counts = Counter(name for names in rows["label"] for name in names)
        return [min(names, key=lambda name: (counts[name], name), default="") for names in rows["label"]]

    def describe(self, splits: Mapping[str, Rows]) -> dict[str, Any]:
        """Names of the classes, and how many rows have each."""
        names = several_names(splits["train"])
        check_several(splits, names)
        counts = {split: Counter(n for row in rows["label"] for n in row) for split, rows in splits.items()}
        return {"labels": names, "classes": {split: {n: c[n] for n in names} for split, c in counts.items()}}

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """Token ids, and 1 for each class that a row has."""
        labels = np.array([[name in row for name in known["labels"]] for row in rows["label"]], dtype=np.int8)
        return replace(encode_texts(rows, tokenizer, max_length), labels=labels)

    def head(self, known: Mapping[str, Any]) -> Head:
        """A logit for each class."""
        return classification_head(known, "multi_label_classification")

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Binary cross-entropy of each class, with label smoothing towards 1/2; the mean over rows and classes."""
        logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device)
        smoothing = float(frame.settings["label_smoothing"])
        targets = torch.from_numpy(np.asarray(rows.labels[batch], dtype=np.float32)).to(frame.device)
        targets = targets * (1 - smoothing) + smoothing / 2
        weights = None if (found := _positive_weights(frame)) is None else torch.from_numpy(found).to(frame.device)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=weights)

    def examine(
        self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None
    ) -> Examination:
        """Probabilities of each class."""
        model.eval()
        truth = np.asarray(rows.labels)
        probabilities, losses = np.empty(truth.shape), np.empty(len(rows))
        with torch.inference_mode():
            for batch in sorted_batches(rows.lengths(frame.max_length), frame.batch_size):
                logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device).double()
                targets = torch.from_numpy(truth[batch]).to(frame.device).double()
                lost = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
                losses[batch] = lost.mean(-1).cpu().numpy()
                probabilities[batch] = logits.sigmoid().cpu().numpy()
                if alive is not None:
                    alive()
        return Examination(
            labels=frame.data.labels, truth=truth.astype(bool), probabilities=probabilities, losses=losses
        )

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """F1, subset accuracy and loss of any choice of rows."""
        count = sum(name.startswith("label_") for name in rows)
        truth = np.stack([np.asarray(rows[f"label_{i}"]) for i in range(count)], 1).astype(bool)
        given = np.stack([np.asarray(rows[f"prediction_{i}"]) for i in range(count)], 1).astype(bool)
        return _scores(truth, given) | {"loss": float(np.mean(rows["loss"]))}

    def report(self, study: Studied) -> DataReport:
        """Classes, how many a row has, and lengths."""
        rows = {split: np.asarray(study.rows(split).labels).sum(1) for split in study.splits}
        facts = (
            study.fact("labels a row, mean", lambda split: float(rows[split].mean()), "number"),
            study.fact("rows without a label", lambda split: float((rows[split] == 0).mean()), "share"),
        )
        classes = class_shares(study, against_imbalance(study.frame.settings, "macro_f1"))
        return classes + DataReport(facts) + super().report(study)


def _scores(truth: npt.NDArray[np.bool_], given: npt.NDArray[np.bool_]) -> dict[str, float]:
    """F1 over all decisions, its mean over the classes that occur, and the share of rows with every class right."""
    hits, wrong, missed = _counts(truth, given)
    all_ = 2 * hits + wrong + missed
    f1 = 2 * hits[all_ > 0] / all_[all_ > 0]
    return {
        "micro_f1": float(2 * hits.sum() / max(1, all_.sum())),
        "macro_f1": float(f1.mean()) if len(f1) else 0.0,
        "subset_accuracy": float((truth == given).all(1).mean()),
    }


def _counts(truth: npt.NDArray[np.bool_], given: npt.NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    """Of each class: rows rightly given it, wrongly given it, and missed."""
    return (truth & given).sum(0), (~truth & given).sum(0), (truth & ~given).sum(0)


def _positive_weights(frame: Frame) -> npt.NDArray[np.float32] | None:
    """How much a row that has a class counts against one that has not, ``[classes]``; None counts them alike."""
    if frame.settings.get("class_weights", "none") == "none":
        return None
    counts = np.array([frame.data.meta["classes"]["train"][label] for label in frame.data.labels], dtype=np.float64)
    rows = int(frame.data.meta["rows"]["train"])
    return (np.maximum(rows - counts, 1) / np.maximum(counts, 1)).astype(np.float32)


class MultiLabelClassification(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(MultiLabel())


OBJECTIVE = MultiLabelClassification
