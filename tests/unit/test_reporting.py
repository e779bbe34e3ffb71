"""The report at the end of a session: written or not, the study ends, and nothing half written is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sweep.clock import SystemClock
from sweep.errors import SweepError
from sweep.ports import StudyFiles
from sweep.reporting import report_at_the_end, report_folder, write_report
from sweep.spec.model import StudySpec
from sweep.testing.doubles import MemoryRecorder
from tests.written_history import spec_in, write_study


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    spec = spec_in(tmp_path, "budget.trials=3")
    write_study(spec, 3)
    return spec


def ended(spec: StudySpec, *, wishes: Sequence[bool] = ()) -> tuple[list[str], list[object]]:
    notes: list[str] = []
    recorder, left = MemoryRecorder(), list(wishes)
    report_at_the_end(spec, recorder, SystemClock(), notes.append, lambda: left.pop(0) if left else False)
    return notes, list(recorder.records)


def test_the_report_of_a_session_is_recorded_and_what_a_killed_one_left_is_removed(spec: StudySpec) -> None:
    folder = report_folder(spec.layout)
    (folder / ".pictures-1").mkdir(parents=True)
    (folder / ".pictures-1" / "01-progress.png").write_text("half")
    (folder / ".report.html-1").write_text("half")
    notes, records = ended(spec)
    assert notes == ["writing the report"]
    assert [type(record) for record in records] == [StudyFiles]
    assert (folder / "report.html").is_file()
    assert list(folder.glob(".*")) == []


def test_a_report_that_is_given_up_is_told_and_not_recorded(spec: StudySpec) -> None:
    notes, records = ended(spec, wishes=[False, True])
    assert records == []
    assert "no report" in notes[-1]
    assert f"sweep report {spec.study}" in notes[-1]
    assert list(report_folder(spec.layout).glob("*")) == []
    assert ended(spec, wishes=[True]) == ([], [])


def test_a_report_that_takes_too_long_is_ended(spec: StudySpec, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"was not ready in 0 s\. Try again"):
        write_report(spec, tmp_path / "report.html", timeout_seconds=0)


def test_what_goes_wrong_in_drawing_is_one_line(spec: StudySpec) -> None:
    (spec.layout.history / "journal.log").unlink()
    notes, records = ended(spec)
    assert records == []
    assert "there is no study 'written'" in notes[-1]
    assert "\n" not in notes[-1]
