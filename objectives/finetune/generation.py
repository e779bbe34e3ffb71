"""Writing texts with a decoder, and how likely it finds the right ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.data.masking import IGNORED


def generated(model: Any, settings: Mapping[str, Any], losses: npt.NDArray[np.float64], **inputs: Any) -> Any:
    """Token ids that a model writes, ``[rows, longest]``; none if it has diverged, where nothing can be chosen.

    Args:
        model: With a decoder.
        settings: Training settings: ``beams`` (1 is greedy) and ``max_new_tokens``; nothing is drawn.
        losses: Of the right texts, ``[rows]``.
        **inputs: What it reads.
    """
    if not np.isfinite(losses).all():
        return np.empty((len(losses), 0), dtype=np.int64)
    return model.generate(
        **inputs,
        num_beams=int(settings.get("beams", 1)),
        max_new_tokens=int(settings.get("max_new_tokens", 128)),
        do_sample=False,
    )


def token_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Mean cross-entropy of the labels, a scalar with gradient.

    Args:
        logits: ``[rows, longest, vocabulary]``.
        labels: ``[rows, longest]``, :data:`~objectives.data.masking.IGNORED` where there is nothing to predict.
        smoothing: Label smoothing, in [0, 1).
    """
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )


def row_losses(logits: torch.Tensor, labels: torch.Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Negative log-likelihood of each row's labels, in nats, and how many there are, each ``[rows]``.

    Args:
        logits: ``[rows, longest, vocabulary]``.
        labels: ``[rows, longest]``, :data:`~objectives.data.masking.IGNORED` where there is nothing to predict.
    """
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).double(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.reshape(labels.shape).sum(1).cpu().numpy(), (labels != IGNORED).double().sum(1).cpu().numpy()
