"""A model's answers row by row: how they travel from the objective's process, and what follows from them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import SweepError, UserError
from sweep.ports import Columns, Objective, PredictingObjective

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = ("row", "text", "label", "prediction", "probability", "score")
"""What every prediction has; see :class:`sweep.ports.PredictingObjective`."""


def no_predictions(task: str) -> str:
    """Why there is no interval, no paired test and no flipped example."""
    return (
        f"{task} does not tell its answers row by row, so there is no interval over the rows and no paired test: "
        "give the objective `predict` and `metrics` (sweep.ports.PredictingObjective)."
    )


def predict_to(
    objective: Objective, model: Path, prepared: Path, split: str, settings: Mapping[str, Any], file: Path
) -> bool:
    """Write a model's answers to a file: they can be larger than a message between processes.

    Returns:
        Whether the objective can tell its answers; nothing is written if not.

    Raises:
        UserError: If what it tells is not what the contract says.
    """
    if not isinstance(objective, PredictingObjective):
        return False
    columns = objective.predict(model, prepared, split, settings)
    check_columns(columns)
    try:
        text = json.dumps({name: list(column) for name, column in columns.items()}, allow_nan=False)
    except (TypeError, ValueError) as err:
        raise UserError(
            f"predict: its columns cannot be written as JSON ({err}). Give text and finite numbers."
        ) from err
    file.write_text(text, encoding="utf-8")
    return True


def read_predictions(file: Path) -> Columns:
    """The columns that :func:`predict_to` wrote.

    Raises:
        SweepError: If they cannot be read.
    """
    try:
        columns: Columns = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise SweepError(f"{file}: cannot be read ({err}). Compare again.") from err
    return columns


def check_columns(columns: Columns) -> None:
    """Hold an objective to its contract.

    Raises:
        UserError: If a column is missing, the lengths differ, or there is no row.
    """
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UserError(f"predict: the columns {', '.join(missing)} are missing. Give all of {', '.join(COLUMNS)}.")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not lengths["row"]:
        raise UserError(
            f"predict: the columns have {lengths} rows. Give one entry a row in each, and at least one row."
        )


def numbers(columns: Columns) -> dict[str, NDArray[np.float64]]:
    """The columns that hold finite numbers alone, as arrays: what ``metrics`` is given."""
    import numpy as np

    return {name: np.asarray(column) for name, column in columns.items() if all(map(_is_number, column))}


def same_rows(first: Columns, second: Columns) -> bool:
    """Whether two models answered the same questions, in the same order."""
    return all(list(first[name]) == list(second[name]) for name in ("row", "text", "label"))


def flips(first: Columns, second: Columns) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows that the second answers better than the first, and those that it answers worse; the widest first.

    Args:
        first: Answers of the one model.
        second: Answers of the other, to the same rows.
    """
    rows = [
        {
            "row": first["row"][i],
            "text": first["text"][i],
            "label": first["label"][i],
            "predictions": [first["prediction"][i], second["prediction"][i]],
            "probabilities": [first["probability"][i], second["probability"][i]],
            "change": second["score"][i] - first["score"][i],
        }
        for i in range(len(first["row"]))
    ]
    better = sorted((row for row in rows if row["change"] > 0), key=_surest)
    return better, sorted((row for row in rows if row["change"] < 0), key=_surest)


def class_scores(columns: Columns) -> list[dict[str, Any]] | None:
    """Precision, recall, F1 and support of each class; None where the answers are not names of classes.

    A ratio without a denominator counts as 0.
    """
    pairs = Counter(zip(columns["label"], columns["prediction"], strict=True))
    labels = sorted({name for pair in pairs for name in pair if isinstance(name, str)})
    if any(not isinstance(name, str) for pair in pairs for name in pair) or len(labels) > max(2, pairs.total() // 2):
        return None
    support, given = Counter[str](), Counter[str]()
    for (label, prediction), count in pairs.items():
        support[label] += count
        given[prediction] += count
    return [
        {
            "label": label,
            "precision": pairs[label, label] / given[label] if given[label] else 0.0,
            "recall": pairs[label, label] / support[label] if support[label] else 0.0,
            "f1": 2 * pairs[label, label] / (support[label] + given[label]),
            "support": support[label],
        }
        for label in labels
    ]


def _surest(row: Mapping[str, Any]) -> tuple[float, float, Any]:
    known: Sequence[float | None] = row["probabilities"]
    return -abs(row["change"]), -sum(value or 0.0 for value in known), row["row"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
