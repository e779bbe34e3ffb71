"""One model on a split, or two on the same split: metrics, interval, difference. Runs in the objective's process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import UserError
from sweep.ports import Objective, PredictingObjective
from sweep.selection.bootstrap import (
    Metric,
    bootstrap_interval,
    is_share_of_right,
    mcnemar,
    paired_difference,
)
from sweep.selection.predictions import no_predictions, numbers, predict_to, read_predictions, same_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OTHER_ROWS = "the two were not evaluated on the same rows, so there is no paired test."


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOnSplit:
    """A model to assess.

    Attributes:
        model: A folder transformers can load.
        prepared: Folder of the prepared data.
        settings: Training settings it was made with.
    """

    model: Path
    prepared: str
    settings: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As it travels to the objective's process."""
        return {"model": str(self.model), "prepared": self.prepared, "settings": dict(self.settings)}


def assess(
    objective: Objective,
    task: str,
    models: Sequence[Mapping[str, Any]],
    split: str,
    metric: str,
    level: float,
    folder: Path,
) -> Mapping[str, Any]:
    """Evaluate one or two models row by row.

    Args:
        objective: What they were trained by.
        task: Its name, for messages.
        models: ``{"model", "prepared", "settings"}`` of each.
        split: Split of the prepared data.
        metric: The metric that interval and test are about.
        level: The interval misses with this probability.
        folder: Existing folder; the answers are written there as ``0.json`` and ``1.json``.

    Returns:
        JSON-able ``models`` (each with ``metrics``, ``interval`` and ``rows``; the latter two None where the objective
        does not tell its answers), ``difference`` of the first to the second (``mean``, ``interval``, ``p_value``,
        ``method``; or None) and ``note`` (why something is missing, or None).

    Raises:
        UserError: If the objective does not keep its contract, or has no such metric.
    """
    parts = [(Path(one["model"]), Path(one["prepared"]), split, one["settings"]) for one in models]
    if not isinstance(objective, PredictingObjective):
        plain = [{"metrics": dict(objective.evaluate(*part)), "interval": None, "rows": None} for part in parts]
        return {"models": plain, "difference": None, "note": no_predictions(task)}
    answers = []
    for i, part in enumerate(parts):
        predict_to(objective, *part, folder / f"{i}.json")
        answers.append(read_predictions(folder / f"{i}.json"))
    tables = [numbers(columns) for columns in answers]
    told: list[dict[str, Any]] = []
    for columns, table in zip(answers, tables, strict=True):
        rows = len(columns["row"])
        metrics = dict(objective.metrics(table))
        if metric not in metrics:
            raise UserError(f"metrics: {', '.join(metrics) or 'none'} of the rows, but not {metric!r}. Give it, too.")
        interval = bootstrap_interval(_metric(objective, table, metric), rows, level=level)
        told.append({"metrics": metrics, "interval": list(interval), "rows": rows})
    if len(models) < 2:
        return {"models": told, "difference": None, "note": None}
    if not same_rows(*answers):
        return {"models": told, "difference": None, "note": OTHER_ROWS}
    values = [one["metrics"][metric] for one in told]
    return {"models": told, "difference": _difference(objective, tables, values, metric, level), "note": None}


def _metric(objective: PredictingObjective, table: Mapping[str, NDArray[np.float64]], name: str) -> Metric:
    def metric(rows: NDArray[np.int64]) -> float:
        return float(objective.metrics({column: values[rows] for column, values in table.items()})[name])

    return metric


def _difference(
    objective: PredictingObjective,
    tables: Sequence[Mapping[str, NDArray[np.float64]]],
    values: Sequence[float],
    name: str,
    level: float,
) -> dict[str, Any]:
    import numpy as np

    first, second = tables
    shared = [column for column in first if column in second]
    stacked = {column: np.concatenate([first[column], second[column]]) for column in shared}
    found = asdict(paired_difference(_metric(objective, stacked, name), len(first["row"]), level=level))
    scores = first["score"], second["score"]
    if all(is_share_of_right(score, value) for score, value in zip(scores, values, strict=True)):
        won, lost = (int(np.count_nonzero(one > other)) for one, other in (scores, scores[::-1]))
        found |= {"p_value": mcnemar(won, lost), "method": "mcnemar"}
    return {**found, "interval": list(found["interval"])}
