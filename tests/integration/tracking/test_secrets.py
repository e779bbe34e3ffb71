"""A password is nowhere to be read: a canary, searched in every byte that a session leaves behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sweep.domain import TrialState
from sweep.errors import ModelError
from sweep.layout import StudyLayout
from sweep.ports import AttemptOver
from sweep.tracking import SpoolRecorder, resolve_model
from tests.recording import BEGAN, attempt, begun, over, report, study_over, whole_trial

CANARY = "c4n/ry"
HISTORIES = [
    f"postgresql://ann:{CANARY}@db/optuna",
    f"postgresql:///optuna?user=ann&password={CANARY}",
    f"postgresql://ann:x@{CANARY}@db/optuna",
]


def _leaks(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 2, "a session must have left something to search"
    return [str(path) for path in files if CANARY.encode() in path.read_bytes()]


def _record(recorder: SpoolRecorder) -> None:
    recorder.record(begun(histories=HISTORIES, history=HISTORIES[0], tracking={"uri": HISTORIES[1]}))
    recorder.record_all([*whole_trial(0), attempt(1), report(1, 10)])
    told = f"OperationalError: {HISTORIES[0]} refused"
    recorder.record(AttemptOver(trial_number=1, attempt=1, state=TrialState.PAUSED, reason=told, at=BEGAN + 150))
    recorder.record(over(1, TrialState.FAILED, error=told))
    # MLflow refuses another value of a parameter: the record is set aside, with the reason.
    recorder.record(attempt(0, 2, learning_rate=0.5))
    recorder.record(study_over([0]))


def test_a_password_in_the_spec_or_in_an_error_is_in_no_file_of_the_session(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    recorder = SpoolRecorder(layout, layout.tracking_uri)
    _record(recorder)
    assert recorder.close(60) == 0
    assert (layout.spool / "rejected.jsonl").exists()
    assert _leaks(tmp_path) == []


def test_a_password_in_the_tracking_uri_is_on_no_command_line_and_in_no_log(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    recorder = SpoolRecorder(layout, "http://ann:c4n%2Fry@127.0.0.1:9")
    process = Path("/proc") / str(recorder.writer_pid)
    for name in ("cmdline", "environ"):
        assert b"c4n" not in (process / name).read_bytes()
    _record(recorder)
    log = layout.logs / "tracking.log"
    end = time.monotonic() + 30
    while "not delivered" not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < end, "the writer must have told of a failure"
        time.sleep(0.1)
    recorder.close(1)
    assert "127.0.0.1" in log.read_text()
    assert _leaks(tmp_path) == []
    assert "c4n" not in log.read_text()


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_cannot_be_had_is_told_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ModelError, match=r"cannot be had from http://\*\*\*@127.0.0.1:9") as caught:
        resolve_model("models:/intents@champion", "http://ann:c4n%2Fry@127.0.0.1:9")
    assert "c4n" not in str(caught.value)
