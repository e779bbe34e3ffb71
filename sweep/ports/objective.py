"""What trains and reports: the contract of objectives, and what one may add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sweep.domain import Report, TrainRequest


class Objective(Protocol):
    """What trains and reports. Runs in a clean process; knows neither Optuna, Ray nor MLflow.

    One that can also tell its answers row by row is a :class:`PredictingObjective`. The README has a worked example,
    and :mod:`sweep.testing.objective` a suite that holds any objective to this contract. A plain function
    ``train(hyperparameters, report)`` is made one by :mod:`objectives.function`.

    Attributes:
        progress: Set by whoever runs it; takes (step, total steps, training loss or None) as a sign of life between
            reports. Calling it is optional, but a study's ``limits.silence_minutes`` counts from the last one.
        leaving: Set by whoever runs it; asked between optimizer steps, it says whether to commit a checkpoint and
            end now. Asking it is optional: who does not loses what was trained since the last checkpoint.
    """

    progress: Callable[[int, int, float | None], None] | None
    leaving: Callable[[], bool] | None

    def prepare(self, settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """Load, split and tokenise the data once for a study.

        Args:
            settings: ``StudySpec.objective_settings()``: model, data, training, space bounds, metric, seed. In a
                final with fresh splits, ``data`` has a ``validation_seed`` as well: training and validation rows are
                drawn by it, and the test rows stay as they are.
            folder: The storage's folder of prepared data; the objective writes one sub-folder, keyed by
                content, and re-uses it when it is already there.

        Returns:
            JSON-able summary with at least ``folder`` (str), ``data_hash``, ``rows`` (by split), ``labels``,
            ``training_rows``, ``checkpoint_bytes`` (estimate of one resumable checkpoint), ``warnings``;
            ``merged_bytes`` (of the plain model), where what is saved is to be merged (:class:`Merging`); ``folds``
            (rows of each), where it validates in folds; where the objective splits data by itself, ``test_hash`` (of
            the test rows): a promotion then refuses to hold a model against a champion that was trained on another
            split of the same data.

        Raises:
            UserError: If data or model cannot be used.
        """
        ...

    def check(self, request: TrainRequest) -> Mapping[str, Any]:
        """Run one real batch through training and evaluation; write nothing.

        Returns:
            JSON-able findings with at least ``metrics`` (names an evaluation reports), ``step_seconds``,
            ``parameters``; ``warnings`` are optional, and so is a ``report`` on the data: facts, each with
            ``what``, ``kind`` (``count``, ``share`` or ``number``) and ``values`` by split. Of adapters, also
            ``adapter_base`` (:class:`sweep.checkpoints.adapted.AdapterBase`), ``trainable_parameters`` and
            ``parameter_bytes`` (of all weights in memory).

        Raises:
            UserError: If the model, a setting or the metric cannot be used.
        """
        ...

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Train, yielding a report at each evaluation, its checkpoint committed before.

        Closing the iterator ends the training. Started from a checkpoint, the first report is the newest one
        up to that checkpoint, if it has any, again, with the same ``reported_at``; what follows is bit-identical
        to an uninterrupted run on the same machine. Once ``leaving`` says so, it commits a checkpoint at the step
        it has reached, without a report, and raises :class:`LeftEarly`.

        Raises:
            DivergedError: If loss or a metric is NaN or infinite.
        """
        ...

    def evaluate(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics of a saved model (a folder transformers can load) on a split of the prepared data."""
        ...


class Deployable(Protocol):
    """What an objective may offer besides, so that its models can be registered and written as ONNX."""

    def serving(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """How MLflow serves a trained model without this package.

        Args:
            settings: The trial's training settings, and ``data`` as ``prepare`` got it.

        Returns:
            JSON-able: ``code`` (path of one Python file with ``_load_pyfunc(path, config)``, which returns an object
            with ``predict``), ``config`` (given to it), ``requirements`` (for pip), ``inputs`` and ``outputs`` (columns
            of an MLflow schema), ``example`` (``{columns, data}``).

        Raises:
            UserError: If it is not known how.
        """
        ...

    def to_onnx(self, model: Path, prepared: Path, file: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write a saved model as an ONNX file, and compare both on rows of the prepared data.

        Returns:
            JSON-able: ``file`` (its name), ``max_difference`` of the outputs, ``rows`` compared.

        Raises:
            VerificationError: If the two disagree, or the architecture cannot be written.
        """
        ...


Columns = Mapping[str, Sequence[Any]]
"""Rows of a table by column, all of one length."""


@runtime_checkable
class PredictingObjective(Protocol):
    """What an objective adds to tell its answers row by row: intervals, paired tests and flipped examples need them."""

    def predict(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Columns:
        """A saved model's answers on a split of the prepared data, as ``evaluate`` counts them.

        Returns:
            JSON-able columns, one entry a row, in the order of the data whatever the model: ``row`` (its index in the
            split), ``text`` (a short form of the input), ``label`` (the right answer), ``prediction``,
            ``probability`` (of the prediction, or None) and ``score`` (how good the answer is, more is better; 1 for
            right and 0 for wrong where there is no more to it). Further columns of finite numbers hold what
            ``metrics`` needs; those whose names begin with ``label`` belong to the right answer.
        """
        ...

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """The metrics of ``evaluate`` for any choice of rows, repeated ones included.

        Args:
            rows: The columns of numbers that ``predict`` gave, as numpy arrays of one length, at least 1.
        """
        ...


@runtime_checkable
class TimedObjective(Protocol):
    """What an objective adds so that the latency of its models can be measured."""

    def one_by_one(
        self, model: Path, prepared: Path, settings: Mapping[str, Any]
    ) -> tuple[Callable[[int], object], int]:
        """How a saved model answers one input at a time, on the CPU with one compute thread.

        Returns:
            A function that answers the row of an index of the validation split, and how many rows there are.
        """
        ...


class Merging(Protocol):
    """What an objective adds that saves models as adapters alone; see :mod:`sweep.checkpoints.adapted`."""

    def merge(self, model: Path, to: Path, settings: Mapping[str, Any]) -> None:
        """Write the plain model that a saved adapter and its base make together into a new folder.

        Args:
            model: Folder of the adapter.
            to: A folder transformers can load, complete when this returns.
            settings: The trial's training settings.

        Raises:
            ModelError: If the base model is gone, or is not the one that the adapter was trained on.
        """
        ...


class RateFinding(Protocol):
    """What an objective adds for ``sweep lr-find`` and ``learning_rate: auto``."""

    def find_learning_rate(self, request: TrainRequest) -> Mapping[str, Any]:
        """Find the learning rates worth searching by a short training; write nothing.

        Args:
            request: Trial 0, the defaults.

        Returns:
            JSON-able: ``low`` and ``high`` of the range to search, and how they were found: ``rates``, ``losses`` and
            ``smoothed`` losses, one for each step; ``warnings``.

        Raises:
            UserError: If none can be found.
        """
        ...


class DivergedError(Exception):
    """Raised by an objective when its loss or a metric became NaN or infinite."""


class LeftEarly(Exception):
    """Raised by an objective that was told to leave, once what it has trained is committed."""
