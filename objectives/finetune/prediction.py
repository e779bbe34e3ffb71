"""Predictions of a classifier in fp32: the numbers that plain transformers gives, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.data.batching import TokenRows, padded, sorted_batches
from objectives.finetune.scores import Confusion, confusion_matrix, scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a classifier did on a split.

    Attributes:
        confusion: Counts ``[true class, predicted class]``.
        loss: Mean cross-entropy, without label smoothing.
        predicted: Predicted class of each row, ``[rows]``, int64.
        probability: Probability given to it, ``[rows]``, float64.
        losses: Cross-entropy of each row, ``[rows]``, float64.
    """

    confusion: Confusion
    loss: float
    predicted: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]

    @property
    def metrics(self) -> dict[str, float]:
        """Accuracy, macro F1, MCC and loss."""
        return scores(self.confusion) | {"loss": self.loss}


def logits_of(
    model: Any, rows: TokenRows, batch: Any, max_length: int, pad_id: int, device: torch.device
) -> torch.Tensor:
    """Logits ``[batch, classes]`` of rows of a split."""
    ids, mask = (torch.from_numpy(part).to(device) for part in padded(rows, batch, max_length, pad_id))
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits


def examine(
    model: Any,
    rows: TokenRows,
    *,
    classes: int,
    max_length: int,
    batch_size: int,
    pad_id: int,
    device: torch.device,
    alive: Callable[[], None] | None = None,
) -> Examination:
    """Evaluate a model on a split, without dropout or autocast; puts the model into evaluation mode.

    Args:
        model: A transformers classifier on ``device``.
        rows: The split.
        classes: How many classes there are.
        max_length: Tokens; longer rows are truncated.
        batch_size: Rows a batch; does not change the result beyond rounding.
        pad_id: Padding token.
        device: Where the model is.
        alive: Called after each batch.
    """
    model.eval()
    predicted = np.empty(len(rows), dtype=np.int64)
    probability, losses = np.empty(len(rows)), np.empty(len(rows))
    loss = 0.0
    truth = np.asarray(rows.labels)
    with torch.inference_mode():
        for batch in sorted_batches(rows.lengths(max_length), batch_size):
            logits = logits_of(model, rows, batch, max_length, pad_id, device).double()
            targets = torch.from_numpy(truth[batch]).to(device)
            lost = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            loss += float(lost.sum())
            losses[batch] = lost.cpu().numpy()
            predicted[batch] = logits.argmax(-1).cpu().numpy()
            probability[batch] = logits.softmax(-1).amax(-1).cpu().numpy()
            if alive is not None:
                alive()
    return Examination(
        confusion=confusion_matrix(truth, predicted, classes),
        loss=loss / len(rows),
        predicted=predicted,
        probability=probability,
        losses=losses,
    )
