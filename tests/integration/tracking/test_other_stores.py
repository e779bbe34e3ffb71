"""A store that belongs to the user and not to the storage."""

from __future__ import annotations

from pathlib import Path

from sweep.layout import StudyLayout
from sweep.tracking import SpoolRecorder
from tests.recording import Store, begun, study_over, whole_trial


def _record_into(layout: StudyLayout, tracking_uri: str) -> None:
    recorder = SpoolRecorder(layout, tracking_uri)
    recorder.record_all([begun(), *whole_trial(0), study_over([0])])
    assert recorder.close(60) == 0


def _default_experiment(path: Path) -> list[tuple[str]]:
    return Store(path).rows("SELECT lifecycle_stage FROM experiments WHERE name = 'Default'")


def test_only_the_storages_own_store_loses_the_experiment_that_mlflow_adds(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path / "storage", "demo")
    theirs = tmp_path / "theirs" / "mlflow.db"
    _record_into(layout, f"sqlite:///{theirs}")
    assert Store(theirs).experiments() == ["demo"]
    assert _default_experiment(theirs) == [("active",)]
    _record_into(StudyLayout(tmp_path / "storage", "other"), layout.tracking_uri)
    assert _default_experiment(tmp_path / "storage" / "mlflow.db") == [("deleted",)]
