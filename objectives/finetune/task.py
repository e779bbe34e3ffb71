"""What a task's file gives to the objective: rows in, a loss to train by, answers to judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from objectives.data.batching import Indices, TokenRows
from objectives.data.preparation import PreparedData
from objectives.data.task import DataTask
from objectives.finetune.models import Head, load_tokenizer
from objectives.finetune.report import DataReport, Studied, length_report, parts_of
from objectives.finetune.scratch import is_random, recipe
from sweep.errors import UserError
from sweep.ports import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a task works within, of one trial.

    Attributes:
        data: The study's prepared data.
        settings: Training settings of the trial.
        max_length: Tokens; longer rows are truncated.
        batch_size: Rows of an evaluation's batch; does not change the result beyond rounding.
        device: Where the model is.
        seed: Seed of the trial.
        epoch: 0-based pass over the training rows that is being trained.
    """

    data: PreparedData
    settings: Mapping[str, Any]
    max_length: int
    batch_size: int
    device: torch.device
    seed: int = 0
    epoch: int = 0


class Examined(Protocol):
    """What a model did on a split."""

    @property
    def metrics(self) -> dict[str, float]:
        """The task's metrics, all of them; NaN ends the trial as DIVERGED."""
        ...

    def answers(self, records: Iterable[Mapping[str, Any]]) -> Columns:
        """Answers row by row; see :meth:`sweep.ports.PredictingObjective.predict`.

        Args:
            records: The rows of the split, as the task cleaned them.
        """
        ...

    def show(self, folder: Path) -> None:
        """Write files for people to look at (a confusion matrix …) into a folder; make it if missing."""
        ...


class Task(DataTask, Protocol):
    """A kind of fine-tuning; derive from it and fill in what has no default.

    It holds no state: the same object serves every trial, and what it draws at random while training comes from
    torch's global generator, whose state is in every checkpoint, or from the frame's seed and epoch.

    Attributes:
        augments: Whether tokens of a training row may be left out, swapped or masked: its answer stays right.
    """

    augments: bool = False

    def head(self, known: Mapping[str, Any]) -> Head:
        """The model's class and configuration.

        Args:
            known: What is known about the data: ``labels``, ``pad_id``, ``vocabulary`` (tokens of the tokenizer) and
                what else the task described. Before it is prepared there are two labels and no rest.
        """
        ...

    def reader(self, reference: str, config: Any, data: Mapping[str, Any], *, trust_remote_code: bool) -> Any:
        """The model's tokenizer, or how it is trained from the study's rows where the model begins at random.

        Args:
            reference: Of the model.
            config: Its configuration.
            data: The ``data`` part of the objective's settings.
            trust_remote_code: Whether Python code that the model brings along may run.

        Raises:
            ModelError: If it cannot be loaded.
        """
        if is_random(reference):
            return recipe(config, data, tuple(self.columns))
        return load_tokenizer(reference, trust_remote_code=trust_remote_code)

    def examples(self, rows: TokenRows, frame: Frame) -> TokenRows:
        """What a trial trains and evaluates on, of a split's encoded rows: they themselves, unless its settings say how
        to cut them. All that follows is asked of these."""
        return rows

    def lengths(self, rows: TokenRows, frame: Frame) -> Indices:
        """What each example takes in a batch, ``[rows]``: batches have examples of similar length."""
        return rows.lengths(frame.max_length)

    def groups(self, rows: TokenRows) -> npt.NDArray[Any] | None:
        """A group for each encoded row, by which ``train_rows`` are drawn in proportion; None draws at random."""
        return None

    def weight(self, rows: TokenRows, batch: Indices, frame: Frame) -> float:
        """What a micro-batch counts in its step: over how much its loss is the mean; rows, or target tokens."""
        return float(len(batch))

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Training loss of a micro-batch, the mean over its :meth:`weight`: a scalar with gradient."""
        ...

    def examine(self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None) -> Examined:
        """Evaluate a model in fp32, in evaluation mode, drawing no random number.

        Args:
            model: The model, on the frame's device.
            rows: A split, or some rows of one.
            frame: What else is needed.
            alive: Called after each batch.
        """
        ...

    def answer(self, model: Any, rows: TokenRows, row: int, frame: Frame) -> object:
        """The answer to one row alone; how long it takes is the model's latency."""
        return self.examine(model, rows.take(np.array([row])), frame)

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """The metrics for any choice of rows; see :meth:`sweep.ports.PredictingObjective.metrics`."""
        ...

    def report(self, study: Studied) -> DataReport:
        """What a check tells of the data: the length of what a model reads, unless the task knows more."""
        return length_report(study, *parts_of(study, *(c for c in self.columns if c not in self.answer_columns)))

    def serving(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """How a registry serves a trained model; see :meth:`sweep.ports.Deployable.serving`.

        Raises:
            UserError: If it is not known how.
        """
        raise UserError(f"task: models of {type(self).__name__} cannot be served by a registry. Export the winner.")

    def to_onnx(self, model: Any, rows: TokenRows, file: Path, frame: Frame) -> Mapping[str, Any]:
        """Write a model as ONNX; see :meth:`sweep.ports.Deployable.to_onnx`.

        Raises:
            UserError: If it is not known how.
        """
        raise UserError(f"--onnx: models of {type(self).__name__} are not written as ONNX. Export without --onnx.")
