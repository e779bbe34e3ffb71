"""Follow a spool, deliver what comes, note how far it got; try again for ever, ever more slowly."""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from mlflow import MlflowClient

from sweep.errors import RecordingError
from sweep.layout import StudyLayout
from sweep.ports import TrialOver
from sweep.redaction import redacted
from sweep.tracking.acknowledged import Acknowledged
from sweep.tracking.delivery import Delivery, Item
from sweep.tracking.failures import FAILURES, StoreLostError, reason
from sweep.tracking.memory import StudyMemory
from sweep.tracking.patience import PatientClient
from sweep.tracking.spool import read_entries, spool_uid
from sweep.tracking.store import absolute_uri, cache_folder, prepare_sqlite, sqlite_path
from sweep.tracking.tracker import Tracker

POLL_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 15.0
RECORDS_PER_BATCH = 500

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Ending(Protocol):
    """What tells this loop that no more records will come."""

    event: threading.Event
    size: int
    is_driven: bool


class Tailing:
    """Delivers one study's spool until told to end."""

    def __init__(self, layout: StudyLayout, tracking_uri: str, ending: Ending) -> None:
        self._layout = layout
        self._uri = absolute_uri(tracking_uri)
        self._place = redacted(self._uri)
        self._ending = ending

    def run(self) -> None:
        """Deliver until no more records will come and none is left; then tell that nothing runs, unless it does."""
        acked = self._patiently(self._acknowledged)
        delivery = self._patiently(lambda: self._connect(acked))
        self._patiently(lambda: self._unsettle(acked))
        while True:
            is_ending = self._ending.event.is_set()
            entries = itertools.islice(read_entries(self._layout.spool, acked.offset), RECORDS_PER_BATCH)
            size = self._ending.size if is_ending else math.inf
            items = [Item(entry) for entry in entries if entry.end <= size]
            if items:
                delivery = self._deliver(delivery, acked, items)
            elif is_ending:
                break
            else:
                self._tidy(delivery)
            if len(items) < RECORDS_PER_BATCH:
                self._ending.event.wait(POLL_SECONDS)
        if not self._ending.is_driven:
            self._patiently(delivery.driver_ended)

    def _tidy(self, delivery: Delivery) -> None:
        try:
            delivery.tidy()
        except FAILURES as err:
            # The next idle moment comes soon; records that come meanwhile must not wait for it.
            _log.warning("ranks are not up to date: %s", reason(err))

    def _unsettle(self, acked: Acknowledged) -> None:
        acked.settled = False
        acked.save(self._layout.spool)

    def _acknowledged(self) -> Acknowledged:
        try:
            acked = Acknowledged.load(self._layout.spool)
        except RecordingError as err:
            _log.warning("%s", err)
            acked = Acknowledged()
        if redacted(acked.tracking_uri) not in ("", self._place):
            _log.warning("records went to %s before; all of them go to %s now", acked.tracking_uri, self._place)
            acked = Acknowledged()
        acked.tracking_uri = self._place
        return acked

    def _connect(self, acked: Acknowledged) -> Delivery:
        path = sqlite_path(self._uri)
        # MLflow adds an empty experiment "Default" to a new store; its place must not depend on where we were started.
        # Nor must some call of MLflow's that knows no other address make ./mlflow.db.
        os.environ["MLFLOW_TRACKING_URI"] = self._uri
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(self._layout.tracking_artifacts)
        if path is not None:
            prepare_sqlite(path, cache_folder())
        tracker = self._tracker(acked)
        if tracker.is_lost():
            _log.warning("%s has lost this study; delivering all of it again", self._place)
            acked.forget()
            tracker = self._tracker(acked)
        memory = StudyMemory()
        for entry in read_entries(self._layout.spool):
            if entry.end > acked.offset:
                break
            if entry.record is not None:
                memory.learn(entry.record)
            if isinstance(entry.record, TrialOver):
                memory.forget_curves(entry.record.trial_number)
        _log.info("connected to %s", self._place)
        return Delivery(tracker, acked, memory, self._layout.spool)

    def _tracker(self, acked: Acknowledged) -> Tracker:
        # A store that is opened directly would put artifacts into the working directory; a server knows its place.
        is_server = self._uri.startswith(("http://", "https://", "databricks"))
        return Tracker(
            PatientClient(MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)),
            acked,
            study=self._layout.study,
            uid=spool_uid(self._layout.spool) or self._layout.study,
            artifacts=None if is_server else self._layout.tracking_artifacts,
            is_own_store=self._uri == absolute_uri(self._layout.tracking_uri),
        )

    def _deliver(self, delivery: Delivery, acked: Acknowledged, items: list[Item]) -> Delivery:
        """Deliver a batch; where the store has lost the study meanwhile, begin again with a delivery of all."""
        began = time.monotonic()
        try:
            self._patiently(lambda: delivery.deliver(items), done=lambda: sum(item.done for item in items))
        except StoreLostError as err:
            _log.warning("%s has lost this study (%s); delivering all of it again", self._place, err)
            acked.forget()
            return self._patiently(lambda: self._connect(acked))
        _log.info("delivered %d records in %.2f s", len(items), time.monotonic() - began)
        return delivery

    def _patiently(self, action: Callable[[], _Result], done: Callable[[], int] = lambda: 0) -> _Result:
        """Repeat until it works, more slowly while nothing gets done; this process is ended from outside in time."""
        failures, before = 0, done()
        while True:
            try:
                return action()
            except FAILURES as err:
                now = done()
                failures, before = (failures + 1 if now == before else 1), now
                pause = min(FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10), LONGEST_PAUSE_SECONDS)
                is_ending = self._ending.event.is_set()
                pause = min(pause, 1.0) if is_ending else pause
                _log.warning("not delivered, again in %.2g s: %s", pause, reason(err))
                if is_ending:
                    time.sleep(pause)
                else:
                    # Once the end is near there is little time: try again at once.
                    self._ending.event.wait(pause)
