"""MLflow is down, deaf or dies; training never notices, and nothing is lost."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import RecordingError
from sweep.layout import StudyLayout
from sweep.tracking import SpoolRecorder, drain, undelivered
from sweep.tracking.lock import try_lock
from tests.mlflow_server import MlflowServer, black_hole, free_port, until
from tests.recording import Store, begun, kept, report, study_over, whole_trial

REPORTS = 150


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MlflowServer]:
    """A server of this test's own, not started yet."""
    server = MlflowServer(tmp_path)
    yield server
    server.kill()


def test_pain_03_a_server_that_comes_late_and_dies_on_the_way_gets_the_history_whole_and_once(
    mortal: MlflowServer, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path / "storage", "demo")
    recorder = SpoolRecorder(layout, mortal.uri)
    recorder.record_all([begun(), *whole_trial(0)])
    mortal.start()
    until(lambda: undelivered(layout) == 0, 60, "the records of before the server came")
    for number in range(1, 4):
        recorder.record_all([*whole_trial(number)])
    mortal.kill()
    recorder.record_all([*whole_trial(4), kept(layout, 4)])
    assert undelivered(layout) > 0
    mortal.start()
    recorder.record(study_over([4, 3, 2, 1, 0], COMPLETE=5))
    assert recorder.close(90) == 0
    store = Store(mortal.database)
    assert store.experiments() == ["demo"]
    assert sorted(store.runs()) == ["0", "1", "2", "3", "4"]
    assert store.doubles() == []
    for number in range(5):
        assert len(store.metric(store.run(number), "accuracy")) == 3
        assert store.info(store.run(number))["status"] == "FINISHED"
    assert store.models() == [("trial-0004", 2)]
    assert len(list((tmp_path / "server-artifacts").rglob("learning_curves.png"))) == 5
    assert not (layout.storage / "artifacts").exists(), "a server keeps artifacts itself"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if b"c4nary" in path.read_bytes()] == [], "the server's password is a secret"


def test_pain_03_a_server_that_never_answers_delays_neither_records_nor_the_end(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    with black_hole() as (uri, listener):
        recorder = SpoolRecorder(layout, uri)
        recorder.record(begun())
        connection, _ = listener.accept()  # the writer hangs in its first request from here on
        times = []
        for number in range(10):
            for step in range(1, 21):
                began = time.perf_counter()
                recorder.record(report(number, step))
                times.append(time.perf_counter() - began)
        assert statistics.median(times) < 0.02
        with pytest.raises(RecordingError, match="delivering these records already"):
            drain(layout, uri, 1)
        began = time.monotonic()
        assert recorder.close(1.0) == 201
        assert time.monotonic() - began < 3.0
        assert recorder.close(1.0) == 201
        connection.close()
    assert undelivered(layout) == 201


def test_pain_03_records_of_a_driver_that_was_killed_arrive_and_its_writer_ends_by_itself(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    program = """
import os, signal, sys
from pathlib import Path
from sweep.layout import StudyLayout
from sweep.tracking import SpoolRecorder
from tests.recording import attempt, begun, report, whole_trial
layout = StudyLayout(Path(sys.argv[1]), "demo")
recorder = SpoolRecorder(layout, layout.tracking_uri)
recorder.record_all([begun(), *whole_trial(0), attempt(1), report(1, 10)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    driver = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert driver.returncode == -signal.SIGKILL
    until(lambda: "started" in _log(layout), 30, "the writer runs")
    until(lambda: _is_free(layout), 60, "the writer ends")
    store = Store(tmp_path / "mlflow.db")
    assert undelivered(layout) == 0
    assert store.tags(store.parent())["sweep.state"] == "INTERRUPTED"
    assert store.info(store.parent())["status"] == "KILLED"
    assert store.info(store.run(1))["status"] == "SCHEDULED", "nothing runs, so nothing may say RUNNING"
    assert store.info(store.run(0))["status"] == "FINISHED"


class _Connections:
    """Ports that this process connects to, by Python's own audit events."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.is_open = False
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_open and event == "socket.connect" and isinstance(arguments[1], tuple):
            self.ports.append(arguments[1][1])


def _seconds_to_record(layout: StudyLayout, uri: str) -> tuple[float, SpoolRecorder]:
    """Median of what a report costs the driver."""
    recorder = SpoolRecorder(layout, uri)
    recorder.record(begun())
    times = []
    for step in range(1, REPORTS + 1):
        began = time.perf_counter()
        recorder.record(report(0, step))
        times.append(time.perf_counter() - began)
    return statistics.median(times), recorder


def test_pain_03_a_report_costs_the_driver_the_same_whatever_ails_the_server_and_the_driver_never_calls_it(
    server: MlflowServer, tmp_path: Path
) -> None:
    connections = _Connections()
    connections.is_open = True
    with black_hole() as (hole, _):
        dead = f"http://127.0.0.1:{free_port()}"
        uris = {"healthy": server.uri, "deaf": hole, "dead": dead}
        measured = {
            name: _seconds_to_record(StudyLayout(tmp_path / name, "pain-03"), uri) for name, uri in uris.items()
        }
        connections.is_open = False
        for name, (_, recorder) in measured.items():
            recorder.close(60 if name == "healthy" else 0.5)
    assert connections.ports == [], "the driver itself talked to a tracker"
    seconds = {name: median for name, (median, _) in measured.items()}
    # A request takes ten milliseconds at the very least, a record an fsync; the bound is for busy machines.
    assert seconds["deaf"] < 5 * seconds["healthy"] + 0.01, seconds
    assert seconds["dead"] < 5 * seconds["healthy"] + 0.01, seconds
    for name in ("deaf", "dead"):
        layout = StudyLayout(tmp_path / name, "pain-03")
        assert undelivered(layout) == REPORTS + 1
    assert undelivered(StudyLayout(tmp_path / "healthy", "pain-03")) == 0
    # The tracker that never came is replaced: the history goes there, whole.
    assert drain(StudyLayout(tmp_path / "dead", "pain-03"), server.uri, 60) == 0
    assert len(Store(server.database, "pain-03").rows("SELECT run_uuid FROM runs")) >= 4


def _log(layout: StudyLayout) -> str:
    path = layout.logs / "tracking.log"
    return path.read_text() if path.exists() else ""


def _is_free(layout: StudyLayout) -> bool:
    lock = try_lock(layout.spool)
    if lock is None:
        return False
    lock.close()
    return True
