"""Predictions of a classifier in fp32: the numbers that plain transformers gives, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.data.batching import TokenRows, sorted_batches
from objectives.data.pairs import model_inputs
from objectives.data.rows import shortened
from objectives.finetune.artifacts import write_confusion
from objectives.finetune.scores import Confusion, confusion_matrix, scores
from objectives.finetune.task import Frame
from sweep.ports import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a classifier did on a split.

    Attributes:
        labels: Names of the classes, by id.
        truth: Right class of each row, ``[rows]``, int64.
        confusion: Counts ``[true class, predicted class]``.
        loss: Mean cross-entropy, without label smoothing.
        predicted: Predicted class of each row, ``[rows]``, int64.
        probability: Probability given to it, ``[rows]``, float64.
        losses: Cross-entropy of each row, ``[rows]``, float64.
    """

    labels: Sequence[str]
    truth: npt.NDArray[np.int64]
    confusion: Confusion
    loss: float
    predicted: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]

    @property
    def metrics(self) -> dict[str, float]:
        """Accuracy, macro F1, MCC and loss."""
        return scores(self.confusion) | {"loss": self.loss}

    def answers(self, records: Iterable[Mapping[str, Any]]) -> Columns:
        """Class and probability of each row, beside the right one."""
        return {
            "row": list(range(len(self.truth))),
            "text": texts_of(records),
            "label": [self.labels[i] for i in self.truth],
            "prediction": [self.labels[i] for i in self.predicted],
            "probability": self.probability.tolist(),
            "score": (self.predicted == self.truth).astype(float).tolist(),
            "loss": self.losses.tolist(),
            "label_id": self.truth.tolist(),
            "prediction_id": self.predicted.tolist(),
        }

    def show(self, folder: Path) -> None:
        """Write the confusion matrix and the scores of each class."""
        write_confusion(folder, self.confusion, self.labels)


def texts_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A short form of each row's text, or of its two."""
    return [
        shortened(" | ".join(record[part] for part in ("text", "text_pair") if part in record)) for record in records
    ]


def logits_of(
    model: Any, rows: TokenRows, batch: Any, max_length: int, pad_id: int, device: torch.device
) -> torch.Tensor:
    """Logits of rows of a split: ``[batch, classes]``, or ``[batch, longest, classes]`` where tokens have classes."""
    inputs = model_inputs(rows, batch, max_length, pad_id)
    logits: torch.Tensor = model(**{name: torch.from_numpy(part).to(device) for name, part in inputs.items()}).logits
    return logits


def examine(model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None) -> Examination:
    """Evaluate a model on a split, without dropout or autocast; puts the model into evaluation mode.

    Args:
        model: A transformers classifier on the frame's device.
        rows: The split.
        frame: What else is needed.
        alive: Called after each batch.
    """
    model.eval()
    predicted = np.empty(len(rows), dtype=np.int64)
    probability, losses = np.empty(len(rows)), np.empty(len(rows))
    loss = 0.0
    truth = np.asarray(rows.labels)
    with torch.inference_mode():
        for batch in sorted_batches(rows.lengths(frame.max_length), frame.batch_size):
            logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device).double()
            targets = torch.from_numpy(truth[batch]).to(frame.device)
            lost = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            loss += float(lost.sum())
            losses[batch] = lost.cpu().numpy()
            predicted[batch] = logits.argmax(-1).cpu().numpy()
            probability[batch] = logits.softmax(-1).amax(-1).cpu().numpy()
            if alive is not None:
                alive()
    return Examination(
        labels=frame.data.labels,
        truth=truth,
        confusion=confusion_matrix(truth, predicted, len(frame.data.labels)),
        loss=loss / len(rows),
        predicted=predicted,
        probability=probability,
        losses=losses,
    )
