"""What language models have in common: documents in, likelihoods of their tokens out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from objectives.data.batching import Indices, TokenRows, sorted_batches
from objectives.data.files import Columns
from objectives.data.rows import Rows, clean_rows, text_cell
from objectives.data.streams import Documents
from objectives.finetune.likelihood import Likelihood, likelihood_metrics
from objectives.finetune.report import DataReport, Studied, spread_of, unknown_tokens
from objectives.finetune.task import Frame, Task

Answers = tuple[npt.NDArray[np.int64], torch.Tensor, torch.Tensor]
"""Places of tokens in their block, their logits ``[tokens, vocabulary]``, and what they are, ``[tokens]``."""


class LanguageModeling(Task, Protocol):
    """Documents cut into blocks, of which some tokens are predicted; derive from it as from a task."""

    answer_columns: Sequence[str] = ()
    is_corpus: bool = True

    def clean(self, columns: Columns, origin: str) -> Rows:
        """Texts."""
        return clean_rows(columns, origin, {"text": text_cell})

    def answers(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> Iterator[Answers]:
        """What an evaluation asks of each block of a batch, in order."""
        ...

    def examine(self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None) -> Likelihood:
        """Likelihood of the tokens that an evaluation asks for."""
        model.eval()
        documents = Documents.beside(rows)
        lengths = rows.lengths(frame.max_length)
        found = Likelihood.of(documents.count(lengths))
        with torch.inference_mode():
            for batch in sorted_batches(lengths, frame.batch_size):
                for block, (places, logits, tokens) in zip(batch, self.answers(model, rows, batch, frame), strict=True):
                    found.add(documents.at(block, places), logits, tokens)
                if alive is not None:
                    alive()
        return found

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """Loss, perplexity and accuracy of any choice of documents."""
        return likelihood_metrics(rows)

    def report(self, study: Studied) -> DataReport:
        """Tokens, the blocks that they are cut into, and lengths of the documents."""
        rows = {split: study.frame.data.rows(split) for split in study.splits}
        facts = (
            study.fact("tokens", lambda split: len(rows[split].ids)),
            study.fact(
                f"blocks of {study.frame.max_length} tokens",
                lambda split: len(self.examples(rows[split], study.frame)),
            ),
        )
        lengths = {split: np.diff(found.offsets) for split, found in rows.items()}
        return DataReport(facts) + spread_of(lengths, "tokens of a document") + unknown_tokens(study)
