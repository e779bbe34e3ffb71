"""Texts that a model wrote on a split, beside the right ones: what translation and speech recognition are judged by."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.batching import Ragged
from objectives.data.rows import shortened
from objectives.finetune.text_scores import Counts
from sweep.ports import Columns

_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a model wrote.

    Attributes:
        texts: Of each row, ``[rows]``.
        right: The right ones, ``[rows]``.
        counts: What the scores count in each row, and ``losses`` and ``tokens``: the negative log-likelihood of the
            right text and its tokens.
        scores: The metrics of such counts.
        quality: How good each text is, ``[rows]``; more is better.
        source: Part of the data that a person recognises a row by.
    """

    texts: Sequence[str]
    right: Sequence[str]
    counts: Counts
    scores: Callable[[Mapping[str, Any]], dict[str, float]]
    quality: npt.NDArray[np.float64]
    source: str

    @property
    def metrics(self) -> dict[str, float]:
        """The scores of all rows, and the mean loss of a token."""
        return self.scores(self.counts)

    def answers(self, records: Iterable[Mapping[str, Any]]) -> Columns:
        """The texts row by row."""
        return {
            "row": list(range(len(self.texts))),
            "text": [shortened(str(record[self.source])) for record in records],
            "label": [shortened(text) for text in self.right],
            "prediction": [shortened(text) for text in self.texts],
            "probability": [None] * len(self.texts),
            "score": self.quality.tolist(),
            **{name: column.tolist() for name, column in self.counts.items()},
        }

    def show(self, folder: Path) -> None:
        """Write the first rows for people to read."""
        folder.mkdir(parents=True, exist_ok=True)
        pairs = list(zip(self.texts, self.right, strict=True))[:_SHOWN]
        lines = [json.dumps({"right": right, "written": text}, ensure_ascii=False) + "\n" for text, right in pairs]
        temporary = folder / ".written.jsonl.new"
        temporary.write_text("".join(lines), encoding="utf-8")
        temporary.replace(folder / "written.jsonl")


def mean_loss(counts: Mapping[str, Any]) -> float:
    """Negative log-likelihood of a token, over all tokens of the rows."""
    return float(np.sum(counts["losses"]) / max(1.0, float(np.sum(counts["tokens"]))))


def text_column(texts: Sequence[str]) -> Ragged:
    """Texts as further values of rows: the bytes of each in UTF-8."""
    return Ragged.of([np.frombuffer(text.encode(), dtype=np.uint8) for text in texts], np.uint8)


def texts_of(column: Any) -> list[str]:
    """What :func:`text_column` was made of."""
    return [bytes(column[row]).decode() for row in range(len(column))]
