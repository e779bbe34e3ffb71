"""Whatever ends a trial, a writer, a driver or all of them at once: MLflow says what the study says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.domain import Report
from sweep.engine.lock import driver_lock
from sweep.ports import Superseded
from sweep.tracking.lock import holder
from sweep.tracking.spool import Spool
from tests.mlflow_server import until
from tests.recording import BEGAN, Store, attempt
from tests.toy_study import LAST, Doing, ToyStudy

ENDS = {
    "finish": ("FINISHED", "COMPLETE"),
    "fail": ("FAILED", "FAILED"),
    "quit": ("FAILED", "FAILED"),
    "exit": ("FAILED", "FAILED"),
    "memory": ("FAILED", "OOM"),
    "diverge": ("FAILED", "DIVERGED"),
    "hang": ("FAILED", "TIMEOUT"),
    "killed": ("FAILED", "FAILED"),
    "terminated": ("FINISHED", "COMPLETE"),
}


def test_pain_26_each_way_a_trial_can_end_is_the_status_of_its_run(tmp_path: Path) -> None:
    names = list(ENDS)
    settings = [{"reports": 2, "then": name} for name in names]
    settings[names.index("killed")] = {"reports": 2, "then": "hang"}
    # Told to leave, it goes on in another attempt, from a step it has reported before.
    settings[names.index("terminated")] = {"reports": 2, "then": "train-on", LAST: {"reports": 3}}
    signals = {names.index("killed"): signal.SIGKILL, names.index("terminated"): signal.SIGTERM}

    def strike(report: Report) -> None:
        if report.step == 2 and report.attempt == 1 and report.trial_number in signals:
            os.kill(int(report.metrics["pid"]), signals[report.trial_number])

    study = ToyStudy(tmp_path, settings)
    assert study.run(observer=Doing(strike), silence_seconds=8.0).state == "COMPLETE"
    store = Store(tmp_path / "mlflow.db")
    statuses = store.statuses()
    assert statuses.pop("study") == ("FINISHED", "COMPLETE")
    assert {names[int(number)]: found for number, found in statuses.items()} == ENDS
    assert store.doubles() == [], "the second attempt told its first steps again"
    told = store.tags(store.run(names.index("terminated")))
    assert told["sweep.attempt"] == "2"
    assert told["sweep.attempt.1"].startswith("PAUSED")
    assert [step for step, _, _ in store.metric(store.run(names.index("terminated")), "accuracy")] == [1, 2, 3]
    halved = store.tags(store.run(names.index("memory")))
    assert halved["sweep.micro_batch_split"] == "2", "out of memory once, it got half the micro-batch"
    assert "no sign of life" in store.tags(store.run(names.index("hang")))["sweep.error"]


def _killed_with_its_writer(folder: Path) -> ToyStudy:
    """A study whose machine was cut off from power: driver and writer died at once, everything delivered."""
    with subprocess.Popen([sys.executable, "-m", "tests.toy_study", str(folder)], stdout=subprocess.PIPE) as driver:
        study = ToyStudy(folder, [{"reports": 3}] * 2)
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == b"delivered\n"
            os.kill(int(holder(study.layout.spool)), signal.SIGKILL)
        finally:
            driver.kill()
    return study


def test_pain_26_after_driver_and_writer_were_killed_at_once_the_next_status_puts_mlflow_right(tmp_path: Path) -> None:
    study = _killed_with_its_writer(tmp_path)
    store = Store(tmp_path / "mlflow.db")
    assert set(store.statuses().values()) == {("RUNNING", "RUNNING")}, "or there is nothing to put right"
    study.sweep("status")
    expected = {"0": ("SCHEDULED", "PAUSED"), "1": ("SCHEDULED", "PAUSED"), "study": ("KILLED", "INTERRUPTED")}
    # `status` only sets it going: it must not make anybody wait for a tracker.
    until(lambda: store.statuses() == expected, 20, f"MLflow says {expected}")
    assert study.run().state == "COMPLETE"
    assert set(store.statuses().values()) == {("FINISHED", "COMPLETE")}
    assert store.doubles() == []
    assert [step for step, _, _ in store.metric(store.run(0), "accuracy")] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore")
def test_pain_26_a_run_finished_by_hand_is_put_right_and_sync_does_not_pause_what_a_driver_runs(
    tmp_path: Path,
) -> None:
    from mlflow import MlflowClient

    study = ToyStudy(tmp_path, [{"reports": 2}, {"reports": 2, "then": "fail"}])
    study.run()
    store = Store(tmp_path / "mlflow.db")
    truth = {"0": ("FINISHED", "COMPLETE"), "1": ("FAILED", "FAILED"), "study": ("FINISHED", "COMPLETE")}
    assert store.statuses() == truth
    ended = store.info(store.run(1))["end"]
    client = MlflowClient(tracking_uri=study.uri)
    client.set_terminated(store.run(1), "FINISHED")
    client.set_tag(store.run(1), "sweep.state", "COMPLETE")
    client.update_run(store.run(0), status="RUNNING")
    client.update_run(store.parent(), status="RUNNING")
    study.sweep("sync")
    assert store.statuses() == truth
    assert store.info(store.run(1))["end"] == ended

    with driver_lock(study.layout.lock, study="toy", now=BEGAN), Spool.open(study.layout.spool) as spool:
        late = Superseded(trial_number=0, attempt=1, step=2, metrics={"accuracy": 0.25}, at=BEGAN)
        spool.append([attempt(2), late])
        study.sweep("sync")
        assert store.statuses()["2"] == ("RUNNING", "RUNNING"), "its driver lives"
    assert store.tags(store.run(0))["sweep.superseded.1"] == "step 2: accuracy 0.25"
    assert store.statuses()["0"] == ("FINISHED", "COMPLETE"), "a late word changes nothing"
    study.sweep("sync")
    assert store.statuses()["2"] == ("SCHEDULED", "PAUSED")
