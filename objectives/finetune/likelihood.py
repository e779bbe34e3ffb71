"""How likely a model finds the tokens of a split: counted over all of them, kept for each document."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.data.rows import shortened
from sweep.ports import Columns

Sums = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """Sums over the predicted tokens of each document.

    Attributes:
        losses: Negative log-likelihood, ``[documents]``, in nats.
        tokens: Predicted tokens, ``[documents]``.
        right: Those of them to which the model gives the highest probability, ``[documents]``.
    """

    losses: Sums
    tokens: Sums
    right: Sums

    @classmethod
    def of(cls, documents: int) -> Likelihood:
        """Nothing counted yet."""
        return cls(losses=np.zeros(documents), tokens=np.zeros(documents), right=np.zeros(documents))

    def add(self, documents: npt.NDArray[np.int64], logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count the predicted tokens of a block, in place.

        Args:
            documents: The document of each, ``[tokens]``.
            logits: ``[tokens, vocabulary]``.
            targets: The right ones, ``[tokens]``, int64.
        """
        losses = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
        right = (logits.argmax(-1) == targets).double()
        for sums, values in ((self.losses, losses), (self.tokens, torch.ones_like(losses)), (self.right, right)):
            np.add.at(sums, documents, values.cpu().numpy())

    @property
    def metrics(self) -> dict[str, float]:
        """Loss, perplexity and accuracy over all predicted tokens."""
        return likelihood_metrics({"losses": self.losses, "tokens": self.tokens, "right": self.right})

    def answers(self, records: Iterable[Mapping[str, Any]]) -> Columns:
        """A line for each document; the model writes none, so its score is the mean log-likelihood."""
        texts = [shortened(record["text"]) for record in records]
        return {
            "row": list(range(len(texts))),
            "text": texts,
            "label": [""] * len(texts),
            "prediction": [""] * len(texts),
            "probability": [None] * len(texts),
            "score": (-self.losses / np.maximum(self.tokens, 1)).tolist(),
            "losses": self.losses.tolist(),
            "tokens": self.tokens.tolist(),
            "right": self.right.tolist(),
        }

    def show(self, folder: Path) -> None:
        """There is nothing to look at besides the metrics."""


def likelihood_metrics(rows: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of any choice of documents, by the sums of :class:`Likelihood`.

    Returns:
        ``loss``, the mean negative log-likelihood of a token; ``perplexity``, its exponential (by the chain rule the
        geometric mean of how many tokens the model hesitates between); ``accuracy``. Means are over all tokens, never
        over batches or documents.
    """
    tokens = max(1.0, float(np.sum(rows["tokens"])))
    loss = float(np.sum(rows["losses"])) / tokens
    # Beyond the range of floats it is infinite, and the trial has diverged.
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return {"loss": loss, "perplexity": perplexity, "accuracy": float(np.sum(rows["right"])) / tokens}
