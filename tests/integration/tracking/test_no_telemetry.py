"""No process of ours that uses MLflow calls anybody but the machine it runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from sweep.layout import StudyLayout
from sweep.spec import parse_spec, spec_text
from sweep.tracking import SpoolRecorder
from tests.mlflow_server import free_port, until
from tests.recording import begun, study_over, whole_trial
from tests.toy_study import SPEC

BETRAYER = "PYTEST_CURRENT_TEST"
"""MLflow sends nothing where it sees this, which pytest sets anew when a test begins."""

EAR = """
import os, sys

def heard(event, arguments):
    if event == "socket.getaddrinfo":
        told = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        told = arguments[1][0]
    else:
        return
    with open(os.environ["EAR"], "a") as file:
        file.write(f"{told}\\n")

with open(os.environ["EAR"], "a") as file:
    file.write("listening\\n")
sys.addaudithook(heard)
"""


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names and addresses that any child process looks up or connects to; MLflow sees no test and no CI."""
    (tmp_path / "ear").mkdir()
    (tmp_path / "ear" / "sitecustomize.py").write_text(EAR)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'ear'}{os.pathsep}{Path(__file__).parents[3]}")
    monkeypatch.setenv("EAR", str(tmp_path / "heard"))
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "heard"


def _others(heard: Path) -> set[str]:
    lines = set(heard.read_text().splitlines())
    assert "listening" in lines
    return lines - {"listening", "127.0.0.1", "localhost", "None", "::1"}


def test_the_writer_calls_nobody(heard: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(BETRAYER)
    layout = StudyLayout(tmp_path / "storage", "demo")
    recorder = SpoolRecorder(layout, layout.tracking_uri)
    recorder.record_all([begun(), *whole_trial(0), study_over([0])])
    assert recorder.close(60) == 0
    assert _others(heard) == set()


def test_the_page_of_a_study_calls_nobody(heard: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(BETRAYER)
    storage = tmp_path / "storage"
    storage.mkdir()
    spec = parse_spec(SPEC, place="study.yaml", folder=storage, overrides=["budget.trials=1"])
    spec.layout.folder.mkdir(parents=True)
    spec.layout.spec.write_text(spec_text(spec.resolved()))
    port = free_port()
    command = [sys.executable, "-m", "sweep.cli.main", "ui", "toy", "--storage", str(storage), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as page:
        try:
            assert page.stdout is not None
            until(lambda: "Ctrl-C" in page.stdout.readline(), 120, "the page is up")
            # What the page in a browser asks first.
            address = f"http://127.0.0.1:{port}/ajax-api/3.0/mlflow/ui-telemetry"
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert json.load(answer)["disable_ui_telemetry"] is True
        finally:
            # Not by SIGINT: a shell that runs tests in the background has it ignored.
            for process in [*psutil.Process(page.pid).children(recursive=True), page]:
                process.kill()
    assert _others(heard) == set()
