"""The small Protocols between the rooms; every adapter passes its port's conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sweep.domain import (
    AttemptEnd,
    Decision,
    HyperparameterValue,
    Planned,
    Report,
    Setback,
    Spent,
    TrainRequest,
    Trial,
    TrialState,
)


class Clock(Protocol):
    """Time, so that tests and simulations can own it."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


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
            ``training_rows``, ``checkpoint_bytes`` (estimate of one resumable checkpoint), ``warnings``; ``folds``
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
            ``what``, ``kind`` (``count``, ``share`` or ``number``) and ``values`` by split.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """How long and how much one attempt may take, enforced by whoever supervises it.

    Attributes:
        silence_seconds: Longest time without a report or a sign of life, from its start on; None is for ever.
            Waiting for a decision is no silence.
        wall_seconds: Longest time of the attempt; None is for ever.
        grace_seconds: Between telling an attempt to leave and killing it.
        memory_bytes: Resident memory of its processes on the host; None is unlimited.
        log_bytes: Largest log of its trial; the middle is cut out.
    """

    silence_seconds: float | None = 1800.0
    wall_seconds: float | None = None
    grace_seconds: float = 30.0
    memory_bytes: int | None = None
    log_bytes: int = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker has begun an attempt.

    Attributes:
        worker: Name of the worker: host and slot.
    """

    trial_number: int
    attempt: int
    worker: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """A sign of life between evaluations; for the live view only, never stored.

    Attributes:
        step: Optimizer steps done.
        total_steps: Steps of a full run of this trial.
        loss: Training loss of late.
    """

    trial_number: int
    attempt: int
    step: int
    total_steps: int
    loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """An attempt waits for a decision on this report."""

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt is over; its slot is free.

    Attributes:
        detail: Traceback or reason, for ends that need one.
    """

    trial_number: int
    attempt: int
    end: AttemptEnd
    detail: str | None = None


Event = Started | Progressed | Reported | Ended


class Executor(Protocol):
    """Runs attempts on worker slots. Workers only return reports; the driver only assigns."""

    @property
    def free_slots(self) -> int:
        """How many attempts could start now, as of the last ``wait``; a pure read."""
        ...

    @property
    def slots(self) -> int:
        """How many attempts can run at once."""
        ...

    def start(self, request: TrainRequest, log: Path) -> None:
        """Begin an attempt on a free slot; its output goes to ``log``, appended.

        Raises:
            ExecutionError: If no slot is free.
        """
        ...

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        """Events since the last call, in the order they came; empty after the timeout, or once a slot is free.

        Raises:
            NoWorkersError: If none has come up for too long, or none can run a trial.
            ExecutionError: If the workers cannot be reached for another reason.
        """
        ...

    def decide(self, trial_number: int, attempt: int, decision: Decision) -> None:
        """Answer the report an attempt waits on; unknown attempts are ignored (they have ended)."""
        ...

    def leave(self, trial_number: int, attempt: int) -> None:
        """Ask an attempt to commit a checkpoint at its next step and to end; unknown ones are ignored.

        An ``Ended(PREEMPTED)`` follows, or the next report of an objective that does not ask whether to leave.
        """
        ...

    def kill(self, trial_number: int, attempt: int) -> None:
        """End an attempt at once, processes and all; an ``Ended(LOST)`` follows. Unknown ones are ignored."""
        ...

    def settle(self) -> None:
        """End what still runs, bounded in time, and drop what was not taken yet: no event of before is told later.

        Whoever begins another study on the same workers calls it first, as its attempts have the same names.

        Raises:
            ExecutionError: If the workers cannot be reached.
        """
        ...

    def close(self) -> None:
        """Kill what still runs and give everything back; idempotent."""
        ...


class StudyStore(Protocol):
    """The study's history and its sampler and pruner. One driver writes; each call is durable on return."""

    def ask(self, planned: Planned | None = None) -> Trial:
        """A new trial in state RUNNING, attempt 0.

        Args:
            planned: Its hyperparameters; None has them drawn, or is the baseline with the spec's defaults for trial 0.
        """
        ...

    def begin_attempt(self, trial_number: int) -> int:
        """Count one more attempt; returns its fencing number (1-based)."""
        ...

    def attempt_started(self, trial_number: int, worker: str) -> None:
        """A worker has begun the trial's newest attempt, now; said again, it is ignored."""
        ...

    def report(self, report: Report, value: float) -> None:
        """Store an evaluation. A step already stored is ignored.

        Args:
            report: The evaluation.
            value: Objective value up to here, by the metric rule.
        """
        ...

    def should_prune(self, trial_number: int) -> bool:
        """The pruner's verdict on the newest stored evaluation."""
        ...

    def pause(self, trial_number: int, setback: Setback | None = None) -> None:
        """Mark as PAUSED: unfinished, with nothing running; ``begin_attempt`` wakes it.

        Args:
            trial_number: The trial.
            setback: How its attempt ended, if it ended badly; kept with the trial, once for each attempt.
        """
        ...

    def tell(self, trial_number: int, state: TrialState, chosen: Report | None, error: str | None = None) -> None:
        """Finish a trial. ``chosen`` is the evaluation that stands for it, by the metric rule.

        Telling a finished trial again with the same state is ignored.

        Raises:
            StudyStoreError: If it is finished in another state.
        """
        ...

    def keep_test(self, trial_number: int, metrics: Mapping[str, float]) -> None:
        """Store the metrics of a finished trial on the test split."""
        ...

    @property
    def spent(self) -> Spent:
        """What the study has spent, as of the last :meth:`spend`."""
        ...

    def spend(self, spent: Spent) -> None:
        """Remember what the study has spent so far, over all its sessions."""
        ...

    def reports(self, trial_number: int) -> Sequence[Report]:
        """All stored evaluations of a trial, by step."""
        ...

    def trials(self) -> Sequence[Trial]:
        """All trials by number."""
        ...

    def close(self) -> None:
        """Let go of the store; idempotent."""
        ...


class Agenda(Protocol):
    """How many trials a study wants, and what the next new one trains."""

    def wanted(self, trials: Iterable[Trial]) -> int:
        """How many finished trials there shall be in all, as far as these let it be known."""
        ...

    def begin(self, store: StudyStore, trials: Iterable[Trial]) -> Trial | None:
        """Ask for the next trial; None while it depends on how those that run end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyBegun:
    """First record of a driver's session on a study; repeated on resume.

    Attributes:
        spec: The resolved spec, JSON-able.
        data: Summary returned by ``Objective.prepare``.
        environment: Versions of packages, Python, machine.
    """

    study: str
    spec: Mapping[str, Any]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBegun:
    """A trial begins, or begins again.

    Attributes:
        micro_batch_split: Parts into which its micro-batches are cut; above 1 after it ran out of memory.
        confirms: In a final, number of the searched study's trial that it trains anew.
        seed_index: In a final, index of the fresh seed.
    """

    trial_number: int
    attempt: int
    hyperparameters: Mapping[str, HyperparameterValue]
    settings: Mapping[str, Any]
    seed: int
    at: float
    micro_batch_split: int = 1
    confirms: int | None = None
    seed_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOver:
    """An attempt ended without ending its trial (lost, paused)."""

    trial_number: int
    attempt: int
    state: TrialState
    reason: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A report that came after its attempt had been given up; what the other attempts reported stands."""

    trial_number: int
    attempt: int
    step: int
    metrics: Mapping[str, float]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOver:
    """A trial is finished.

    Attributes:
        value: Objective value by the metric rule, if it has one.
        step: Step of that evaluation.
        artifacts: Folder of files to show, or None.
        log: The trial's log file.
    """

    trial_number: int
    state: TrialState
    value: float | None
    step: int | None
    error: str | None
    artifacts: str | None
    log: str | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKept:
    """A checkpoint that stays: becomes a LoggedModel.

    Attributes:
        folder: A folder transformers can load (weights, tokenizer, config, card), or an adapter in their place.
        metrics: Validation metrics at ``step``.
        test: Metrics on the test split, if opened.
    """

    trial_number: int
    step: int
    folder: str
    metrics: Mapping[str, float]
    test: Mapping[str, float] | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFiles:
    """Files of the study as a whole, such as its report: they become artifacts of its run.

    Attributes:
        folder: Where they lie; those that are there at delivery are taken.
        name: Their folder among the artifacts.
    """

    folder: str
    name: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReached:
    """The finalists were confirmed and judged.

    Attributes:
        verdict: As in the study's ``verdict.json``.
    """

    verdict: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOver:
    """Last record of a driver's session.

    Attributes:
        state: ``COMPLETE`` when the budget is spent, ``PAUSED`` when it can go on, ``FAILED``.
        ranking: Trial numbers of complete trials, best first.
        counts: Trials by state.
    """

    state: str
    ranking: Sequence[int]
    counts: Mapping[str, int]
    at: float


Record = (
    StudyBegun
    | AttemptBegun
    | AttemptOver
    | Report
    | Superseded
    | TrialOver
    | ModelKept
    | VerdictReached
    | StudyFiles
    | StudyOver
)


class Recorder(Protocol):
    """Takes the record people look at. Never blocks on a server, never decides."""

    def record(self, record: Record) -> None:
        """Make the record durable; delivery happens elsewhere. Records are idempotent."""
        ...

    def close(self, timeout_seconds: float) -> int:
        """Wait, bounded, for delivery.

        Returns:
            How many records are still undelivered.
        """
        ...


class CheckpointKeeper(Protocol):
    """The one owner of retention."""

    def newest(self, trial_number: int, before: int | None = None) -> str | None:
        """Folder of the newest intact resumable checkpoint of a trial, of a step below ``before``, or None."""
        ...

    def is_intact(self, trial_number: int, step: int) -> bool:
        """Whether the checkpoint of a step is what was written there; every file is read."""
        ...

    def keep(self, trial_number: int, resumable: set[int], weights: set[int]) -> None:
        """Keep the full checkpoints of steps ``resumable`` and the models of ``weights``; delete the rest."""
        ...
