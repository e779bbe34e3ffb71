"""A driver that cannot wait: it closes at once, and MLflow soon tells the truth all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sweep.domain import TrialState
from sweep.layout import StudyLayout
from sweep.ports import AttemptOver
from sweep.tracking import SpoolRecorder, undelivered
from sweep.tracking.lock import try_lock
from tests.recording import BEGAN, Store, attempt, begun, over, report, study_over, whole_trial


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def _has_ended(layout: StudyLayout) -> bool:
    lock = try_lock(layout.spool)
    if lock is not None:
        lock.close()
    return lock is not None


def _hurry(recorder: SpoolRecorder) -> int:
    began = time.monotonic()
    left = recorder.close(0.0)
    assert time.monotonic() - began < 0.5
    return left


def test_a_recorder_closed_at_once_leaves_nothing_that_says_running(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    recorder = SpoolRecorder(layout, layout.tracking_uri)
    recorder.record_all([begun(), *whole_trial(0), attempt(1), report(1, 10)])
    _until(lambda: undelivered(layout) == 0, 60, "the writer delivers")
    store = Store(tmp_path / "mlflow.db")
    assert {store.info(store.run(1))["status"], store.info(store.parent())["status"]} == {"RUNNING"}
    recorder.record(AttemptOver(trial_number=1, attempt=1, state=TrialState.PAUSED, reason="now", at=BEGAN + 150))
    recorder.record(study_over([0], state="PAUSED"))
    assert _hurry(recorder) == recorder.close(0.0)
    _until(lambda: _has_ended(layout), 20, "the writer ends by itself")
    assert undelivered(layout) == 0
    assert {store.info(store.run(1))["status"], store.info(store.parent())["status"]} == {"SCHEDULED"}
    assert store.info(store.run(0))["status"] == "FINISHED"


def test_a_study_resumed_before_the_hurried_writer_has_ended_is_recorded_whole_and_runs(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    recorder = SpoolRecorder(layout, layout.tracking_uri)
    # No word of the end: the driver had no time for that.
    recorder.record_all([begun(), *whole_trial(0), attempt(1), report(1, 10)])
    assert _hurry(recorder) > 0
    resumed = SpoolRecorder(layout, layout.tracking_uri)
    resumed.record_all([begun(at=BEGAN + 1000), attempt(1, 2)])
    _until(lambda: undelivered(layout) == 0, 60, "the second writer takes over")
    store = Store(tmp_path / "mlflow.db")
    assert store.info(store.parent())["status"] == "RUNNING", "the first writer must not speak for the second driver"
    assert store.info(store.run(1))["status"] == "RUNNING"
    assert store.tags(store.parent())["sweep.state"] == "RUNNING"
    resumed.record_all([report(1, 10), report(1, 20), over(1), study_over([1, 0])])
    assert resumed.close(60) == 0
    assert sorted(store.runs()) == ["0", "1"]
    assert store.doubles() == []
    assert store.info(store.parent())["status"] == "FINISHED"
    log = (layout.logs / "tracking.log").read_text()
    assert log.count("started for process") == 2
