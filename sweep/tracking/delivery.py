"""Records into MLflow: in batches, in order, each at most once, none in another's way."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import DatasetInput, Metric

from sweep.domain import Report, TrialState
from sweep.ports import (
    AttemptBegun,
    AttemptOver,
    ModelKept,
    Record,
    StudyBegun,
    StudyFiles,
    StudyOver,
    Superseded,
    TrialOver,
    VerdictReached,
)
from sweep.tracking import words
from sweep.tracking.acknowledged import Acknowledged
from sweep.tracking.artifacts import log_folder, log_study_files, log_trial_files
from sweep.tracking.blame import Blame
from sweep.tracking.failures import FAILURES, StoreLostError, is_missing, is_refusal, reason
from sweep.tracking.memory import StudyMemory
from sweep.tracking.models import dataset_inputs, keep_model
from sweep.tracking.ranks import Ranks
from sweep.tracking.reconcile import reconcile
from sweep.tracking.rejected import Rejected
from sweep.tracking.spool import Entry
from sweep.tracking.summary import describe_study, end_study, tell_verdict
from sweep.tracking.tracker import Tracker

NOTE_SECONDS = 5.0
"""How often it notes how far it got, within a batch that takes long."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Item:
    """A line of the spool on its way.

    Attributes:
        done: Whether it was delivered or set aside.
    """

    entry: Entry
    done: bool = False


class Delivery:
    """Takes records in the order of the spool and makes MLflow show them.

    Attributes:
        memory: What the records have told so far.
    """

    def __init__(self, tracker: Tracker, acked: Acknowledged, memory: StudyMemory, folder: Path) -> None:
        """Ready to deliver; asks nothing yet.

        Args:
            tracker: The study's experiment and runs.
            acked: What was made before.
            memory: What the records delivered before have told.
            folder: The spool, where refused records are set aside.
        """
        self.memory = memory
        self._tracker = tracker
        self._acked = acked
        self._folder = folder
        self._rejected = Rejected(folder)
        self._ranks = Ranks(tracker, memory)
        self._blame = Blame(tracker)
        self._hopeless: set[str] = set()
        self._waiting: dict[int, list[Item]] = {}

    def deliver(self, items: Sequence[Item]) -> None:
        """Deliver what is not done yet, marking what is.

        Raises:
            Exception: Of ``failures.FAILURES``, if the tracker cannot be reached; call again with the same items.
            StoreLostError: If the store has lost the study.
        """
        self._waiting = {}
        noted = time.monotonic()
        try:
            for item in items:
                if not item.done:
                    self._take(item)
                if time.monotonic() - noted > NOTE_SECONDS:
                    # Where a request takes seconds, a batch outlives the time that is left: keep what is done.
                    self._flush_all()
                    self._acknowledge(item)
                    noted = time.monotonic()
            self._flush_all()
            self._acknowledge(items[-1])
        except FAILURES:
            self._tracker.doubt()
            self._acknowledge_what_is_done(items)
            raise

    def tidy(self) -> None:
        """Bring the ranks of the front-runners up to date; for idle moments.

        Raises:
            Exception: Of ``failures.FAILURES``, if the tracker cannot be reached.
        """
        try:
            self._ranks.update_leaders()
        except FAILURES:
            self._tracker.doubt()
            raise

    def driver_ended(self) -> None:
        """Tell that nothing runs any more, and mend what anybody changed; a resumed study tells otherwise.

        Raises:
            Exception: Of ``failures.FAILURES``, if the tracker cannot be reached.
        """
        self.memory.driver_ended()
        if self._acked.parent_run_id is not None:
            reconcile(self._tracker, self.memory, self._blame, self._hopeless)
        self._acked.settled = True
        self._acked.save(self._folder)

    def _acknowledge(self, last: Item) -> None:
        self._acked.offset = last.entry.end
        self._acked.save(self._folder)

    def _acknowledge_what_is_done(self, items: Sequence[Item]) -> None:
        """Up to the first that is not: whoever goes on after this process begins there."""
        done = list(itertools.takewhile(lambda item: item.done, items))
        if done and done[-1].entry.end > self._acked.offset:
            self._acknowledge(done[-1])

    def _take(self, item: Item) -> None:
        record = item.entry.record
        if isinstance(record, Report):
            self.memory.learn(record)
            self._waiting.setdefault(record.trial_number, []).append(item)
            return
        if record is None:
            if item.entry.problem:
                self._rejected.add(None, f"byte {item.entry.end}: {item.entry.problem}")
            item.done = True
            return
        match record:
            case StudyBegun() | VerdictReached() | StudyFiles() | StudyOver():
                self._flush_all()
            case _:
                self._flush(record.trial_number)
        self.memory.learn(record)
        self._attempt(record, lambda: self._handle(record))
        item.done = True

    def _flush_all(self) -> None:
        for number in list(self._waiting):
            self._flush(number)

    def _flush(self, number: int) -> None:
        items = self._waiting.get(number)
        if not items:
            return
        try:
            self._send(number, items)
        except FAILURES as err:
            first = items[0].entry.record
            if not is_refusal(err) and not self._blame.is_on(first, err):
                raise
            # One of them is at fault: find it, so that the others arrive.
            for item in items:
                self._attempt(item.entry.record, lambda item=item: self._send(number, [item]), key=first)  # type: ignore[misc]
                item.done = True
        for item in items:
            item.done = True
        del self._waiting[number]

    def _send(self, number: int, items: Sequence[Item]) -> None:
        begun = self.memory.begun
        unit = words.fidelity_unit(begun.spec) if begun else "epochs"
        run_id, _ = self._tracker.child(number)
        metrics = [
            Metric(key, value, words.milliseconds(report.reported_at), report.step)
            for report in (item.entry.record for item in items)
            if isinstance(report, Report)
            for key, value in words.report_metrics(report, unit=unit).items()
        ]
        self._tracker.log(run_id, metrics=metrics)

    def _handle(self, record: Record) -> None:
        match record:
            case StudyBegun():
                self._study_begun(record)
            case AttemptBegun():
                self._attempt_begun(record)
            case AttemptOver():
                self._attempt_over(record)
            case Superseded():
                self._superseded(record)
            case TrialOver():
                self._trial_over(record)
            case ModelKept():
                self._model_kept(record)
            case StudyFiles():
                log_folder(self._tracker, record)
            case VerdictReached():
                tell_verdict(self._tracker, record)
            case StudyOver():
                self._tracker.survey()
                self._attempt(record, self._ranks.update_all)
                self._attempt(record, lambda: end_study(self._tracker, self.memory, record))

    def _attempt(self, record: Record | None, action: Callable[[], object], key: Record | None = None) -> None:
        """Do it; a refusal sets the record aside, and so does a failure that it alone has; anything else goes up.

        Args:
            record: What it is about.
            action: Delivers it, or a part of it.
            key: The record under whose name failures are counted, if it is another.
        """
        try:
            action()
        except FAILURES as err:
            if not is_refusal(err) and not self._blame.is_on(key or record, err):
                raise
            if is_missing(err) and self._tracker.is_lost():
                raise StoreLostError(reason(err)) from err
            _log.exception("set aside: %s", reason(err))
            self._rejected.add(record, reason(err))

    def _study_begun(self, record: StudyBegun) -> None:
        self._tracker.parent(record.at)
        self._attempt(record, lambda: describe_study(self._tracker, record))
        inputs = self._inputs()
        if inputs:
            self._attempt(record, lambda: self._tracker.client.log_inputs(self._tracker.parent(), datasets=inputs))
        self._attempt(record, lambda: log_study_files(self._tracker, record))
        if self._acked.runs:
            reconcile(self._tracker, self.memory, self._blame, self._hopeless)

    def _attempt_begun(self, record: AttemptBegun) -> None:
        run_id, is_new = self._tracker.child(record.trial_number, record.at)
        parameters = {**record.hyperparameters, "seed": record.seed}
        places = {words.CONFIRMS: record.confirms, words.SEED_INDEX: record.seed_index}
        self._tracker.log(
            run_id,
            params={key: words.text(value) for key, value in parameters.items()},
            tags={
                words.ATTEMPT: str(record.attempt),
                words.STATE: TrialState.RUNNING.value,
                words.SPLIT: str(record.micro_batch_split),
                **{key: str(value) for key, value in places.items() if value is not None},
            },
        )
        if not is_new:
            self._tracker.client.update_run(run_id, status="RUNNING")

    def _attempt_over(self, record: AttemptOver) -> None:
        run_id, _ = self._tracker.child(record.trial_number)
        told = {f"{words.ATTEMPT}.{record.attempt}": f"{record.state}: {record.reason}"[:4000]}
        self._tracker.log(run_id, tags={words.STATE: record.state.value, **told})
        self._tracker.client.update_run(run_id, status=words.STATUS[record.state])

    def _superseded(self, record: Superseded) -> None:
        run_id, _ = self._tracker.child(record.trial_number)
        told = ", ".join(f"{key} {value:.6g}" for key, value in record.metrics.items())
        name = f"{words.SUPERSEDED}.{record.attempt}"
        self._tracker.log(run_id, tags={name: f"step {record.step}: {told}"[:4000]})

    def _trial_over(self, record: TrialOver) -> None:
        trial = self.memory.trial(record.trial_number)
        run_id, _ = self._tracker.child(record.trial_number, trial.began_at or record.at)
        at = words.milliseconds(record.at)
        metrics = []
        if trial.value is not None:
            metrics = [Metric(words.value_name(record.state), trial.value, at, record.step or 0)]
        tags = {words.STATE: record.state.value}
        if record.error:
            tags[words.ERROR] = record.error[-4000:]
        self._attempt(record, lambda: self._tracker.log(run_id, metrics=metrics, tags=tags))
        self._attempt(record, lambda: log_trial_files(self._tracker, run_id, trial, self.memory.rule.name))
        status = words.STATUS[record.state]
        self._attempt(record, lambda: self._tracker.client.set_terminated(run_id, status, end_time=at))
        self.memory.forget_curves(record.trial_number)

    def _model_kept(self, record: ModelKept) -> None:
        trial = self.memory.trial(record.trial_number)
        keep_model(self._tracker, self._acked, record, trial, self._inputs())

    def _inputs(self) -> list[DatasetInput]:
        begun = self.memory.begun
        return dataset_inputs(begun.data, begun.study) if begun else []
