"""Scores of a classifier, from its predictions, with numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Confusion = npt.NDArray[np.int64]


def confusion_matrix(truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int) -> Confusion:
    """Counts ``[true class, predicted class]``."""
    flat = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def scores(confusion: Confusion) -> dict[str, float]:
    """Accuracy, macro-averaged F1 over the classes that occur, and Matthews' correlation (Gorodkin 2004).

    A ratio without a denominator counts as 0.
    """
    total = float(confusion.sum())
    right = float(np.trace(confusion))
    true, predicted = confusion.sum(1).astype(float), confusion.sum(0).astype(float)
    occurs = (true + predicted) > 0
    f1 = 2 * np.diag(confusion)[occurs] / (true + predicted)[occurs]
    spread = math.sqrt((total**2 - float(predicted @ predicted)) * (total**2 - float(true @ true)))
    return {
        "accuracy": right / total,
        "macro_f1": float(f1.mean()),
        "mcc": (right * total - float(true @ predicted)) / spread if spread else 0.0,
    }


def class_report(confusion: Confusion, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of each class; a ratio without a denominator counts as 0."""
    rows = []
    for i, label in enumerate(labels):
        hits, support, given = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
        rows.append(
            {
                "label": label,
                "precision": hits / given if given else 0.0,
                "recall": hits / support if support else 0.0,
                "f1": 2 * hits / (support + given) if support + given else 0.0,
                "support": support,
            }
        )
    return rows
