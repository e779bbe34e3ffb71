"""MLflow is down, deaf or dies; training never notices, and nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweep.errors import RecordingError
from sweep.layout import StudyLayout
from sweep.tracking import SpoolRecorder, drain, undelivered
from sweep.tracking.lock import try_lock
from sweep.tracking.store import cache_folder, prepare_sqlite
from tests.recording import Store, begun, kept, report, study_over, whole_trial


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


class _Server:
    """A real ``mlflow server``."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.uri = f"http://ann:c4nary@127.0.0.1:{self.port}"
        self.database = folder / "server.db"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.database}", "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "server-artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
            )
        _until(self._answers, 120, "the server answers")

    def kill(self) -> None:
        if self._process is not None:
            # Its workers are in the same session.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    server = _Server(tmp_path)
    prepare_sqlite(server.database, cache_folder())
    yield server
    server.kill()


@contextmanager
def _black_hole() -> Iterator[tuple[str, socket.socket]]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.settimeout(60)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", listener


def test_a_server_that_comes_late_and_dies_on_the_way_gets_every_record_once(server: _Server, tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path / "storage", "demo")
    recorder = SpoolRecorder(layout, server.uri)
    recorder.record_all([begun(), *whole_trial(0)])
    server.start()
    _until(lambda: undelivered(layout) == 0, 60, "the records of before the server came")
    for number in range(1, 4):
        recorder.record_all([*whole_trial(number)])
    server.kill()
    recorder.record_all([*whole_trial(4), kept(layout, 4)])
    assert undelivered(layout) > 0
    server.start()
    recorder.record(study_over([4, 3, 2, 1, 0], COMPLETE=5))
    assert recorder.close(90) == 0
    store = Store(server.database)
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


def test_a_server_that_never_answers_delays_neither_records_nor_the_end(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    with _black_hole() as (uri, listener):
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


def test_records_of_a_driver_that_was_killed_arrive_and_its_writer_ends_by_itself(tmp_path: Path) -> None:
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
    _until(lambda: "started" in _log(layout), 30, "the writer runs")
    _until(lambda: _is_free(layout), 60, "the writer ends")
    store = Store(tmp_path / "mlflow.db")
    assert undelivered(layout) == 0
    assert store.tags(store.parent())["sweep.state"] == "INTERRUPTED"
    assert store.info(store.parent())["status"] == "KILLED"
    assert store.info(store.run(1))["status"] == "SCHEDULED", "nothing runs, so nothing may say RUNNING"
    assert store.info(store.run(0))["status"] == "FINISHED"


def _log(layout: StudyLayout) -> str:
    path = layout.logs / "tracking.log"
    return path.read_text() if path.exists() else ""


def _is_free(layout: StudyLayout) -> bool:
    lock = try_lock(layout.spool)
    if lock is None:
        return False
    lock.close()
    return True
