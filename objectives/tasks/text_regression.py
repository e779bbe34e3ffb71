"""Text regression: one text or two in, a number out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from transformers import AutoModelForSequenceClassification

from objectives.data.batching import Indices, TokenRows, sorted_batches
from objectives.data.files import Columns as Cells
from objectives.data.rows import Rows, clean_rows, shown, text_cell
from objectives.data.task import Encoded
from objectives.finetune.classification import encode_texts
from objectives.finetune.models import Head
from objectives.finetune.objective import FineTuning
from objectives.finetune.prediction import logits_of, texts_of
from objectives.finetune.report import DataReport, Studied
from objectives.finetune.task import Frame, Task
from sweep.errors import InvalidDataError
from sweep.ports import Columns

METRICS = {"spearman": "maximize", "rmse": "minimize", "loss": "minimize"}
COLUMNS = {"text": "text", "text_pair": None, "score": "score"}
UNUSED = ["augment_delete", "augment_swap", "augment_mask", "label_smoothing"]
EXAMPLE = {"text": "what a day", "score": 4.5}

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a model did on a split.

    Attributes:
        truth: Right score of each row, ``[rows]``.
        given: Score that the model gives, ``[rows]``.
        spread: Standard deviation of the training scores: the loss is counted in it.
    """

    truth: Numbers
    given: Numbers
    spread: float

    @property
    def metrics(self) -> dict[str, float]:
        """Rank correlation, root of the mean squared error, and loss."""
        return _scores(self.truth, self.given, self.spread)

    def answers(self, records: Iterable[Mapping[str, Any]]) -> Columns:
        """The score of each row; the nearer to the right one, the better."""
        return {
            "row": list(range(len(self.truth))),
            "text": texts_of(records),
            "label": [f"{value:g}" for value in self.truth],
            "prediction": [f"{value:.4g}" for value in self.given],
            "probability": [None] * len(self.truth),
            "score": (-np.abs(self.truth - self.given)).tolist(),
            "label_score": self.truth.tolist(),
            "prediction_score": self.given.tolist(),
            "spread": [self.spread] * len(self.truth),
        }

    def show(self, folder: Path) -> None:
        """There is nothing to look at besides the metrics."""


class Regression(Task):
    """The score of a text, or of two texts together."""

    columns = COLUMNS
    answer_columns = ("score",)

    def clean(self, columns: Cells, origin: str) -> Rows:
        """Texts with numbers."""
        return clean_rows(columns, origin, {"text": text_cell, "text_pair": text_cell, "score": _number})

    def describe(self, splits: Mapping[str, Rows]) -> dict[str, Any]:
        """Mean and standard deviation of the training scores: the model learns in their unit."""
        scores = np.array(splits["train"]["score"])
        if not scores.std() > 0:
            raise InvalidDataError(
                f"{splits['train'].origin}: all {len(scores)} rows have the one score {scores[0]:g}; nothing can be "
                "learnt. Check `data.score`."
            )
        return {"labels": [], "classes": {}, "mean": float(scores.mean()), "spread": float(scores.std())}

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """Token ids and scores."""
        return replace(encode_texts(rows, tokenizer, max_length), labels=np.array(rows["score"], dtype=np.float64))

    def head(self, known: Mapping[str, Any]) -> Head:
        """One number."""

        def configure(config: Any) -> None:
            config.num_labels = 1
            config.problem_type = "regression"
            config.pad_token_id = known["pad_id"]

        return Head(part="regressor", auto=AutoModelForSequenceClassification, configure=configure)

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Mean squared error, in standard deviations of the training scores."""
        logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device).float()[:, 0]
        meta = frame.data.meta
        targets = torch.from_numpy((np.asarray(rows.labels[batch]) - meta["mean"]) / meta["spread"]).to(frame.device)
        return torch.nn.functional.mse_loss(logits, targets.float())

    def examine(
        self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None
    ) -> Examination:
        """Scores of the rows."""
        model.eval()
        given = np.empty(len(rows))
        with torch.inference_mode():
            for batch in sorted_batches(rows.lengths(frame.max_length), frame.batch_size):
                logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device)
                given[batch] = logits[:, 0].double().cpu().numpy()
                if alive is not None:
                    alive()
        spread = float(frame.data.meta["spread"])
        return Examination(truth=np.asarray(rows.labels), given=given * spread + frame.data.meta["mean"], spread=spread)

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """The scores of any choice of rows."""
        return _scores(np.asarray(rows["label_score"]), np.asarray(rows["prediction_score"]), float(rows["spread"][0]))

    def report(self, study: Studied) -> DataReport:
        """Range of the scores, and lengths."""
        scores = {split: np.asarray(study.frame.data.rows(split).labels) for split in study.splits}
        facts = (
            study.fact("score, lowest", lambda split: float(scores[split].min()), "number"),
            study.fact("score, mean", lambda split: float(scores[split].mean()), "number"),
            study.fact("score, highest", lambda split: float(scores[split].max()), "number"),
            study.fact("score, standard deviation", lambda split: float(scores[split].std()), "number"),
        )
        return DataReport(facts) + super().report(study)


def _scores(truth: Numbers, given: Numbers, spread: float) -> dict[str, float]:
    squares = float(np.mean((truth - given) ** 2))
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (truth, given)]
    size = math.sqrt(float(ranks[0] @ ranks[0]) * float(ranks[1] @ ranks[1]))
    # Scores that are all the same rank nothing.
    spearman = float(ranks[0] @ ranks[1]) / size if size else 0.0
    return {"spearman": spearman, "rmse": math.sqrt(squares), "loss": squares / spread**2}


def _number(cell: Any, place: str, part: str) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if isinstance(cell, bool) or not math.isfinite(value):
        raise InvalidDataError(f"{place}: the {part} is {shown(cell)}, no finite number. Check `data.{part}`.")
    return value


class TextRegression(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(Regression())


OBJECTIVE = TextRegression
